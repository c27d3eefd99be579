"""The 72 geometric transforms of Geom (Golan & El-Yaniv, 2018), which GOAD uses too."""

from itertools import product

import torch
from torch import Tensor

from anomaly_gan.transforms.shifts import Views
from anomaly_gan.types import Images, Labels

_TURNS = 4
_PART_OF_SIDE = 4
"""The released code moves images by 8 pixels of 32 and by 16 of 64: a quarter of the side."""


class Geometric:
    """Horizontal flip or none, then a translation of the rows and of the columns, then a rotation.

    A translation moves the image by a quarter of its side, rounded down, down or up and right or left, or
    not at all. What it uncovers is the image mirrored at its edge, with the edge pixel repeated. Rotations
    are counter-clockwise. No pixel value is changed: all 72 only put pixels elsewhere.

    The order is that of the released code: the rotation runs fastest, then the columns (0, right, left),
    then the rows (0, down, up), then the flip.
    """

    count = 2 * 3 * 3 * _TURNS
    """K, the number of shifts; shift 0 is the identity."""

    def __call__(self, images: Images) -> Views:
        """[B, C, H, H] -> [K*B, C, H, H], shift-major: all images under S_0, then all under S_1, ..."""
        return torch.cat(_transformed(images))

    def single(self, images: Images, labels: Labels) -> Images:
        """Each image under the one shift that its label names: [B, C, H, H] and [B] -> [B, C, H, H]."""
        pixels = torch.arange(images.shape[2] * images.shape[3], device=images.device)
        # A picture of its own pixels' places, once transformed, says where each pixel comes from.
        sources = torch.cat(_transformed(pixels.view(1, 1, *images.shape[2:]))).flatten(1)
        found = sources[labels].unsqueeze(1).expand(-1, images.shape[1], -1)
        return images.flatten(2).gather(2, found).view(images.shape)

    def labels(self, batch: int, device: torch.device | str) -> Labels:
        """The shift of each row of `self(images)` for `batch` images: [K*B] in 0..K-1."""
        labels: Tensor = torch.arange(self.count, device=device).repeat_interleave(batch)
        return labels


def _transformed(images: Tensor) -> list[Tensor]:
    """[B, C, H, H] under each of the 72."""
    return [
        moved.rot90(turns, (2, 3))
        for flipped in (images, images.flip(3))
        for moved in _translated(flipped)
        for turns in range(_TURNS)
    ]


def _translated(images: Tensor) -> list[Tensor]:
    """[B, C, H, H] under each of the nine translations."""
    side = images.shape[2]
    distance = side // _PART_OF_SIDE
    mirrored = _mirrored(_mirrored(images, 2), 3)
    return [
        mirrored[:, :, side - down : 2 * side - down, side - right : 2 * side - right]
        for down, right in product((0, distance, -distance), repeat=2)
    ]


def _mirrored(images: Tensor, dim: int) -> Tensor:
    """Three times as long in `dim`: the images between two mirror images of themselves."""
    reflection = images.flip(dim)
    return torch.cat([reflection, images, reflection], dim)
