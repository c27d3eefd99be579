"""Paired differences between rows, and what is not paired."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from toy_runs import MakeRun

from anomaly_gan.reporting.collect import collect
from anomaly_gan.reporting.contents import Contents, contents


def auroc_of(folder: Path) -> float:
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    return roc_auc_score([row["anomalous"] == "1" for row in rows], [float(row["csi"]) for row in rows])


def everything(tmp_path: Path) -> Contents:
    return contents(collect([tmp_path]), None, tmp_path)


def test_a_difference_is_averaged_over_common_seeds_then_classes(run: MakeRun, tmp_path: Path) -> None:
    by_class = {}
    for name, lift in (("ball", 1.8), ("doll", 1.2)):
        found = []
        for seed in (0, 1):
            pair = [
                run(
                    f"{name}{a}{seed}",
                    normal_class=name,
                    seed=seed,
                    method=a,
                    lift=1 + lift * (a == "full"),
                )
                for a in ("csi", "full")
            ]
            found.append(auroc_of(pair[1]) - auroc_of(pair[0]))
        by_class[name] = np.mean(found)
    run("more", normal_class="ball", seed=2, lift=3)
    ((comparison,),) = everything(tmp_path).comparisons
    assert comparison.label == "full − csi"
    assert comparison.seeds == {"ball": [0, 1], "doll": [0, 1]}
    for name, value in by_class.items():
        assert comparison.by_class[name].value == pytest.approx(value)
    assert comparison.overall.value == pytest.approx(np.mean(list(by_class.values())))
    assert comparison.overall.low < comparison.overall.value < comparison.overall.high


def test_runs_without_scores_or_on_other_images_are_not_paired(run: MakeRun, tmp_path: Path) -> None:
    run("a", lift=1)
    run("b", method="full")
    run("c", normal_class="doll", lift=1)
    run("d", normal_class="doll", method="full", lift=1, images=50)
    run("e", normal_class="kite", lift=1)
    cut_off = run("f", normal_class="kite", method="full", lift=1) / "scores.csv"
    cut_off.write_text(cut_off.read_text()[:-3])
    ((comparison,),) = everything(tmp_path).comparisons
    assert comparison.overall is None
    assert comparison.not_paired == [
        "ball: no scores.csv of the test images beside the results",
        "doll: other test images",
        f"kite: {cut_off} cannot be read: its last line has no end: cut off?",
    ]
