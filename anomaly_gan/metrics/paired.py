"""Differences of AUROCs over the same test images, with intervals: numpy alone, and fast.

An AUROC is the mean, over the anomalous images, of the share of normal images that each lies above; and the
mean, over the normal images, of the share of anomalous images that lie above each. These shares are the
placement values of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988). To first order (Hájek's
projection) other images move the AUROC by how they move the two means, so a bootstrap over images is one
product of the matrix of how often each image is drawn with each run's influence values. The exact bootstrap
ranks anew for each resample and run; at the sizes of test sets its intervals are the same within the
bootstrap's own noise (tests/metrics/test_paired.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.special import stdtrit

RESAMPLES = 2000


class Difference(NamedTuple):
    """Of two means of AUROCs, in [-1, 1], with its 95 % interval over test images."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, of no difference: twice the share of resamples on the far side of zero."""


def placements(
    scores: Float[ndarray, " n"], anomalous: Bool[ndarray, " n"]
) -> tuple[float, Float[ndarray, " n"]]:
    """The AUROC, and for each image the share of the other kind that it is on the right side of; ties half.

    Both kinds of image must be there. The mean over either kind is the AUROC.
    """
    shares = np.empty(len(scores))
    normal, of_anomalous = np.sort(scores[~anomalous]), np.sort(scores[anomalous])
    for rows, others in ((anomalous, normal), (~anomalous, of_anomalous)):
        below = np.searchsorted(others, scores[rows], "left") + np.searchsorted(others, scores[rows], "right")
        shares[rows] = below / (2 * len(others))
    shares[~anomalous] = 1 - shares[~anomalous]
    return float(shares[anomalous].mean()), shares


def influence(
    scores: Float[ndarray, " n"], anomalous: Bool[ndarray, " n"]
) -> tuple[float, Float[ndarray, " n"]]:
    """The AUROC, and by how much one more copy of each image moves it, to first order; these sum to zero.

    The sum of the products of two scores' values is DeLong's covariance of their AUROCs, with n in place of
    n - 1.
    """
    value, shares = placements(scores, anomalous)
    return value, (shares - value) / np.where(anomalous, anomalous.sum(), (~anomalous).sum())


def moves(
    influences: Float[ndarray, "n runs"], resamples: int = RESAMPLES, seed: int = 0
) -> Float[ndarray, "resamples runs"]:
    """How far each resample of the test images moves each AUROC; the same images for all runs.

    The images are drawn from all, not kind by kind: as the influence values of each kind sum to zero, the
    numbers of either kind drawn do not matter to first order. So runs whose normal class differs can share
    images, and a mean over classes knows that they do.
    """
    images = len(influences)
    values = influences.astype(np.float32)
    random = np.random.default_rng(seed)
    found = []
    for start in range(0, resamples, 100):  # a part at a time: the matrix of counts would be large
        rows = min(100, resamples - start)
        drawn = random.integers(0, images, (rows, images), dtype=np.uint32)
        drawn += np.arange(rows, dtype=np.uint32)[:, None] * np.uint32(images)
        counts = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
        found.append(counts.astype(np.float32) @ values)
    return np.concatenate(found).astype(np.float64)


def difference(value: float, moved: Float[ndarray, " resamples"]) -> Difference:
    """A difference with the interval and the p-value that its `moves` give."""
    low, high = np.quantile(moved, [0.025, 0.975]) + value
    beyond = min(np.sum(moved + value <= 0), np.sum(moved + value >= 0))
    return Difference(value, float(low), float(high), float(min(1, 2 * (beyond + 1) / (len(moved) + 1))))


def t_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of paired differences, by Student's t; None with fewer than two."""
    count = len(differences)
    if count < 2:
        return None
    mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / count**0.5
    reach = float(stdtrit(count - 1, 0.975)) * error
    return mean - reach, mean + reach
