"""anomaly-gan export."""

from pathlib import Path

import numpy as np
import pytest

from anomaly_gan import checkpoint
from anomaly_gan.export.formats import FORMATS


def test_without_held_out_images_a_file_gives_scores_alone(command, trained: Path) -> None:
    file = checkpoint.read(trained)
    checkpoint.save(Path("bare.ckpt"), file.build(), file.config, file.data, None, file.normal)
    done = command("export", "checkpoint=bare.ckpt", "format=torch", "output=bare.pt2")
    assert (done.code, done.err) == (0, "")
    assert "scores alone" in done.out
    assert sorted(path.name for path in Path().iterdir()) == ["bare.ckpt", "bare.pt2"]
    run, about = FORMATS["torch"].open(Path("bare.pt2"))
    assert list(run(np.zeros((3, 1, 16, 16), dtype=np.uint8))) == ["score"]
    assert (about["threshold"], about["false_positive_rate"], about["held_out_scores"]) == (None, None, None)


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
