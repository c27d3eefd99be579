"""What a change of the recipe gives in equal minutes of training: CSI on the classes named for choosing.

Choose on these alone: CIFAR-10-JPEG automobile, ship and airplane; Fashion-MNIST shirt, bag and T-shirt. Each
run goes on where it was ended. The scores of a run that do not rank are in the table as well: a change of
the score needs no training. Nothing else may run on the machine meanwhile.

    python benchmarks/recipes.py DATA_FOLDER --minutes 3 --json results/recipes/three_minutes.json
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    "scoring.ensemble=1",
    "data.calibration_fraction=0",
    "schedule.minutes_of=training",
    "trainer.precision=fastest",
]

VARIANTS: dict[str, list[str]] = {
    "the paper's": [],
    "recipe": ["budget=minutes"],
    "adam": ["budget=minutes", "optimizer@method.optimizers.feature_extractor=adam"],
    "step.6": ["budget=minutes", "method.optimizers.feature_extractor.step=0.6"],
    "step6": ["budget=minutes", "method.optimizers.feature_extractor.step=6"],
    "resnet18": ["budget=minutes", "scoring.body=resnet18"],
    "weight1": ["budget=minutes", "method.phases.feature.weights.shift_classification=1"],
    "weight10": ["budget=minutes", "method.phases.feature.weights.shift_classification=10"],
    "lr3e-3": ["budget=minutes", "optimizer.learning_rate=3e-3"],
    "lr5e-4": ["budget=minutes", "optimizer.learning_rate=5e-4"],
    "batch64": ["budget=minutes", "batch_size=64"],
    "batch16": ["budget=minutes", "batch_size=16"],
    "crop.3": ["budget=minutes", "method.views.augment.crop_scale=[0.3,1.0]"],
    "temperature.2": ["budget=minutes", "method.temperature=0.2"],
    "width24": ["budget=minutes", "width=24"],
}
"""The method as the paper has it, the recipe of `budget=minutes`, and one thing at a time changed in that."""


def train(data: Path, folder: Path, settings: list[str]) -> RunResult:
    """The result of a run in `folder`, trained or gone on with where it is not there."""
    if not (folder / "result.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "anomaly_gan", "train", *settings, f"paths.data_dir={data}"]
        command += ["resume=auto", f"hydra.run.dir={folder}"]
        with (folder / "train.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    return RunResult.read(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    given = parser.parse_args()
    lines: list[dict[str, Any]] = []
    asked = (
        f"--minutes {given.minutes:g} --seeds {' '.join(map(str, given.seeds))} --only {' '.join(given.only)}"
    )
    for variant in given.only:
        for seed in given.seeds:
            for dataset, name in CLASSES:
                folder = (
                    given.runs / f"{variant}_{dataset}_{name}_seed{seed}_{given.minutes:g}min"
                ).resolve()
                which = [f"data={dataset}", f"normal_class={name}", f"seed={seed}"]
                which.append(f"schedule.minutes={given.minutes:g}")
                result = train(given.data.resolve(), folder, [*which, *BASE, *VARIANTS[variant]])
                found = {key: round(value, 4) for key, value in (result.auroc | result.auroc_parts).items()}
                lines.append({"variant": variant, "dataset": result.dataset, "class": name, "seed": seed})
                lines[-1] |= {"iterations": result.iterations, "seconds": result.seconds}
                lines[-1] |= {
                    "primary": result.primary,
                    "auroc": found,
                    "raw_pixels": result.auroc_raw_pixels,
                }
                print(variant, name, seed, result.primary, found[result.primary], flush=True)
                content = {
                    "what": __doc__.split("\n")[0],
                    "command": f"python benchmarks/recipes.py DATA_FOLDER {asked} --json FILE",
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
