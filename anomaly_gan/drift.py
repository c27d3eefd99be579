"""Whether a stream of images still looks like the held-out ones: a conformal test martingale.

Vovk, Petej, Nouretdinov, Ahlberg, Carlsson & Gammerman, "Retrain or not retrain: conformal test martingales
for change-point detection", COPA 2021 (PMLR 152); the theory: Vovk, Gammerman & Shafer, *Algorithmic Learning
in a Random World*, second edition, 2022, chapter 8.

What is promised: if the held-out images and those of the stream are exchangeable (drawn in the same way, in
no particular order, none of them seen in training), the probability that a test ever raises an alarm, however
long the stream, is at most `alpha`. That holds because each score is ranked among the held-out ones *and all
that came before it*, equal ones in random order: such ranks are independent and uniform. Ranks among the
held-out scores alone are not: one small held-out set, drawn a little too low, would make every rank of the
stream a little too small, and sooner or later an alarm.

What is not promised: that every change is found. The scores are all that the test sees, so a change that
leaves their distribution alone is missed. An alarm does not say what has changed: a burst of defects
makes scores high just as another lamp does. And the images of the stream join those that it is compared with,
so a change that is too small to be found soon becomes what is usual.
"""

import math
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from anomaly_gan.errors import probability

JUMP = 0.01
"""Share of the capital that is dealt out anew before each bet; the value of Vovk et al. (2021)."""


class SimpleJumper:
    """Bets on ranks that ought to be uniform; its capital is a martingale where they are.

    Algorithm 1 of Vovk et al. (2021). Three gamblers bet that ranks are small, that they are uniform, and
    that they are large (they multiply their capital by 1 + e (rank - 1/2) with e = -1, 0, 1); before each
    bet, the share JUMP of all capital is dealt out evenly, so that a change in the middle of the stream is
    found, too. Own code: it is six lines, and the package nonconform, which has them, needs Python 3.12.
    """

    def __init__(self) -> None:
        self.log_capital = 0.0
        """Natural logarithm; 0 at the start."""
        self._shares = (1 / 3, 1 / 3, 1 / 3)

    @property
    def favours_small(self) -> bool:
        """Whether who bets on small ranks has more than who bets on large ones."""
        return self._shares[0] > self._shares[2]

    def bet(self, rank: float) -> None:
        """Bet on the next rank, in [0, 1]."""
        low, even, high = (share * (1 - JUMP) + JUMP / 3 for share in self._shares)
        low, high = low * (1.5 - rank), high * (0.5 + rank)
        total = low + even + high
        self._shares = (low / total, even / total, high / total)
        self.log_capital += math.log(total)


class DriftTest:
    """One test, from its first image on.

    It costs 8 bytes of memory an image, and microseconds: each score is put in its place in a sorted array.

    Examples:
        >>> import numpy as np
        >>> from anomaly_gan.drift import DriftTest
        >>> test = DriftTest(held_out=[0.1, 0.2, 0.3, 0.4], alpha=0.05)
        >>> for score in [0.25, 0.15, 0.35]:
        ...     rank = test.add(score)
        >>> 0 <= rank <= 1, test.alarmed
        (True, False)
        >>> for score in np.arange(1.0, 100.0):    # and now each is higher than all before
        ...     rank = test.add(score)
        >>> test.alarmed
        True

    Args:
        held_out: scores of the held-out images, at least one.
        alpha: the probability of an alarm without a change, at most; in (0, 1).
        seed: of the order of equal scores; the same one gives the same ranks.

    Raises:
        UserError: `alpha` is no such number.
    """

    def __init__(self, held_out: Sequence[float] | ndarray, alpha: Any, seed: int = 0):
        self.alpha = probability("alpha", alpha)
        self.count = 0
        """Images of the stream so far."""
        self.alarmed_at: int | None = None
        """The image, counted from 1, at which the martingale first reached 1 / alpha; None: it never has."""
        self.higher = False
        """Whether scores had become higher then, not lower: bets on small ranks had won, not large ones."""
        self._scores = array("d", sorted(held_out))
        self._jumper = SimpleJumper()
        self._random = np.random.Generator(np.random.PCG64(seed))

    @property
    def alarmed(self) -> bool:
        """Whether the martingale has ever reached 1 / alpha; what comes after takes it back no more."""
        return self.alarmed_at is not None

    @property
    def log10_martingale(self) -> float:
        """How much the stream speaks against exchangeability: 0 at the start."""
        return self._jumper.log_capital / math.log(10)

    @property
    def log10_limit(self) -> float:
        """Where `log10_martingale` is an alarm: -log10(alpha)."""
        return -math.log10(self.alpha)

    def add(self, score: float) -> float:
        """Take in the next image of the stream.

        Args:
            score: of it, finite.

        Returns:
            Its rank: the share of all scores so far, its own and the held-out ones included, that are higher,
            equal ones in random order; in [0, 1].
        """
        above = len(self._scores) - bisect_right(self._scores, score)
        equal = len(self._scores) - above - bisect_left(self._scores, score) + 1
        rank = (above + self._random.random() * equal) / (len(self._scores) + 1)
        insort(self._scores, score)
        self._note(rank)
        return rank

    def resume(self, scores: Sequence[float], ranks: Sequence[float]) -> None:
        """Take in what an earlier process had taken in, in the same order; all comes out as it would have.

        Args:
            scores: given to `add`.
            ranks: what `add` returned.
        """
        self._scores = array("d", sorted([*self._scores, *scores]))
        self._random.bit_generator.advance(len(scores))  # type: ignore[attr-defined]  # of PCG64
        for rank in ranks:
            self._note(rank)

    def _note(self, rank: float) -> None:
        self.count += 1
        self._jumper.bet(rank)
        if not self.alarmed and self._jumper.log_capital >= -math.log(self.alpha):
            self.alarmed_at, self.higher = self.count, self._jumper.favours_small
