"""anomaly-gan search: Optuna on what normal images alone can tell."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from anomaly_gan.cli.arguments import as_override, split
from anomaly_gan.cli.search import distribution
from anomaly_gan.lifetime import alone_in

pytest.importorskip("optuna", reason="Optuna is an extra: pip install 'anomaly-gan[search]'")

TINY = ("debug=fast", "data.limit=null", "callbacks.learning_curve.at_iterations=[]")


@pytest.mark.slow
def test_a_search_goes_on_and_ends_with_the_best_of_its_trials(command, tmp_path: Path) -> None:
    settings = (*TINY, "optimizer.learning_rate=tag(log, interval(1e-4, 1e-1))", "width=range(8,25,8)")
    for trials in ("1", "2"):
        outcome = command("search", *settings, "--trials", trials)
        assert outcome.code == 0, outcome.err
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/search/*/result.json")]
    assert len(results) == 2  # the second search kept the first one's trial
    values = sorted((result["validation"]["auroc"] for result in results), reverse=True)
    rows = list(csv.DictReader((tmp_path / "runs/search/search.csv").read_text().splitlines()))
    assert [float(row["validation"]) for row in rows] == pytest.approx(values)
    best = next(result for result in results if result["validation"]["auroc"] == values[0])
    assert f"width={best['config']['width']}" in outcome.out
    assert best["config"]["width"] in (8, 16, 24)
    assert 1e-4 <= best["config"]["optimizer"]["learning_rate"] <= 1e-1
    assert best["validation"]["inliers"] == best["counts"]["validation"] > 15


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("seed=0",), "nothing to search"),
        (("seed=0,1", "--trials", "0"), "--trials=0 must be at least 1"),
        (("optimizer.learning_rat=0.1,0.2",), "did you mean optimizer.learning_rate"),
        (("width=8,16", "data.validation_fraction=0"), "these images are chosen by"),
        (("optimizer.learning_rate=tag(log, interval(0, 1e-2))",), "optimizer.learning_rate=tag(log"),
        (("optimizer.learning_rate=interval(1e-2, 1e-4)",), "optimizer.learning_rate=interval"),
        (("method.every=range(6, 1)",), "method.every=range"),
    ],
)
def test_what_cannot_be_searched_is_said_in_one_line(command, arguments, complaint: str) -> None:
    outcome = command("search", *arguments)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_a_budget_of_time_is_searched_within_as_train_has_it() -> None:
    assert split("train", ["budget=10min", "width=8,16"]) == [
        *("budget=minutes", "schedule.minutes=10", "width=8,16")
    ]


def test_a_name_to_search_over_may_hold_any_sign() -> None:
    given = as_override("data.root=a=b,c d", sweeps=True)
    space = distribution(OverridesParser.create().parse_override(given))
    assert space.choices == ("'a=b'", "'c d'")


def test_a_search_waits_for_another_of_the_same_settings(tmp_path: Path) -> None:
    """Its running trial would be taken for one that was killed."""
    settings = ["debug=fast", "width=8,16", f"paths.runs={tmp_path}"]
    command = [sys.executable, "-m", "anomaly_gan", "search", *settings, "--trials", "1"]
    with (
        alone_in(tmp_path / "search" / "search"),
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as waiting,
    ):
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        waiting.kill()
    assert "another process works on it; waiting" in said


@pytest.mark.usefixtures("_signals_are_heeded")
def test_ctrl_c_ends_a_search_in_one_line_and_its_run_with_it(tmp_path: Path) -> None:
    settings = ["debug=fast", "schedule.total_images=1000000", "optimizer.learning_rate=0.001,0.002"]
    command = [sys.executable, "-m", "anomaly_gan", "search", *settings]
    search = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/search/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.05)
    os.killpg(search.pid, signal.SIGINT)  # as a terminal does
    told = search.communicate(timeout=240)[1]
    assert search.returncode == 130
    assert told.splitlines()[-1] == "anomaly-gan: ended by SIGINT; the same command goes on with the search"
    assert "Traceback" not in told
    assert not list(tmp_path.rglob("FAILED"))
