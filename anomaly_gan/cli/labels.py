"""Labels of images that are predicted on: what each threshold costs, and what it finds."""

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from anomaly_gan.data.words import NORMAL, plain
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Prediction
from anomaly_gan.metrics.rates import AtRate, at_rates
from anomaly_gan.names import printable
from anomaly_gan.reporting import rates
from anomaly_gan.scoring.calibration import Threshold

COLUMNS = {"image", "label"}

CURVE_FILE = "thresholds.png"


ZERO = {"0", "00", "false"}
"""Other words for a normal image: 0, 0.0 and False, as `plain` has them."""


class Labels:
    """The labels in a CSV file with the columns image and label.

    A label is a word for normal (`data.words.NORMAL`, or 0), or anything else: anomalous, or a kind of
    defect. Images are paths that count from the current folder, or else from the file's own.

    Args:
        path: of the file.

    Raises:
        UserError: it cannot be read, or it names no image that is there.
    """

    def __init__(self, path: Path):
        self.path = path
        self.anomalous: dict[str, bool] = {}
        self.scores: list[float] = []
        self.labels: list[bool] = []
        try:
            with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
                rows = csv.DictReader(file)
                if not set(rows.fieldnames or ()) >= COLUMNS:
                    raise UserError(f"labels={path}: the first line must name the columns image and label")
                for row in rows:
                    self._add(row["image"] or "", plain(row["label"] or ""), rows.line_num)
        except (OSError, csv.Error) as wrong:
            raise UserError(f"labels={path}: cannot be read as a CSV file: {wrong}") from wrong
        if not any(map(os.path.exists, self.anomalous)):
            raise UserError(f"labels={path}: none of the {len(self.anomalous)} images that it names is there")

    def _add(self, name: str, label: str, line: int) -> None:
        if not name or not label:
            raise UserError(f"labels={self.path}: line {line} has no {'label' if name else 'image'}")
        here, beside = os.path.abspath(name), os.path.abspath(self.path.parent / name)
        key = beside if not os.path.exists(here) and os.path.exists(beside) else here
        anomalous = label not in NORMAL | ZERO
        if self.anomalous.setdefault(key, anomalous) is not anomalous:
            raise UserError(f"labels={self.path}: line {line} gives {printable(name)} another label")

    def noting(self, predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        """The same predictions; scores of images that have a label are kept."""
        for prediction in predictions:
            label = self.anomalous.get(os.path.abspath(str(prediction.path)))
            if label is not None and prediction.score is not None:
                self.scores.append(prediction.score)
                self.labels.append(label)
            yield prediction

    def tell(self, threshold: Threshold, folder: Path) -> list[AtRate]:
        """Say what each threshold costs and finds, and leave table and picture in `folder`.

        Raises:
            UserError: none of the images that were scored has a label.
        """
        if not self.scores:
            raise UserError(f"labels={self.path}: it names none of the images that were scored")
        entries = self.at_rates(threshold)
        folder.mkdir(exist_ok=True)
        rates.write(folder / "thresholds.csv", entries)
        defects = sum(self.labels)
        title = f"{len(self.labels) - defects} normal and {defects} anomalous images with labels"
        rates.draw(folder / CURVE_FILE, entries, title)
        print(f"{title}; a threshold for each rate, what it costs and finds (95 % intervals):")
        print("\n".join(rates.lines(entries)))
        print(f"thresholds: {folder}; threshold.false_positive_rate=RATE chooses one")
        return entries

    def at_rates(self, threshold: Threshold) -> list[AtRate]:
        """What the thresholds of `threshold`'s held-out images do with the images that have a label."""
        return at_rates(threshold.at_other_rates(), np.array(self.scores), np.array(self.labels, dtype=bool))
