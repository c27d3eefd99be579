"""A loader's images as the networks take them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from anomaly_gan.data.image_set import Batch
from anomaly_gan.progress import track
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import Images


@dataclass(frozen=True)
class FloatBatches:
    """A loader's images as float batches on `device`, with progress; can be iterated again."""

    loader: DataLoader[Batch]
    device: torch.device
    description: str

    def __iter__(self) -> Iterator[Images]:
        for batch in track(self.loader, self.description, len(self.loader), "batches"):
            yield to_float(batch.images.to(self.device))
