"""AUROC of some runs over that of others, on the same test images and seeds, with a paired interval.

python benchmarks/paired.py --base runs/csi_0 runs/csi_1 --other runs/full_0 runs/full_1 --score csi_ens

Run folders are given in the order of their seeds. Normal and anomalous test images are drawn again, each
among their own, the same for all runs: the interval is over test images, not over seeds.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.metrics import roc_auc_score


def read(run: Path, score: str) -> tuple[list[str], Bool[ndarray, " n"], Float[ndarray, " n"]]:
    """Names of the test images, which are anomalous, and their scores."""
    with (run / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    anomalous = np.array([row["anomalous"] == "1" for row in rows])
    return [row["name"] for row in rows], anomalous, np.array([float(row[score]) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base", type=Path, nargs="+", required=True)
    parser.add_argument("--other", type=Path, nargs="+", required=True)
    parser.add_argument("--score", default="csi_ens")
    parser.add_argument("--resamples", type=int, default=400)
    arguments = parser.parse_args()
    pairs = []
    for base, other in zip(arguments.base, arguments.other, strict=True):
        (names, anomalous, of_base), (same, _, of_other) = (
            read(run, arguments.score) for run in (base, other)
        )
        if names != same:
            raise SystemExit(f"{base} and {other} scored other images")
        pairs.append((of_base, of_other))
    labels = [json.loads((run / "result.json").read_text())["normal_class"] for run in arguments.base]
    if len(set(labels)) > 1:
        raise SystemExit(f"runs of different classes: {', '.join(labels)}")
    normal_rows, anomalous_rows = np.flatnonzero(~anomalous), np.flatnonzero(anomalous)
    rng = np.random.default_rng(0)

    def differences(rows: ndarray) -> list[float]:
        aurocs = [[roc_auc_score(anomalous[rows], s[rows]) for s in pair] for pair in pairs]
        return [100 * (other - base) for base, other in aurocs]

    resampled = [
        np.mean(
            differences(
                np.concatenate([rng.choice(rows, len(rows)) for rows in (normal_rows, anomalous_rows)])
            )
        )
        for _ in range(arguments.resamples)
    ]
    found = differences(np.arange(len(anomalous)))
    low, high = np.quantile(resampled, [0.025, 0.975])
    each = ", ".join(f"{value:+.2f}" for value in found)
    print(f"{np.mean(found):+.2f} ({low:+.2f} to {high:+.2f}) AUROC points; by seed {each}")


if __name__ == "__main__":
    main()
