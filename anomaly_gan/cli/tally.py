"""Predictions as they come: into both tables, with what a person is told of them kept aside."""

import heapq
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly_gan.durable import replacing_text
from anomaly_gan.inference import Detector, Prediction
from anomaly_gan.results import csv_row
from anomaly_gan.scoring.calibration import DECISION

TABLES = (".csv", ".jsonl")
"""What `output` is written as."""

OTHERS = 20
"""Images drawn at random from those that are not among the most anomalous."""

UNREAD = 50
"""Files whose reasons are kept, of those that could not be read."""


@dataclass
class Tally:
    """What has been predicted, in short: of any number of images it holds the same few."""

    kept: int
    """How many of the most anomalous images are held."""
    top: list[Prediction] = field(default_factory=list)
    """These, first the one that is most so."""
    others: list[Prediction] = field(default_factory=list)
    """At most `OTHERS` of the images below, each set of them as likely as any other."""
    below: int = 0
    """How many images that were scored are not in `top`."""
    scored: int = 0
    unread: int = 0
    """How many files could not be read."""
    first_unread: list[str] = field(default_factory=list)
    """Why the first `UNREAD` of them could not."""
    anomalous: int = 0
    """How many images are called so."""
    _heap: list[tuple[float, int, Prediction]] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, prediction: Prediction) -> None:
        """Count one image."""
        if prediction.score is None:
            self.unread += 1
            if len(self.first_unread) < UNREAD:
                self.first_unread.append(str(prediction.error))
            return
        self.scored += 1
        self.anomalous += prediction.anomalous is True
        # Of equal scores the first one counts for more.
        item = (prediction.score, -prediction.index, prediction)
        if len(self._heap) < self.kept:
            heapq.heappush(self._heap, item)
            return
        *_, left = heapq.heappushpop(self._heap, item)
        # Every image that is not in the end at the top comes by here once: a sample of them by Algorithm R.
        self.below += 1
        place = self._random.randrange(self.below)
        if len(self.others) < OTHERS:
            self.others.append(left)
        elif place < OTHERS:
            self.others[place] = left

    def close(self) -> None:
        """When all are counted: `top` in its order, and the others in theirs."""
        self.top = [prediction for *_, prediction in sorted(self._heap, reverse=True)]
        self.others.sort(key=lambda prediction: (-(prediction.score or 0.0), prediction.index))


def tables(output: Path) -> list[Path]:
    """The paths of the tables."""
    return [output.with_name(output.name + suffix) for suffix in TABLES]


def write(
    predictions: Iterable[Prediction], detector: Detector, output: Path, kept: int, together: bool = False
) -> Tally:
    """Write each prediction to `output`.csv and .jsonl as it comes; both appear when all are there.

    `together`: whether the images are judged together, so that their p-values are adjusted, too.

    Returns:
        What they say, with the `kept` most anomalous images.
    """
    tally = Tally(kept)
    csv, jsonl = tables(output)
    with replacing_text(csv) as table, replacing_text(jsonl) as lines:
        adjusted = ["adjusted_p_value"] if together else []
        header = ["file", "score", "p_value", *adjusted, "decision", *detector.score_names, "error"]
        table.write(csv_row(header))
        for prediction in predictions:
            cells = _row(prediction, detector.score_names)
            row = {name: cells[name] for name in header}
            table.write(csv_row(row.values()))
            lines.write(json.dumps(row) + "\n")
            tally.add(prediction)
    tally.close()
    return tally


def _row(prediction: Prediction, names: list[str]) -> dict[str, Any]:
    return {
        "file": str(prediction.path),
        "score": prediction.score,
        "p_value": prediction.p_value,
        "adjusted_p_value": prediction.adjusted_p_value,
        "decision": None if prediction.anomalous is None else DECISION[prediction.anomalous],
        **{name: prediction.scores.get(name) for name in names},
        "error": prediction.error,
    }
