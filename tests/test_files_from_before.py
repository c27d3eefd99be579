"""Files that an earlier version wrote (tests/recorded/before: 54afe1b, on digits) are read."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from anomaly_gan import Detector
from anomaly_gan.cli.main import main
from anomaly_gan.data.digits import Digits
from anomaly_gan.results import RunResult

BEFORE = Path(__file__).parent / "recorded" / "before"


def test_a_detector_from_before_gives_the_scores_that_it_gave() -> None:
    detector = Detector.load(BEFORE)
    result = RunResult.read(BEFORE)
    assert detector.primary == result.primary == "csi_ens"
    assert detector.threshold.value == result.calibration["threshold"]
    data = Digits(normal_class=0, batch_size=8, total_images=32, limit=40)
    data.setup()
    with (BEFORE / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = data.test[range(len(data.test))].images
    for row, found in zip(rows, detector.examine(pictures), strict=True):
        for name, score in found.scores.items():
            assert score == pytest.approx(float(row[name]), rel=1e-3, abs=1e-3), name
        assert (row["decision"] == "anomalous") == found.anomalous or np.isclose(
            found.score, detector.threshold.value, atol=1e-3
        )


def test_a_result_from_before_stands_in_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(BEFORE, tmp_path / "runs" / "old")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["anomaly-gan", "report", "runs"])
    with pytest.raises(SystemExit, match="0"):
        main()
    table = (tmp_path / "runs" / "report.md").read_text()
    assert "csi" in table
    assert f"{100 * RunResult.read(BEFORE).auroc['csi_ens']:.1f}" in table
