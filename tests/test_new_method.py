"""docs/new_method.md: its blocks are a package, which is installed and put through what the page says."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_gan.methods.base import Method
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.results import RunResult
from anomaly_gan.scoring.raw_pixels import RawPixels
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.phases import Step
from anomaly_gan.types import ImageBatches, Images

ROOT = Path(__file__).parents[1]

PAGE = (ROOT / "docs" / "new_method.md").read_text()

FILES = dict(re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
"""What the page has as files, by their names."""

PYTHON = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""Its blocks of Python."""

TRAIN, SWEEP = (shlex.split(words) for words in re.findall(r"^anomaly-gan (train .*)$", PAGE, re.MULTILINE))

Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process that has the page's package installed, as the wheel that its pyproject.toml makes."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name, text in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    return os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def tool(environment: dict[str, str]) -> Tool:
    """Run Python in a process that has the package; it has to end well."""

    def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done

    return run


def anomaly_gan(*arguments: str) -> tuple[str, ...]:
    return ("-m", "anomaly_gan", *arguments)


@pytest.fixture(scope="module")
def run(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by the page's command, a fifth as long."""
    folder = tmp_path_factory.mktemp("run")
    short = ("schedule.total_images=6400", "callbacks.learning_curve.at_iterations=[1]")
    tool(folder, *anomaly_gan(*TRAIN, *short))
    (found,) = (folder / "runs" / "digits").iterdir()
    return found


def scores(folder: Path) -> np.ndarray:
    """The score of every test image of the only run below `folder`."""
    (file,) = folder.rglob("scores.csv")
    with file.open() as lines:
        return np.array([float(row["error"]) for row in csv.DictReader(lines)])


def test_the_page_shows_a_package_of_three_files() -> None:
    assert set(FILES) == {"cae/__init__.py", "cae/conf/method/cae.yaml", "pyproject.toml"}
    code = [line for line in FILES["cae/__init__.py"].splitlines() if line and "import" not in line]
    assert len(code) <= 32


def test_a_step_with_noise_and_a_fit_of_all_images_are_as_the_page_writes_them() -> None:
    known = {
        "torch": torch,
        "dataclass": dataclass,
        "Step": Step,
        "Images": Images,
        "ImageBatches": ImageBatches,
    }
    known |= {"Shard": Shard, "Rngs": Rngs}
    others = [block for block in PYTHON if block not in FILES.values()]
    for block in others:
        exec(block, known)
    assert {"make_step", "fit"} <= known.keys()
    images, shard = torch.rand(6, 1, 16, 16), Shard(6)
    method = Method(name="page", scorer=RawPixels(image_size=16, channels=1))
    step = known["make_step"](method, images, shard, lambda purpose: RowRng(make_rng("cpu", purpose), shard))
    assert torch.equal(step.images, images)
    assert (step.noisy - images).std().item() == pytest.approx(0.1, rel=0.1)
    known["fit"](method.scorer, images.split(4))
    assert torch.equal(method.scorer.rows, images.flatten(1))


def test_it_learns(run: Path) -> None:
    result = RunResult.read(run)
    (start,) = [point["auroc"]["error"] for point in result.curve if point["iteration"] == 1]
    assert result.method == "cae"
    assert result.auroc["error"] > start + 0.25  # 0.51 after one step and 0.89 at the end, measured
    assert result.calibration is not None


@pytest.mark.slow
def test_its_detector_is_loaded_in_python(run: Path, tool: Tool) -> None:
    digit = next((run / "figures").glob("*.png"))
    program = "import sys; from anomaly_gan import Detector; print(*Detector.load('.').score(sys.argv[1]))"
    assert float(tool(run, "-c", program, str(digit)).stdout) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [("torch", "cae.pt2"), ("onnx", "cae.onnx")])
def test_its_detector_is_exported(run: Path, tool: Tool, tmp_path: Path, kind: str, name: str) -> None:
    said = tool(tmp_path, *anomaly_gan("export", f"checkpoint={run}", f"format={kind}", f"output={name}"))
    assert "it decides: error above" in said.stdout
    assert (tmp_path / name).exists()


@pytest.mark.slow
def test_its_detector_predicts_and_explains(run: Path, tool: Tool, tmp_path: Path) -> None:
    digit = next((run / "figures").glob("*.png"))
    tool(tmp_path, *anomaly_gan("predict", f"checkpoint={run}", f"inputs={digit}", "explain=1"))
    assert len(list((tmp_path / "predictions_explained").glob("*.png"))) == 1


@pytest.mark.slow
def test_a_sweep_ends_with_its_row_beside_the_others(tool: Tool, tmp_path: Path) -> None:
    said = tool(tmp_path, *anomaly_gan(*SWEEP, "debug=fast")).stdout
    assert "3 of 3 runs finished" in said
    report = (tmp_path / "runs" / "digits" / "report.md").read_text()
    for method in ("raw_pixels", "csi", "cae"):
        assert f"\n| {method} | " in report.replace("\\_", "_"), report


@pytest.mark.slow
def test_a_run_that_is_ended_goes_on_and_ends_as_one_that_was_not(
    tool: Tool, environment: dict[str, str], tmp_path: Path
) -> None:
    long = ("schedule.total_images=6400", "callbacks.checkpoint.every_minutes=0", "resume=auto")
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    for folder in (whole, ended):
        folder.mkdir()
    tool(whole, *anomaly_gan(*TRAIN, *long))
    command = [sys.executable, *anomaly_gan(*TRAIN, *long)]
    first = subprocess.Popen(command, cwd=ended, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(ended.rglob("last.ckpt")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    told = first.communicate()[1]
    assert "the same command goes on from where it was" in told
    assert not list(ended.rglob("result.json"))
    tool(ended, *anomaly_gan(*TRAIN, *long))
    assert np.array_equal(scores(ended), scores(whole))


@pytest.mark.slow
def test_two_processes_find_what_one_finds(run: Path, tool: Tool, tmp_path: Path) -> None:
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "schedule.total_images=6400")
    tool(tmp_path, *anomaly_gan(*TRAIN, *two))
    np.testing.assert_allclose(scores(tmp_path), scores(run), rtol=0.01)


@pytest.mark.slow
def test_it_is_searched_and_timed(tool: Tool, tmp_path: Path) -> None:
    searched = ("search", "method=cae", "scoring.width=4,8", "debug=fast", "data.limit=80", "--trials", "2")
    assert "best of 2 trials" in tool(tmp_path, *anomaly_gan(*searched)).stdout
    said = tool(tmp_path, *anomaly_gan(*TRAIN, "budget=1min")).stdout
    assert "by timing, for 1 minutes in all" in said
