"""What the page draws: thinned without a change that can be seen."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from toy_runs import MakeRun

from anomaly_gan.reporting.collect import collect
from anomaly_gan.reporting.columns import read_columns
from anomaly_gan.reporting.evidence import POINTS, histogram, least_normal, losses, roc, thin
from anomaly_gan.results import write_csv


@pytest.mark.parametrize("lift", [0.0, 1.0, 3.0])
def test_a_thinned_roc_curve_lies_on_the_whole_one(lift: float) -> None:
    random = np.random.default_rng(0)
    anomalous = random.random(5000) < 0.7
    scores = random.normal(size=5000) + lift * anomalous
    points = np.array(roc(scores, anomalous))
    x, y, _ = roc_curve(anomalous, scores, drop_intermediate=False)
    assert len(points) <= POINTS
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    # Along the way from corner to corner, where both are functions.
    along = np.interp(x + y, points.sum(1), points[:, 1])
    assert np.abs(along - y).max() < 0.013


def test_a_perfect_scores_corner_is_kept() -> None:
    anomalous = np.arange(2000) >= 1000
    assert [0, 1] in roc(np.arange(2000.0), anomalous)


def test_equal_scores_make_a_straight_line() -> None:
    assert roc(np.ones(10), np.arange(10) >= 5) == [[0, 0], [1, 1]]


def test_a_histogram_shares_out_each_kind() -> None:
    found = histogram(np.arange(100.0), np.arange(100) >= 30)
    assert sum(found["normal"]) == pytest.approx(1, abs=0.01)
    assert sum(found["anomalous"]) == pytest.approx(1, abs=0.01)
    assert histogram(np.ones(4), np.arange(4) > 1)["range"] == [0.5, 1.5]


def test_a_damaged_table_of_held_out_images_is_left_out(run: MakeRun, tmp_path: Path) -> None:
    folder = run("a")
    (found,) = collect([tmp_path]).runs
    assert least_normal(found) == []
    (folder / "held_out.csv").write_bytes(bytes(range(256)))
    assert least_normal(found) == []
    write_csv(folder / "held_out.csv", {"name": ["a,b"], "p_value": [1.0], "csi": [0.25], "paper": [1.0]})
    assert least_normal(found) == [["name", "p_value", "csi"], ["a,b", "1", "0.25"]]


def test_losses_come_from_the_log_by_phase_thinned(run: MakeRun, tmp_path: Path) -> None:
    folder = run("a")
    (folder / "log").mkdir()
    lines = ["step,train/feature/total,train/feature/shift,train/joint/total"]
    lines += [f"{i},{i / 2},1,{'' if i % 2 else i}" for i in range(500)]
    (folder / "log" / "metrics.csv").write_text("\n".join([*lines, "500,nan,,"]))
    found = losses(collect([tmp_path]).runs[0])
    assert list(found) == ["feature", "joint"]
    assert len(found["feature"]) <= POINTS
    assert found["feature"][0] == [0, 0]
    assert found["feature"][-1] == [499, 249.5]
    assert thin([[1.0, 2.0]]) == [[1, 2]]


@pytest.mark.parametrize("name", ["plain", 'with, comma and "quote"', "ünïcode"])
def test_columns_are_read_as_a_csv_reader_reads_them(tmp_path: Path, name: str) -> None:
    path = tmp_path / "scores.csv"
    columns = {"name": [f"{name}/{i}" for i in range(30)], "x": [1.5 * 10**i for i in range(30)]}
    write_csv(path, columns | {"last": list(range(30))})
    names, values, last = read_columns(path, ("name", "x", "last"))
    assert [text.decode() for text in names] == columns["name"]
    assert values.astype(float) == pytest.approx(columns["x"])
    assert last.astype(int).tolist() == list(range(30))


@pytest.mark.parametrize(
    ("text", "said"),
    [("a,b\n1,2\n3", "cut off"), ("a,b\n1,2\n3\n4\n", "different lengths"), ("a,c\n1,2\n", "no column 'b'")],
)
def test_a_damaged_file_of_scores_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_columns(path, ("a", "b"))
