"""Exported files against their detector, on a whole test set: scores, p-values, decisions.

python benchmarks/export.py RUN_FOLDER [RUN_FOLDER ...] --json results/export.json

A score is a sum of products, and a library that adds them up in another order gets other last digits: so does
the detector itself with other batches, which is measured beside. An image nearer to the threshold than such a
difference would be decided by its last digits; how many there are is counted.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write
from numpy import ndarray

from anomaly_gan import checkpoint
from anomaly_gan.checkpoint import Checkpoint
from anomaly_gan.config import build
from anomaly_gan.export.file import export
from anomaly_gan.export.formats import FORMATS, Outputs, Runner
from anomaly_gan.progress import track
from anomaly_gan.results import machine
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.transforms.convert import to_float

BATCH = 256
OTHER_BATCH = 100
"""Of the detector's second look, to see how far it is from itself."""


def by_detector(detector: Scorer, threshold: Threshold | None) -> Runner:
    """The detector as the command `predict` uses it."""

    def run(images: ndarray) -> Outputs:
        score = detector.score(to_float(torch.from_numpy(images))).numpy()
        if threshold is None:
            return {"score": score}
        wide = score.astype(np.float64)
        return {
            "score": score,
            "p_value": threshold.p_values(wide),
            "anomalous": threshold.anomalous(wide),
        }

    return run


def over(run: Runner, images: ndarray, batch: int, what: str) -> Outputs:
    """What `run` says of all images."""
    starts = range(0, len(images), batch)
    parts = [run(images[first : first + batch]) for first in track(starts, what, len(starts), "batches")]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compare(found: Outputs, expected: Outputs, threshold: Threshold | None) -> dict[str, Any]:
    """How far two accounts of the same images are apart."""
    apart = np.abs(found["score"].astype(np.float64) - expected["score"])
    size = np.abs(expected["score"])
    result: dict[str, Any] = {
        "largest_difference": float(apart.max()),
        "relative_to_mean_score": float(apart.max() / size.mean()),
        "largest_relative_to_own_score": float((apart / size).max()),
        "relative_to_spread_of_scores": float(apart.max() / expected["score"].std()),
    }
    if threshold is not None:
        margin = np.abs(expected["score"] - threshold.value)
        result |= {
            "decisions_that_differ": int((found["anomalous"] != expected["anomalous"]).sum()),
            "nearest_to_threshold": float(margin.min()),
            "nearer_to_threshold_than_largest_difference": int((margin <= apart.max()).sum()),
            "p_values_that_differ": int((found["p_value"] != expected["p_value"]).sum()),
            "largest_p_value_difference": float(np.abs(found["p_value"] - expected["p_value"]).max()),
        }
    return result


def measure(file: Checkpoint) -> dict[str, Any]:
    """Both formats of one detector on the test set it was trained beside."""
    detector = file.build()
    threshold = file.threshold(detector.primary, None)
    data = build(file.config["data"], "data", ("data",))
    data.setup()
    assert data.test is not None
    images = data.test[range(len(data.test))].images.numpy()
    eager = by_detector(detector, threshold)
    expected = over(eager, images, BATCH, "detector")
    again = over(eager, images, OTHER_BATCH, "detector, other batches")
    result: dict[str, Any] = {
        "dataset": data.name,
        "normal_class": data.class_names[data.normal_index],
        "iterations": file.data["iterations"],
        "score": detector.primary,
        "test_images": len(images),
        "mean_score": float(np.abs(expected["score"]).mean()),
        "spread_of_scores": float(expected["score"].std()),
        "threshold": None if threshold is None else threshold.value,
        "false_positive_rate": None if threshold is None else threshold.rate,
        f"detector_in_batches_of_{OTHER_BATCH}": compare(again, expected, threshold),
    }
    for name, kind in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / f"detector{kind.suffix}"
            export(file, name, output, None)
            run, _ = kind.open(output)
            found = over(run, images, BATCH, name)
            result[name] = {
                "megabytes": round(output.stat().st_size / 1e6, 1),
            } | compare(found, expected, threshold)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(machine())
    measured = []
    for run in arguments.runs:
        measured.append(measure(checkpoint.read(run)))
        of = measured[-1]
        print(f"{of['dataset']}, {of['normal_class']}, {of['score']}, {of['test_images']} images")
        for name in FORMATS:
            row = of[name]
            print(
                f"  {name:<6}{row['largest_difference']:.1e} apart, {row['relative_to_mean_score']:.1e} of a "
                f"score; {row.get('decisions_that_differ')} decisions differ"
            )
    write(arguments.json, {"batch": BATCH, "runs": measured})


if __name__ == "__main__":
    main()
