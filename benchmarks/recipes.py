"""What a change of the recipe gives at equal work: trainings of CSI on the classes named for choosing.

Choose on these alone: CIFAR-10-JPEG automobile, ship and airplane; Fashion-MNIST shirt, bag and T-shirt. Each
run goes on where it was ended. A change of the score needs no training: sums of scores are made of the same
runs' tables.

    python benchmarks/recipes.py DATA_FOLDER --json results/recipes/three_minutes.json [--only lr2e-3]
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_gan.metrics.auroc import auroc
from anomaly_gan.results import RunResult

CLASSES = [
    ("cifar10_jpeg", "automobile"),
    ("fashion_mnist", "shirt"),
    ("cifar10_jpeg", "ship"),
    ("fashion_mnist", "bag"),
    ("cifar10_jpeg", "airplane"),
    ("fashion_mnist", "t_shirt"),
]

BASE = [
    "width=16",
    "batch_size=32",
    "schedule.total_images=48000",
    "optimizer=adam_fast",
    "optimizer.decay=cosine",
    "trainer.precision=bf16-mixed",
    "scoring.ensemble=1",
    "data.calibration_fraction=0",
]
"""1,500 iterations in bf16: about three and a half minutes on two cores and a quiet machine."""

VARIANTS: dict[str, list[str]] = {
    "base": [],
    "lr2e-3": ["optimizer.learning_rate=2e-3"],
    "batch64": ["batch_size=64"],
    "batch16": ["batch_size=16"],
    "crop.3": ["method.views.augment.crop_scale=[0.3,1.0]"],
    "temperature.2": ["method.temperature=0.2"],
    "wd1e-4": ["optimizer.weight_decay=1e-4"],
    "shift2": ["method.phases.feature.weights.shift_classification=2.0"],
}
"""One thing at a time."""

SUMS = [("csi", "csi_ens"), ("shift", "shift_ens"), ("csi", "csi_ens", "cosine_ens")]
"""Scores that are added up, each over its standard deviation on the test images, which needs no label."""


def train(data: Path, folder: Path, settings: list[str]) -> RunResult:
    """The result of a run in `folder`, trained or gone on with where it is not there."""
    if not (folder / "result.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "anomaly_gan", "train", *settings, f"paths.data_dir={data}"]
        command += ["resume=auto", f"hydra.run.dir={folder}"]
        with (folder / "train.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return RunResult.read(folder)


def sums(folder: Path) -> dict[str, float | None]:
    """AUROC of sums of scores."""
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    anomalous = np.array([row["anomalous"] == "1" for row in rows])
    found = {}
    for names in SUMS:
        columns = [np.array([float(row[name]) for row in rows]) for name in names]
        found["+".join(names)] = auroc(sum(column / column.std() for column in columns), anomalous)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    given = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for variant in given.only:
        for seed in given.seeds:
            for dataset, name in CLASSES:
                folder = (given.runs / f"{variant}_{dataset}_{name}_seed{seed}").resolve()
                which = [f"data={dataset}", f"normal_class={name}", f"seed={seed}"]
                result = train(given.data.resolve(), folder, [*which, *BASE, *VARIANTS[variant]])
                rounded = {
                    key: round(value, 4)
                    for key, value in (result.auroc | result.auroc_parts).items()
                    if value
                }
                added = {key: round(value, 4) for key, value in sums(folder).items() if value}
                lines.append({"variant": variant, "dataset": result.dataset, "class": name, "seed": seed})
                lines[-1] |= {"auroc": rounded, "sums": added, "raw_pixels": result.auroc_raw_pixels}
                print(
                    variant, name, seed, rounded["csi_ens"], rounded["csi"], added["csi+csi_ens"], flush=True
                )
                content = {
                    "what": __doc__.split("\n")[0],
                    "command": "python benchmarks/recipes.py DATA_FOLDER --json FILE",
                    "base": BASE,
                    "variants": VARIANTS,
                    "versions": result.versions,
                    "machine": result.machine,
                    "runs": lines,
                }
                given.json.parent.mkdir(parents=True, exist_ok=True)
                given.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
