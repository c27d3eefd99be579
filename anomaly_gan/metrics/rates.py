"""What a threshold costs and what it finds, by images whose labels are known."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Bool, Float
from numpy import ndarray

CONFIDENCE = 0.95


class Share(NamedTuple):
    """How many of some images are above a threshold, with the exact binomial interval of their share."""

    above: int
    tested: int
    low: float
    """In [0, 1], as `high`."""
    high: float

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.above / self.tested


class AtRate(NamedTuple):
    """What one threshold does with images whose labels are known."""

    rate: float
    """The false positive rate that is promised for it."""
    threshold: float
    false_alarms: Share | None
    """Of the normal images; None where there are none."""
    found: Share | None
    """Of the anomalous images; None where there are none."""


def share(above: int, tested: int) -> Share | None:
    """`above` of `tested` images; None of none.

    The interval is Clopper and Pearson's (Biometrika 26, 1934): whatever the share among all such images is,
    it holds it in 95 % of such tests at least. It is about this threshold, as it stands.
    """
    from scipy.stats import binomtest  # takes half a second, which only who has labels should wait

    if not tested:
        return None
    interval = binomtest(above, tested).proportion_ci(CONFIDENCE, method="exact")
    return Share(above, tested, float(interval.low), float(interval.high))


def at_rates(
    thresholds: Mapping[float, float], scores: Float[ndarray, " n"], anomalous: Bool[ndarray, " n"]
) -> list[AtRate]:
    """One entry for each threshold.

    Args:
        thresholds: by the false positive rate that is promised; a score above one is called anomalous.
        scores: of the images.
        anomalous: which of them are.
    """
    entries = []
    for rate, value in thresholds.items():
        above = scores > value
        shares = [share(int(above[rows].sum()), int(rows.sum())) for rows in (~anomalous, anomalous)]
        entries.append(AtRate(rate, value, *shares))
    return entries
