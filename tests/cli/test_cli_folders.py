"""A person's own folder, as a person has it: what is made of it from the first command on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_gan import Detector, checkpoint

TINY = ("debug=fast", "data=folder", "name=mine", "schedule.total_images=16")


def paint(path: Path, seed: int = 0, dtype: type = np.uint8, highest: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, highest + 1, (24, 24)).astype(dtype)
    Image.fromarray(pixels).save(path)


def only_run(folder: str = "runs/mine") -> Path:
    (run,) = Path(folder).iterdir()
    return run


def test_twelve_images_are_enough_and_the_batch_is_chosen(command, tmp_path: Path) -> None:
    for i in range(12):
        paint(tmp_path / "parts" / f"{i}.png", i)
    outcome = command("train", *TINY, "data.root=parts", "batch_size=32")
    assert outcome.code == 0, outcome.err
    assert "batch_size=11: by rule, all images that are trained on" in outcome.out
    assert "by rule; data.channels" in outcome.out
    result = json.loads((only_run() / "result.json").read_text())
    assert result["config"]["data"]["batch_size"] == result["counts"]["train"] == 11
    assert "batch_size=11: by rule, there are no more training images" in result["notes"]


def test_what_a_run_drew_is_neither_learned_from_nor_scored_later(command, tmp_path: Path) -> None:
    for i in range(12):
        paint(tmp_path / f"{i}.png", i)
    first = command("train", *TINY, "data.root=.")
    assert first.code == 0, first.err
    run = only_run()
    drawn = len(list(run.rglob("*.png")))
    assert drawn > 0
    second = command("train", *TINY, "data.root=.", "name=again")
    assert second.code == 0, second.err
    assert "12 normal training images" in second.out
    assert f"left out: {drawn} pictures that anomaly-gan drew itself, in {run}/figures" in second.out
    predicted = command("predict", f"checkpoint={run}", "inputs=.", "explain=1")
    assert predicted.code == 0, predicted.err
    assert "12 images scored" in predicted.out
    assert "pictures that anomaly-gan drew itself" in predicted.out
    once_more = command("predict", f"checkpoint={run}", "inputs=.")  # beside predictions_explained
    assert "12 images scored" in once_more.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "data=folder", "data.root="),
        ("train", "data=folder", "data.root=x", "paths.runs="),
        ("predict", "checkpoint=x", "inputs="),
        ("predict", "checkpoint=x", "inputs=['']"),
        ("predict", "checkpoint=", "inputs=x.png"),
        ("export", "checkpoint=", "format=torch", "output=x.pt2"),
        ("evaluate", "checkpoint="),
        ("report", ""),
        ("compare", "", "a"),
    ],
)
def test_a_path_left_empty_is_not_the_current_folder(
    command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    paint(tmp_path / "0.png")
    outcome = command(*arguments)
    assert outcome.code == 2
    assert "empty" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"0.png"}


def test_pictures_of_a_twelve_bit_camera_are_read_by_their_own_white_from_training_to_prediction(
    command, tmp_path: Path
) -> None:
    for i in range(12):
        paint(tmp_path / "parts" / f"{i}.png", i, np.uint16, 4095)
    dark = command("train", *TINY, "data.root=parts", "name=dark")
    assert "nearly black" in dark.out
    assert "data.bits=12 makes 4095 white" in dark.out
    outcome = command("train", *TINY, "data.root=parts", "data.bits=12")
    assert outcome.code == 0, outcome.err
    detector = Detector.load(only_run())
    assert checkpoint.read(only_run()).data["bits"] == detector.form["bits"] == 12
    with Image.open(tmp_path / "parts" / "0.png") as image:
        eight = np.round(np.asarray(image) / (4095 / 255)).astype(np.uint8)
    assert detector.score(eight) == detector.score(tmp_path / "parts" / "0.png")


def test_where_the_layout_does_not_say_what_is_normal_a_training_asks(command, tmp_path: Path) -> None:
    for i in range(24):
        paint(tmp_path / "parts" / ("cam1", "cam2", "NG")[i % 3] / f"{i}.png", i)
    refused = command("train", *TINY, "data.root=parts")
    assert refused.code == 2
    assert "cam1 (8), cam2 (8)" in refused.err
    assert not Path("runs").exists()
    outcome = command("train", *TINY, "data.root=parts", "normal_class=good")
    assert outcome.code == 0, outcome.err
    assert "learned from: cam1 (8), cam2 (8)" in outcome.out
    assert "tested on, anomalous: NG (8)" in outcome.out
    result = json.loads((only_run() / "result.json").read_text())
    assert result["auroc_absent_because"] == "the test set has no normal images"
    assert result["calibration"]["found"]["tested"] == 8
