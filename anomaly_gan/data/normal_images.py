"""What a detector's file remembers of the pictures that it learned from: to show them, not to score."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from anomaly_gan.data.image_set import Batch
from anomaly_gan.types import RawImages

LARGEST_SIDE, SMALLEST_SIDE = 32, 16
"""Of a thumbnail, pixels; smaller ones could not be recognised."""

LIMIT = 16 * 2**20
"""Bytes that all thumbnails may take: as much as the bank of 8,000 images."""


Thumbnails = UInt8[Tensor, "images channels side side"]


@dataclass(frozen=True)
class NormalImages:
    """The training images, in the order of the bank's rows."""

    names: list[str]
    """As in `ImageSet.names`."""
    thumbnails: Thumbnails | None
    """None where there are too many images for thumbnails of 16 pixels."""

    @classmethod
    def of(cls, names: list[str], batches: Iterable[Batch], channels: int, image_size: int) -> "NormalImages":
        """Of a training set's `names` and images; these are not looked at where no thumbnails are kept."""
        side = min(image_size, LARGEST_SIDE, math.isqrt(LIMIT // (len(names) * channels)))
        if side < min(SMALLEST_SIDE, image_size):
            return cls(names, None)
        return cls(names, torch.cat([_shrunk(batch.images.cpu(), side) for batch in batches]))


def _shrunk(images: RawImages, side: int) -> Thumbnails:
    if images.shape[-1] == side:
        return images
    return F.adaptive_avg_pool2d(images.float(), side).round().to(torch.uint8)
