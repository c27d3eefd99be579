"""A trained detector in a user's own program."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anomaly_gan import checkpoint
from anomaly_gan.data.decode import CorruptImage, decode
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.transforms.convert import to_float


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one file."""

    path: Path
    scores: dict[str, float]
    """Every score and part, higher = more anomalous; empty where the file could not be read."""
    error: str | None = None
    """Why the file could not be read."""


class Detector:
    """Scores image files with a trained detector.

    Args:
        method: trained, with its bank.
        data: how its images were read (`OneClassData.describe()`).
        device: where it works.
    """

    def __init__(self, method: AnomalyDetector, data: dict[str, Any], device: str | torch.device = "cpu"):
        self.method = method.to(device)
        self.form = {key: data[key] for key in ("image_size", "channels", "resize")}
        self.device = torch.device(device)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "Detector":
        """From a run's folder or its detector.ckpt.

        Raises:
            UserError: there is no such file, or it is no detector.
        """
        file = checkpoint.read(path)
        return cls(file.build(), file.data, device)

    @property
    def primary(self) -> str:
        """The score that ranks."""
        return self.method.primary

    def predict(self, paths: Iterable[str | Path], batch_size: int = 256) -> Iterator[Prediction]:
        """Score image files of any mode and size, in order; a file that cannot be read says so itself.

        Args:
            paths: of the files.
            batch_size: images read and scored at a time.
        """
        waiting = [Path(path) for path in paths]
        for start in range(0, len(waiting), batch_size):
            yield from self._predict(waiting[start : start + batch_size])

    def _predict(self, paths: list[Path]) -> Iterator[Prediction]:
        images, errors = [], {}
        for path in paths:
            try:
                images.append(decode(path, **self.form))
            except CorruptImage as corrupt:
                errors[path] = str(corrupt)
        scores: dict[str, list[float]] = {}
        if images:
            batch = to_float(torch.stack(images).to(self.device))
            scores = {name: values.tolist() for name, values in self.method.score_all(batch).items()}
        row = 0
        for path in paths:
            if path in errors:
                yield Prediction(path, {}, errors[path])
            else:
                yield Prediction(path, {name: values[row] for name, values in scores.items()})
                row += 1
