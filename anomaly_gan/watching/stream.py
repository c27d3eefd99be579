"""Images that arrive one after the other: a row for each, and the test of whether they have changed."""

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from anomaly_gan.checkpoint import NO_CALIBRATION
from anomaly_gan.drift import DriftTest
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Detector, Prediction
from anomaly_gan.scoring.calibration import DECISION
from anomaly_gan.watching.arrivals import Arrival
from anomaly_gan.watching.journal import Journal, Row

RECENT = 100
"""Images that `Stream.recent_p_value` looks back on."""


class Stream:
    """What has been said of the images so far.

    A test (`drift.DriftTest`) begins with the first image, with another detector, and, where that is
    asked for, after an alarm. Each row says of which test it is, so that the rows alone tell how to go on.

    Args:
        detector: which scores.
        alpha: the probability that a test without a change ever alarms, at most.
        journal: where rows are kept; None: nowhere.
        restart: begin a new test where the one in the journal has alarmed.

    Raises:
        UserError: the detector has no held-out images, `alpha` is out of range, or the journal is none.

    Attributes:
        number: of the test, from 1.
        test: the test itself.
        done: keys of the arrivals that the journal had rows of.
    """

    def __init__(self, detector: Detector, alpha: Any, journal: Journal | None = None, restart: bool = False):
        if detector.threshold is None:
            raise UserError(f"nothing to compare with: the detector has {NO_CALIBRATION}")
        self.detector, self.journal = detector, journal
        self.held_out, self.raised_by = detector.threshold.held_out, detector.threshold.raised_by
        told = detector.primary.encode() + self.held_out.tobytes()
        self.detector_id = hashlib.blake2b(told, digest_size=4).hexdigest()
        self.number = 1
        self.test = DriftTest(self.held_out, alpha)
        self.done: set[bytes] = set()
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._resume(journal.rows() if journal is not None else [])
        if restart and self.test.alarmed:
            self._begin(self.number + 1)

    def _resume(self, rows: Iterable[Row]) -> None:
        last: tuple[int, str] | None = None
        scores: list[float] = []
        ranks: list[float] = []
        for row in rows:
            if (row["test"], row["detector"]) != last:
                last = row["test"], row["detector"]
                scores, ranks = [], []
                self._recent.clear()
            if row["score"] is not None:
                scores.append(row["score"] + self.raised_by)
                ranks.append(row["rank"])
                self._recent.append(row["p_value"])
            if row["modified"] is not None:
                self.done.add(Arrival(row["file"], row["modified"], row["size"]).key)
        if last is None:
            return
        number, detector = last
        recent = [*self._recent]
        if detector != self.detector_id:
            self._begin(number + 1)
        else:
            self._begin(number)
            self.test.resume(scores, ranks)
            self._recent.extend(recent)

    @property
    def recent_p_value(self) -> float:
        """The median p-value of the last RECENT images: near 0 where scores are higher than those of the
        held-out images, without a change about 1/2 where many were held out; 1/2 before the first.
        """
        recent = list(self._recent)  # at once, for another thread may add to it
        return float(np.median(recent)) if recent else 0.5

    def _begin(self, number: int) -> None:
        self.number = number
        self._recent.clear()
        self.test = DriftTest(self.held_out, self.test.alpha, seed=number - 1)

    def add(self, images: Sequence[dict[str, Any]], predictions: Sequence[Prediction]) -> list[Row]:
        """Take in the next images; their rows are in the journal when this returns.

        Args:
            images: what is known of each beforehand: file, modified, size.
            predictions: of the same images.

        Returns:
            The rows: what is known, then score, p_value, decision, error, rank, log10_martingale,
            alarm (in the one row where the martingale reaches 1 / alpha), test, detector and at (UTC).

        Raises:
            OSError: they cannot be written. What this object says is no longer what the journal has.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        rows = []
        for known, found in zip(images, predictions, strict=True):
            before = self.test.alarmed
            rank = None
            if found.score is not None and found.p_value is not None:
                rank = self.test.add(found.score + self.raised_by)
                self._recent.append(found.p_value)
            rows.append(
                known
                | {
                    "score": found.score,
                    "p_value": found.p_value,
                    "decision": None if found.anomalous is None else DECISION[found.anomalous],
                    "error": found.error,
                    "rank": rank,
                    "log10_martingale": round(self.test.log10_martingale, 6),
                    "alarm": self.test.alarmed and not before,
                    "test": self.number,
                    "detector": self.detector_id,
                    "at": at,
                }
            )
        if self.journal is not None and rows:
            self.journal.append(rows)
        return rows

    def state(self) -> dict[str, Any]:
        """The test in short: its number, images, log10_martingale, its limit, alarmed, recent_p_value."""
        return {
            "test": self.number,
            "images": self.test.count,
            "log10_martingale": round(self.test.log10_martingale, 6),
            "alarm_at": round(self.test.log10_limit, 6),
            "alarmed": self.test.alarmed,
            "recent_p_value": round(self.recent_p_value, 6),
        }

    def alarm(self) -> str:
        """An alarm in words."""
        way = "higher" if self.test.higher else "lower"
        return (
            f"alarm: the images no longer look like those before. At image {self.test.alarmed_at} of test "
            f"{self.number} scores had become {way}; the last {len(self._recent)} have a median p-value of "
            f"{self.recent_p_value:.2g} among those held out. Look at them: a burst of defects, or another "
            "lamp, lens or product"
        )
