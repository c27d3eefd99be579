"""What a run's own files tell beyond its result: test scores, their curves, losses, held-out images."""

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from anomaly_gan.metrics.paired import influence
from anomaly_gan.reporting.collect import Run
from anomaly_gan.reporting.columns import read_columns
from anomaly_gan.results import HELD_OUT_FILE, SCORES_FILE

POINTS = 79
"""Of a curve at most; odd, so that the middle of a ROC curve's way, the corner of a perfect score, is one."""

BINS = 40

LEAST_NORMAL = 10
"""Held-out images that are shown."""


@dataclass(frozen=True)
class Evidence:
    """Of one run and score."""

    images: str
    """Digest of the names of the test images."""
    kinds: str
    """Digest of which of them are anomalous."""
    auroc: float
    influence: Float[ndarray, " n"]
    roc: list[list[float]] = field(repr=False)
    """[share of normal images called anomalous, share of anomalous images found]"""
    histogram: dict[str, list[float]] = field(repr=False)
    """"range": [low, high] of the scores shown; "normal", "anomalous": shares of each, by bin."""


def read(run: Run, score: str | None) -> Evidence | str:
    """From a run's scores.csv; where there is none that can be used, why."""
    if run.folder is None or not (run.folder / SCORES_FILE).exists():
        return f"no {SCORES_FILE} beside {run.path}"
    name = score or run.result.primary
    try:
        names, kinds, texts = read_columns(run.folder / SCORES_FILE, ("name", "anomalous", name))
        values, anomalous = texts.astype(np.float64), kinds == b"1"
    except (OSError, ValueError) as error:
        return f"{run.folder / SCORES_FILE} cannot be read: {error}"
    if anomalous.all() or not anomalous.any() or not np.isfinite(values).all():
        return f"{run.folder / SCORES_FILE} has not both kinds of image, with numbers for scores"
    value, of_images = influence(values, anomalous)
    return Evidence(
        images=hashlib.sha1(names.tobytes()).hexdigest(),
        kinds=hashlib.sha1(anomalous.tobytes()).hexdigest(),
        auroc=value,
        influence=of_images.astype(np.float32),
        roc=roc(values, anomalous),
        histogram=histogram(values, anomalous),
    )


def roc(scores: Float[ndarray, " n"], anomalous: Bool[ndarray, " n"]) -> list[list[float]]:
    """At most `POINTS` points of the ROC curve, evenly along its way."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(anomalous[order])
    called = np.arange(1, len(scores) + 1) - found
    ends = np.flatnonzero(np.diff(scores[order], append=np.nan))  # the last of equal scores
    x = np.concatenate([[0], called[ends] / called[-1]])
    y = np.concatenate([[0], found[ends] / found[-1]])
    rows = np.unique(np.searchsorted(x + y, np.linspace(0, 2, POINTS) - 1e-9))
    rows = rows[rows < len(x)]
    return [[round(float(a), 4), round(float(b), 4)] for a, b in zip(x[rows], y[rows], strict=True)]


def histogram(scores: Float[ndarray, " n"], anomalous: Bool[ndarray, " n"]) -> dict[str, list[float]]:
    """How normal and anomalous scores are spread; the outermost thousandths count as at the ends."""
    low, high = (float(value) for value in np.quantile(scores, [0.001, 0.999]))
    if high <= low:
        low, high = low - 0.5, low + 0.5
    clipped = np.clip(scores, low, high)
    shares = {}
    for kind, rows in (("normal", ~anomalous), ("anomalous", anomalous)):
        counts, _ = np.histogram(clipped[rows], BINS, (low, high))
        shares[kind] = [round(float(share), 4) for share in counts / rows.sum()]
    return {"range": [float(f"{low:.4g}"), float(f"{high:.4g}")], **shares}


def least_normal(run: Run) -> list[list[str]]:
    """Name, p-value and score of the first images in a run's held_out.csv, below their headings.

    Empty where the file is not there.
    """
    if run.folder is None or not (path := run.folder / HELD_OUT_FILE).exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row[:3] for row in islice(csv.reader(file), 1 + LEAST_NORMAL)]
    except (OSError, ValueError, csv.Error):
        return []  # damaged; the result stands without it


def losses(run: Run) -> dict[str, list[list[float]]]:
    """Each phase's total over the iterations, thinned; empty where the run's log is not there.

    A point is [iteration, loss].
    """
    if run.folder is None or not (path := run.folder / "log" / "metrics.csv").exists():
        return {}
    found: dict[str, list[list[float]]] = {}
    try:
        with path.open(newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            step = header.index("step")
            phases = [
                (i, name.split("/")[1])
                for i, name in enumerate(header)
                if name.startswith("train/") and name.endswith("/total")
            ]
            for row in lines:
                for i, phase in phases:
                    if row[i]:
                        found.setdefault(phase, []).append([float(row[step]), float(f"{float(row[i]):.5g}")])
    except (OSError, ValueError, IndexError, UnicodeError):
        return {}  # a log cut off by a crash; the result stands without it
    finite = {phase: [p for p in points if np.isfinite(p[1])] for phase, points in found.items()}
    return {phase: thin(points) for phase, points in finite.items() if points}


def thin(points: list[list[float]]) -> list[list[float]]:
    """At most `POINTS` of them, evenly, the first and the last among them."""
    rows: Iterable[int] = range(len(points))
    if len(points) > POINTS:
        rows = np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(int)).tolist()
    return [points[row] for row in rows]
