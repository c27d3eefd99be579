"""`anomaly-gan compare`: what it says of test images and what of training runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from toy_runs import MakeRun

from anomaly_gan.cli.compare import main
from anomaly_gan.errors import UserError


def test_intervals_over_images_and_over_runs_are_told_apart(
    run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aurocs = {("csi", 0): 0.80, ("csi", 1): 0.84, ("full", 0): 0.83, ("full", 1): 0.85}
    for (method, seed), value in aurocs.items():
        run(f"{method}{seed}", value, method=method, seed=seed, lift=1 + (method == "full"))
    run("alone", 0.9, method="full", normal_class="doll", lift=1)
    folder = tmp_path / "runs"
    assert main([f"{folder}:csi", f"{folder}:full"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"ball +2 +82\.0 +84\.0 +\+2\.00 +\+\d+\.\d\d to +\+\d", said)
    assert "other test images" in said
    assert "B is higher in 2 and lower in 0 of 2 pairs" in said
    # By hand: 2 +- 12.706 * sd / sqrt 2, of differences 3 and 1.
    reach = 12.7062 * np.std([3, 1], ddof=1) / np.sqrt(2)
    assert f"Mean +2.00, 95 % t interval {2 - reach:+.2f} to {2 + reach:+.2f}" in said
    assert "only in B, left out: doll seed 0" in said


def test_one_pair_says_nothing_of_other_training_runs(
    run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(run("a", 0.8)), str(run("b", 0.9, method="full"))])
    said = capsys.readouterr().out
    assert "cannot be told" in said
    assert "not paired" in said


def test_several_kinds_on_one_side_must_be_narrowed(run: MakeRun, tmp_path: Path) -> None:
    run("a")
    b = run("b", method="full")
    with pytest.raises(UserError, match=r"2 kinds of run \(toys: csi; toys: full\); give the folders of one"):
        main([str(tmp_path / "runs"), str(b)])


def test_a_method_that_is_not_there_names_those_that_are(run: MakeRun) -> None:
    a = run("a")
    with pytest.raises(UserError, match="no run of method 'full'; there are csi"):
        main([str(a), f"{a}:full"])


def test_runs_without_a_common_class_and_seed_are_an_error(run: MakeRun) -> None:
    with pytest.raises(UserError, match="A has ball seed 0, B has ball seed 1"):
        main([str(run("a")), str(run("b", seed=1))])


def test_runs_on_different_data_are_an_error(run: MakeRun) -> None:
    with pytest.raises(UserError, match="A is of toys, B of games"):
        main([str(run("a")), str(run("b", dataset="games"))])
