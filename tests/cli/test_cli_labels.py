"""predict labels= and fdr=: what a threshold costs, and many images judged at once."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomaly_gan.inference import Detector
from anomaly_gan.reporting import explanations


@pytest.fixture
def new(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "new"
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(9)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16), dtype=np.uint8)).save(path)
    return paths


def labels(tmp_path: Path, *lines: str) -> str:
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return "labels=labels.csv"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_labels_of_some_images_give_a_table_and_a_picture(
    command, trained: Path, new, tmp_path: Path
) -> None:
    written = [
        "image,label,who",
        "new/0.png,good,me",
        "new/1.png,0.0,me",
        f"{new[2]},crack,me",
        "new/3.png,1,me",
    ]
    given = labels(tmp_path, *written, "elsewhere.png,good,me")
    outcome = command("predict", f"checkpoint={trained}", "inputs=new", given)
    assert outcome.code == 0, outcome.err
    assert "2 normal and 2 anomalous images with labels" in outcome.out
    rows = rows_of(tmp_path / "predictions_thresholds" / "thresholds.csv")
    assert [float(row["promised_rate"]) for row in rows] == [0.2, 0.5]  # of four held-out images
    scores = Detector.load(trained).score(new)
    for row in rows:
        above = scores > float(row["threshold"]) * (1 + 1e-9 * np.sign(float(row["threshold"])))
        assert (int(row["false_alarms"]), int(row["false_alarms_of"])) == (above[:2].sum(), 2)
        assert (int(row["found"]), int(row["found_of"])) == (above[2:4].sum(), 2)
        assert row["promised_rate"] in outcome.out or f"{float(row['promised_rate']):.3%}" in outcome.out
    assert (tmp_path / "predictions_thresholds" / "thresholds.png").exists()
    again = command("predict", f"checkpoint={trained}", "inputs=.")
    assert again.out.count("images scored") == 1
    assert "9 images scored" in again.out  # the picture that was drawn is none of them


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["file,label", "new/0.png,good"], "columns image and label"),
        (["image,label", "nowhere.png,good"], "none of the 1 images"),
        (["image,label", "new/0.png,"], "line 2 has no label"),
        (["image,label", "new/0.png,good", "new/0.png,bad"], "line 3 gives new/0.png another label"),
        (["image,label", "labels.csv,bad"], "none of the images that were scored"),
    ],
)
def test_labels_that_cannot_be_used_are_said_in_one_line(
    command, trained: Path, new, tmp_path: Path, lines: list[str], why: str
) -> None:
    outcome = command("predict", f"checkpoint={trained}", "inputs=new", labels(tmp_path, *lines))
    assert outcome.code == 2
    assert why in outcome.err.splitlines()[-1]


def test_fdr_decides_by_adjusted_p_values(command, trained: Path, new, tmp_path: Path) -> None:
    outcome = command("predict", f"checkpoint={trained}", "inputs=new", "fdr=0.9")
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "predictions.csv")
    assert len(rows) == 9
    for row in rows:
        assert (row["decision"] == "anomalous") == (float(row["adjusted_p_value"]) <= 0.9)
    called = sum(row["decision"] == "anomalous" for row in rows)
    assert f"\n{called} called anomalous" in outcome.out
    few = command("predict", f"checkpoint={trained}", "inputs=new", "fdr=0.1")
    assert "0 called anomalous: fdr=0.1 takes 9 held-out images at least; there are 4" in few.out
    assert "adjusted_p_value" not in Path("predictions.csv").read_text() or few.code == 0
    both = command(
        "predict", f"checkpoint={trained}", "inputs=new", "fdr=0.1", "threshold.false_positive_rate=0.2"
    )
    assert both.code == 2
    assert "two ways to decide" in both.err
    command("predict", f"checkpoint={trained}", "inputs=new")
    assert "adjusted_p_value" not in Path("predictions.csv").read_text()


def test_a_run_with_a_test_part_has_the_table_and_the_picture(trained: Path) -> None:
    rows = rows_of(trained / "thresholds.csv")
    scores = rows_of(trained / "scores.csv")
    for row in rows:
        called = [float(image["p_value"]) <= float(row["promised_rate"]) for image in scores]
        normal = [image["anomalous"] == "0" for image in scores]
        assert int(row["false_alarms"]) == sum(a and b for a, b in zip(called, normal, strict=True))
        assert int(row["found"]) == sum(a and not b for a, b in zip(called, normal, strict=True))
    assert (trained / "figures" / "thresholds.png").exists()
    assert "thresholds" in (trained / "report.html").read_text()


def test_an_explanation_says_what_was_decided_together(
    command, trained: Path, new, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    drawn = explanations.page
    monkeypatch.setattr(explanations, "page", lambda why: shown.append(why) or drawn(why))
    for fdr in (0.9, 0.1):
        shown.clear()
        outcome = command("predict", f"checkpoint={trained}", "inputs=new", f"fdr={fdr}", "explain=1")
        assert outcome.code == 0, outcome.err
        best = max(rows_of(Path("predictions.csv")), key=lambda row: float(row["score"]))
        assert [why.anomalous for why in shown] == [best["decision"] == "anomalous"]
        assert all(why.threshold is None for why in shown)
