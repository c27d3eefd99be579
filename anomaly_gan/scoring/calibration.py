"""From scores to decisions, by the scores of normal images that were held out.

Split-conformal p-values (Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005; for
outliers: Bates, Candès, Lei, Romano & Sesia, "Testing for outliers with conformal p-values", Annals of
Statistics 51, 2023).

What is promised, and what is not: if a new normal image and the n held-out ones are exchangeable (drawn in
the same way, none of them seen in training), then the probability that the new one is called anomalous is
at most the false positive rate asked for. That is marginal: over the draw of the held-out images and of the
new one together. For the held-out images at hand, the rate among many new normal images is itself random:
with j = floor(rate * (n + 1)) it follows Beta(j, n + 1 - j) where no scores are equal. Equal scores only
make false alarms rarer. Nothing is promised for normal images of another kind than those held out, nor
about how many anomalous ones are found.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from anomaly_gan.errors import UserError, probability

DECISION = {True: "anomalous", False: "normal"}
"""How a decision is written in files."""

HeldOut = Float[ndarray, " held_out"]
"""Scores of held-out normal images, sorted."""


def p_values(scores: Float[ndarray, " n"], held_out: HeldOut) -> Float[ndarray, " n"]:
    """(1 + #{held-out scores >= score}) / (held-out scores + 1), in (0, 1]: small means anomalous."""
    at_least = len(held_out) - np.searchsorted(held_out, scores, side="left")
    return (1 + at_least) / (len(held_out) + 1)


def p_values_among(scores: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """The p-value of each score where the others are the held-out ones, in (0, 1].

    It is the score's rank / n, the highest first; equal scores have the last of their ranks.
    """
    return (len(scores) - np.searchsorted(np.sort(scores), scores, side="left")) / len(scores)


def smallest_rate(count: int) -> float:
    """The smallest false positive rate that `count` held-out images can promise: 1 / (count + 1)."""
    return 1 / (count + 1)


def images_needed(rate: float) -> int:
    """How many held-out images it takes at least to promise the false positive rate `rate`, in (0, 1)."""
    count = max(0, math.ceil(1 / rate) - 2)
    while smallest_rate(count) > rate:  # one step or two: 1 / rate is rounded
        count += 1
    return count


USUAL = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""False positive rates that people ask for."""


def rates_to_compare(rate: float, count: int) -> list[float]:
    """`rate`, the smallest that `count` held-out images can promise, and those of USUAL that they can."""
    least = smallest_rate(count)
    return sorted({rate, least, *(usual for usual in USUAL if usual > least)})


def adjusted(p_values: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """The p-values of images that are judged together, adjusted by Benjamini and Hochberg's procedure.

    If those at most q are called anomalous, the expected share of normal images among the called ones is at
    most q: conformal p-values depend on each other, through the held-out images, in a way that the procedure
    stands (PRDS; Bates et al. 2023, theorem 2). As all promises here, it is for normal images that are
    exchangeable with the held-out ones, and over the draw of these.

    Args:
        p_values: in (0, 1], all by the same held-out images.
    """
    from scipy.stats import false_discovery_control  # takes half a second, which others need not wait

    return false_discovery_control(p_values) if len(p_values) else p_values


def allowed(rate: float, count: int) -> int:
    """j: an image is anomalous where at most j - 1 of `count` held-out ones score as high; 0: never.

    The largest j whose p-value j / (count + 1) is at most `rate`, as computers compare the two, so that the
    threshold and the p-values decide alike to the last bit.
    """
    j = round(rate * (count + 1))
    return j if j / (count + 1) <= rate else j - 1


def check_rate(rate: Any) -> float:
    """`rate`, where it is one.

    Raises:
        UserError: it is no number in (0, 1).
    """
    return probability("threshold.false_positive_rate", rate)


def threshold(held_out: HeldOut, rate: float) -> float:
    """The smallest t for which "score > t" is said of a normal image with probability `rate` at most.

    It is the ceil((n + 1) (1 - rate))-th smallest of the n held-out scores, `rate` in (0, 1); score > t
    exactly where the p-value is at most `rate`.

    Raises:
        UserError: there are too few held-out images to promise that rate.
    """
    count, j = len(held_out), allowed(rate, len(held_out))
    if j < 1:
        raise UserError(
            f"threshold.false_positive_rate={rate:g}: {count} held-out images can promise "
            f"{smallest_rate(count):.4g} at best; ask for that or more, or train with "
            f"{images_needed(rate)} held-out images or more (data.calibration_fraction)"
        )
    return float(held_out[count - j])


@dataclass(frozen=True)
class Threshold:
    """Where a detector draws the line."""

    rate: float
    """The false positive rate promised."""
    value: float
    """A score above this is anomalous."""
    held_out: HeldOut
    raised_by: float = 0.0
    """By how much the held-out scores count as higher than they are: see `evaluation.calibrate`. Scores that
    are to be compared with them as if all were drawn in the same way have to be raised, too."""

    def p_values(self, scores: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
        """See `p_values`."""
        return p_values(scores, self.held_out)

    def anomalous(self, scores: Float[ndarray, " n"]) -> Bool[ndarray, " n"]:
        """Which scores are above it."""
        return scores > self.value

    def at_other_rates(self) -> dict[float, float]:
        """Thresholds by the rates that there are to choose from, its own among them (`rates_to_compare`)."""
        rates = rates_to_compare(self.rate, len(self.held_out))
        return {rate: threshold(self.held_out, rate) for rate in rates}

    @property
    def allowed(self) -> int:
        """See `allowed`."""
        return allowed(self.rate, len(self.held_out))


@dataclass(frozen=True)
class Calibration:
    """The scores of the held-out normal images, kept whole: any rate can be asked for later.

    Args:
        scores: by name of score or part, each of the same images, sorted; at least one image.
        raised_by: by how much each of these counts as higher than it is; see `Threshold`.
    """

    scores: Mapping[str, HeldOut]
    raised_by: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, scores: Mapping[str, Float[ndarray, " held_out"]], raised_by: Mapping[str, float] | None = None
    ) -> "Calibration":
        """From the held-out images' scores in any order, already raised."""
        return cls({name: np.sort(values) for name, values in scores.items()}, raised_by or {})

    @property
    def count(self) -> int:
        """n, the number of held-out images."""
        return len(next(iter(self.scores.values())))

    def threshold(self, name: str, rate: float) -> Threshold:
        """The threshold of score `name` for `rate`.

        Raises:
            UserError: see `threshold`; or that score was not kept.
        """
        if name not in self.scores:
            raise UserError(f"no calibration of score {name}: only of {', '.join(self.scores)}")
        held_out = self.scores[name]
        return Threshold(rate, threshold(held_out, rate), held_out, self.raised_by.get(name, 0.0))

    def possible_rate(self, rate: float) -> float:
        """`rate`, or the smallest rate that can be promised where that one cannot be."""
        return max(rate, smallest_rate(self.count))
