"""anomaly-gan export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomaly_gan import checkpoint
from anomaly_gan.export import file
from anomaly_gan.export.formats import FORMATS


def test_without_held_out_images_a_file_gives_scores_alone(command, trained: Path) -> None:
    whole = checkpoint.read(trained)
    checkpoint.save(Path("bare.ckpt"), whole.build(), whole.config, whole.data, None, whole.normal)
    done = command("export", "checkpoint=bare.ckpt", "format=torch", "output=bare.pt2")
    assert done.code == 0, done.err
    assert "scores alone" in done.out
    assert sorted(path.name for path in Path().iterdir()) == ["bare.ckpt", "bare.pt2"]
    run, about = FORMATS["torch"].open(Path("bare.pt2"))
    assert list(run(np.zeros((3, 1, 16, 16), dtype=np.uint8))) == ["score"]
    assert (about["threshold"], about["false_positive_rate"], about["held_out_scores"]) == (None, None, None)


def test_every_step_is_said_as_it_begins(
    command, trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each may take minutes; on standard error, as all progress."""
    said: list[list[str]] = []

    def before(function: Callable) -> Callable:
        def called(*given: Any) -> Any:
            said.append(capfd.readouterr().err.splitlines())
            return function(*given)

        return called

    monkeypatch.setattr(file, "trace", before(file.trace))
    monkeypatch.setattr(FORMATS["torch"], "write", before(FORMATS["torch"].write))
    monkeypatch.setattr(FORMATS["torch"], "open", before(FORMATS["torch"].open))
    done = command("export", f"checkpoint={trained}", "format=torch", "output=a.pt2")
    assert done.code == 0
    assert said == [
        ["tracing what csi_ens computes"],
        ["writing it as torch"],
        ["checking the file against the detector, on 16 images"],
    ]
    assert "tracing" not in done.out


@pytest.mark.parametrize("output", ["folder.pt2", f"{'x' * 252}.pt2"])
def test_an_output_that_cannot_be_made_is_refused_before_anything_is_traced(
    command, trained: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    Path("folder.pt2").mkdir()
    monkeypatch.setattr(file, "trace", lambda *_: pytest.fail("traced"))
    done = command("export", f"checkpoint={trained}", "format=torch", f"output={output}")
    assert done.code == 2
    assert output in done.err
    assert done.err.count("\n") == 1


def test_an_exported_file_may_have_the_longest_name(command, trained: Path) -> None:
    name = f"{'x' * 251}.pt2"
    done = command("export", f"checkpoint={trained}", "format=torch", f"output={name}")
    assert done.code == 0, done.err
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["format=onxx", "output=a.onnx"], ["format=onxx", "onnx"]),
        (["format=onnx", "output=a.pt2"], ["output=a.pt2", ".onnx"]),
        (["format=torch", "output=nowhere/a.pt2"], ["nowhere", "folder that exists"]),
        (["format=torch"], ["output must be given"]),
        (["format=torch", "output=a.pt2", "threshold.false_positive_rate=0.01"], ["0.01", "4 held-out"]),
        (["format=torch", "output=a.pt2", "threshold.false_positive_rate=2"], ["above 0 and below 1"]),
        (["format=torch", "output=a.pt2", "checkpoint=b.ckpt"], ["b.ckpt", "no such file"]),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(
    command, trained: Path, arguments: list[str], words: list[str]
) -> None:
    given = (
        [] if any(argument.startswith("checkpoint=") for argument in arguments) else [f"checkpoint={trained}"]
    )
    done = command("export", *given, *arguments)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    for word in words:
        assert word in done.err
    assert not list(Path().iterdir())
