"""What three baselines give at small budgets on CIFAR-10-JPEG, beside what their released code gave.

The settings are those of the reference's header: training in float32, the given steps, a constant learning
rate but for Rot+Trans's cosine, and its part of the test images. A run goes on where it was ended.

    python benchmarks/baseline_curves.py DATA_FOLDER --reference FILE.csv --json FILE.json
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from common import write
from recipes import train
from sklearn.metrics import roc_auc_score

COMMON = "data=cifar10_jpeg data.calibration_fraction=0 trainer.precision=32-true"

SETTINGS = {
    "deep_svdd": "width=64 method.stages.one_class.milestones=[] optimizer.milestones=[]",
    "rot_trans": "width=16 batch_size=16 schedule.total_images=3200 scoring.precision=bf16-mixed",
    "goad": "width=16 batch_size=8 schedule.total_images=2400 scoring.shifts.translations=false",
}
"""Of each method, beside its recipe."""

EVERY = {"deep_svdd": 1, "rot_trans": 10, "goad": 2}
"""Which test images count: every so-manieth, in the order of classes."""


def stages(autoencoder: int, one_class: int) -> str:
    """Deep SVDD's two stages, of so many iterations of 200 images; an epoch of the released code has 25."""
    shares = f"method.stages.autoencoder.share={autoencoder} method.stages.one_class.share={one_class}"
    return f"{shares} schedule.total_images={200 * (autoencoder + one_class)}"


BUDGETS = {
    "ae 3 oc 2": stages(75, 50),
    "ae 3 oc 5": stages(75, 125),
    "ae 0 oc 5": stages(1, 125),
    "200 steps": "",
    "300 steps": "",
}
"""By the reference's words. A stage cannot be left out: one iteration of the autoencoder stands for none."""


def auroc(scores: Path, of: str, every: int) -> float:
    """AUROC in percent of every so-manieth row of a run's `scores.csv`."""
    with scores.open(newline="") as file:
        rows = list(csv.DictReader(file))[::every]
    anomalous = [int(row["anomalous"]) for row in rows]
    return 100 * float(roc_auc_score(anomalous, [float(row[of]) for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/baseline_curves"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with given.reference.open(newline="") as file:
        reference = list(csv.DictReader(line for line in file if not line.startswith("#")))
    asked: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in reference:
        if row["budget"] in BUDGETS:
            key = row["method"], row["normal_class"], row["budget"]
            asked.setdefault(key, {})[row["seed"]] = float(row["auroc_percent"])
    lines: list[dict[str, Any]] = []
    for (method, name, budget), released in asked.items():
        ours = {}
        for seed in given.seeds:
            settings = f"{COMMON} {SETTINGS[method]} {BUDGETS[budget]} method={method} normal_class={name}"
            folder = (given.runs / f"{method}_{name}_{budget}_{seed}".replace(" ", "_")).resolve()
            result = train(given.data.resolve(), folder, [*settings.split(), f"seed={seed}"])
            ours[seed] = round(auroc(folder / "scores.csv", result.primary, EVERY[method]), 2)
        lines.append({"method": method, "class": name, "budget": budget, "ours": ours, "released": released})
        print(lines[-1], flush=True)
    write(given.json, {"settings": SETTINGS, "every": EVERY, "runs": lines, "machine": result.machine})


if __name__ == "__main__":
    main()
