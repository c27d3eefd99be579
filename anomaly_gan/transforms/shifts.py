"""The shifts S: transformations that a method learns to tell apart."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.randomness import RowRng
from anomaly_gan.types import Images, Labels

Views = Float[Tensor, "views channels height width"]
"""Several transformed copies of a batch of images, in [0, 1]."""


class Shifts(ABC):
    """A fixed number of transformations; shift 0 is the identity."""

    count: int
    """K, how many there are."""

    @abstractmethod
    def __call__(self, images: Images) -> Views:
        """[B, C, H, H] -> [K*B, C, H, H], shift-major: all images under S_0, then all under S_1, ..."""

    def drawn(self, images: Images, rng: RowRng) -> Views:
        """Likewise, as a training sees them: the same, but of shifts that are drawn for each image anew."""
        return self(images)

    def labels(self, batch: int, device: torch.device | str) -> Labels:
        """The shift of each row of `self(images)` for `batch` images: [K*B] in 0..K-1."""
        labels: Tensor = torch.arange(self.count, device=device).repeat_interleave(batch)
        return labels


class Rotations(Shifts):
    """Rotations by 0, 90, 180 and 270 degrees, counter-clockwise."""

    count = 4

    def __call__(self, images: Images) -> Views:
        return torch.cat([images.rot90(k, (2, 3)) for k in range(self.count)])
