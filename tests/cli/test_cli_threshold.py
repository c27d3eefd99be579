"""Thresholds from the held-out images, from training to prediction."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan import UserError, checkpoint
from anomaly_gan.inference import Detector
from anomaly_gan.scoring.calibration import p_values


@pytest.fixture(scope="module")
def result(trained: Path) -> dict:
    return json.loads((trained / "result.json").read_text())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 255, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_detector_file_keeps_every_score_of_the_held_out_images(trained: Path, result: dict) -> None:
    calibration = checkpoint.read(trained).calibration
    assert calibration is not None
    assert calibration.count == result["counts"]["calibration"] == 4
    assert set(calibration.scores) == set(result["auroc"]) | set(result["auroc_parts"])
    for scores in calibration.scores.values():
        assert (np.sort(scores) == scores).all()


def test_too_few_held_out_images_give_the_smallest_rate_there_is_and_a_note(result: dict) -> None:
    found = result["calibration"]
    assert (found["held_out"], found["score"]) == (4, result["primary"])
    assert (found["false_positive_rate_asked"], found["false_positive_rate"]) == (0.01, 0.2)
    (note,) = (note for note in result["notes"] if "held-out" in note)
    assert "4 held-out images promise a false positive rate of 0.2 at best" in note
    assert "0.01 takes 99 of them" in note


def test_scores_p_values_and_decisions_of_a_run_belong_together(trained: Path, result: dict) -> None:
    rows = rows_of(trained / "scores.csv")
    found = result["calibration"]
    held_out = checkpoint.read(trained).calibration.scores[result["primary"]]
    scores = np.array([float(row[result["primary"]]) for row in rows])
    above = scores > found["threshold"]
    assert [row["decision"] == "anomalous" for row in rows] == above.tolist()
    assert [float(row["p_value"]) for row in rows] == p_values(scores, held_out).tolist()
    anomalous = np.array([row["anomalous"] == "1" for row in rows])
    assert found["false_alarms"]["rate"] == pytest.approx(above[~anomalous].mean())
    assert found["false_alarms"]["tested"] == (~anomalous).sum()
    assert found["found"] == {"tested": anomalous.sum(), "rate": pytest.approx(above[anomalous].mean())}
    low, high = found["false_alarms"]["expected_interval"]
    assert 0 <= low < high <= 1


def test_without_held_out_images_there_is_no_threshold_and_that_is_said(command, images: Path) -> None:
    outcome = command("train", "debug=fast", "data.calibration_fraction=0", "name=mine")
    assert outcome.code == 0, outcome.err
    assert "threshold: none, no normal images were held out" in outcome.out
    (run,) = Path("runs/mine").iterdir()
    assert json.loads((run / "result.json").read_text())["calibration"] is None
    assert {(row["p_value"], row["decision"]) for row in rows_of(run / "scores.csv")} == {("", "")}
    outcome = command("predict", f"checkpoint={run}", "inputs=images")
    assert outcome.code == 0, outcome.err
    assert "no decisions: the detector has no calibration" in outcome.out
    page = Path("predictions.html").read_text()
    assert "No good pictures were held out at the training" in page
    assert "looks defective" not in page
    (line, *_) = (json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines())
    assert (line["p_value"], line["decision"]) == (None, None)
    assert line["score"] is not None
    outcome = command("predict", f"checkpoint={run}", "inputs=images", "threshold.false_positive_rate=0.5")
    assert outcome.code == 2
    assert "no calibration" in outcome.err
    with pytest.raises(UserError, match="no calibration"):
        Detector.load(run).predict(images / "00.png")


def test_prediction_says_p_value_and_decision_everywhere(command, trained: Path, images: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    rate = 0.4
    outcome = command(
        "predict", f"checkpoint={trained}", "inputs=images", f"threshold.false_positive_rate={rate}"
    )
    assert outcome.code == 3
    lines = [json.loads(line) for line in Path("predictions.jsonl").read_text().splitlines()]
    table = rows_of(Path("predictions.csv"))
    assert list(lines[0]) == list(table[0])
    held_out = checkpoint.read(trained).calibration.scores["csi_ens"]
    for line, row in zip(lines[:12], table, strict=False):
        (p_value,) = p_values(np.array([line["score"]]), held_out)
        assert line["p_value"] == float(row["p_value"]) == p_value
        assert line["decision"] == row["decision"] == ("anomalous" if p_value <= rate else "normal")
    assert lines[12]["decision"] is lines[12]["p_value"] is None
    assert table[12]["decision"] == ""
    said = outcome.out.splitlines()
    assert len(said) == 13  # the ten most anomalous, then what was done, and the page
    ranked = sorted(lines[:12], key=lambda line: -line["score"])
    for line, told in zip(ranked, said[:10], strict=False):
        assert line["file"] in told
        assert line["decision"] in told
        assert f"p = {line['p_value']:.4f}" in told
    called = sum(line["decision"] == "anomalous" for line in lines)
    assert f"{called} called anomalous" in said[-2]
    assert "40.00%" in said[-2]


def test_a_rate_that_cannot_be_promised_is_refused_with_the_remedy(command, trained: Path, images) -> None:
    for name in ("predict", "evaluate"):
        inputs = ["inputs=images"] if name == "predict" else []
        outcome = command(name, f"checkpoint={trained}", *inputs, "threshold.false_positive_rate=0.1")
        assert outcome.code == 2
        assert "4 held-out images can promise 0.2 at best" in outcome.err
        assert "9 held-out images or more (data.calibration_fraction)" in outcome.err
        assert outcome.err.count("\n") == 1
    assert not Path("predictions.csv").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize("rate", ["0", "1", "often", "-0.5"])
@pytest.mark.parametrize("name", ["train", "predict", "evaluate"])
def test_a_rate_that_is_none_is_refused(command, trained: Path, images, name: str, rate: str) -> None:
    arguments = {
        "train": ["debug=fast"],
        "predict": [f"checkpoint={trained}", "inputs=images"],
        "evaluate": [f"checkpoint={trained}"],
    }
    outcome = command(name, *arguments[name], f"threshold.false_positive_rate={rate}")
    assert outcome.code == 2
    assert f"threshold.false_positive_rate={rate}: give a number" in outcome.err
    assert outcome.err.count("\n") == 1


def test_evaluating_uses_the_thresholds_of_the_file(command, trained: Path, result: dict) -> None:
    for settings, rate in (([], 0.2), (["threshold.false_positive_rate=0.4"], 0.4)):
        outcome = command(
            "evaluate", f"checkpoint={trained}", "primary=paper", f"paths.runs={rate}", *settings
        )
        assert outcome.code == 0, outcome.err
        (run,) = Path(f"{rate}/evaluate").iterdir()
        found = json.loads((run / "result.json").read_text())["calibration"]
        expected = checkpoint.read(trained).threshold("paper_ens", rate)
        assert (found["score"], found["threshold"]) == ("paper_ens", expected.value)
        assert found["false_positive_rate"] == rate


def test_a_detector_file_from_before_still_scores(
    command, trained: Path, images: Path, tmp_path: Path
) -> None:
    content = torch.load(trained / "detector.ckpt", weights_only=True)
    del content["calibration"], content["config"]["threshold"]
    torch.save(content, tmp_path / "old.ckpt")
    assert command("predict", "checkpoint=old.ckpt", "inputs=images").code == 0
    outcome = command("evaluate", "checkpoint=old.ckpt")
    assert outcome.code == 0, outcome.err
    assert "threshold: none" in outcome.out
    new, old = (Detector.load(path).score(images / "00.png") for path in (trained, tmp_path / "old.ckpt"))
    assert new == old


@pytest.mark.parametrize(
    "calibration",
    [
        5,
        {"csi": "scores"},
        {"csi": torch.zeros(0, dtype=torch.float64)},
        {"csi": torch.zeros(3)},
        {"csi": torch.full((3,), torch.nan, dtype=torch.float64)},
        {"csi": torch.zeros(3, dtype=torch.float64), "paper": torch.zeros(4, dtype=torch.float64)},
    ],
)
def test_a_damaged_calibration_is_refused(command, trained: Path, tmp_path: Path, calibration) -> None:
    content = torch.load(trained / "detector.ckpt", weights_only=True) | {"calibration": calibration}
    torch.save(content, tmp_path / "detector.ckpt")
    outcome = command("evaluate", "checkpoint=detector.ckpt")
    assert outcome.code == 2
    assert "calibration is missing" in outcome.err


def test_a_thousand_held_out_images_keep_the_promise_of_one_percent(command) -> None:
    """A run whose rate is possible: no note, and a threshold among the held-out scores."""
    outcome = command("train", "debug=fast", "data.limit=120", "data.calibration_fraction=0.84")
    assert outcome.code == 0, outcome.err
    (run,) = Path("runs/digits").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["calibration"]["held_out"] >= 89
    assert ("held-out" in " ".join(result["notes"])) == (result["calibration"]["held_out"] < 99)
