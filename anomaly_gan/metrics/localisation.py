"""How well maps of scores show where defects are: pixel AUROC, and AUPRO (Bergmann et al., 2020)."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.ndimage import label, sum_labels

BINS = 16384
"""Of the scores of pixels, which are far too many to be sorted."""

LIMIT = 0.3
"""AUPRO is the area up to this false positive rate, over it: beyond, a map would colour half the picture."""

Counts = Float[ndarray, " bins"]


class Localisation:
    """Counts of pixels by score, over one picture at a time: memory does not grow with their number.

    Args:
        lowest: a score that no place is below.
        highest: the largest score of any place; scores are told apart in steps of a 16,384th of what lies
            between.
    """

    def __init__(self, lowest: float, highest: float):
        self.edges = np.linspace(lowest, highest, BINS + 1)[1:-1]
        self.normal = np.zeros(BINS)
        """Of pixels outside of masks."""
        self.anomalous = np.zeros(BINS)
        """Of pixels inside."""
        self.overlap = np.zeros(BINS)
        """Summed over connected regions of masks: the share of a region's pixels."""
        self.regions = 0

    def add(self, scores: Float[ndarray, "height width"], mask: Bool[ndarray, "height width"]) -> None:
        """Count a picture's pixels; `mask` is true where a defect is."""
        bins = np.searchsorted(self.edges, scores, side="right")
        self.normal += np.bincount(bins[~mask], minlength=BINS)
        self.anomalous += np.bincount(bins[mask], minlength=BINS)
        regions, count = label(mask, structure=np.ones((3, 3)))
        if not count:
            return
        sizes = sum_labels(mask, regions, range(1, count + 1))
        self.overlap += np.bincount(bins[mask], weights=1 / sizes[regions[mask] - 1], minlength=BINS)
        self.regions += count

    def result(self) -> dict[str, float | int] | None:
        """Both figures in [0, 1] and the number of regions; None without pixels of both kinds."""
        if not self.anomalous.any() or not self.normal.any():
            return None
        return {
            "pixel_auroc": pixel_auroc(self.normal, self.anomalous),
            "aupro": aupro(self.normal, self.overlap / self.regions),
            "regions": self.regions,
        }


def pixel_auroc(normal: Counts, anomalous: Counts) -> float:
    """How often an anomalous pixel scores higher than a normal one, ties half; counts by rising score."""
    below = np.cumsum(normal) - normal
    return float((anomalous * (below + normal / 2)).sum() / (anomalous.sum() * normal.sum()))


def aupro(normal: Counts, overlap: Counts, limit: float = LIMIT) -> float:
    """Area under the mean overlap with regions over the false positive rate, up to `limit`, over `limit`.

    Args:
        normal: of pixels outside of masks, by rising score.
        overlap: the mean over regions of the share of their pixels, likewise; its sum is 1.
        limit: of the false positive rate, in (0, 1].
    """
    rate = np.concatenate([[0], np.cumsum(normal[::-1]) / normal.sum()])
    found = np.concatenate([[0], np.cumsum(overlap[::-1])])
    inside = rate < limit
    last = np.interp(limit, rate, found)
    return float(np.trapezoid([*found[inside], last], [*rate[inside], limit]) / limit)
