"""Geometric transforms that a classifier learns to tell apart: those of Geom, GOAD and Rot+Trans."""

from itertools import product
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from anomaly_gan.transforms.shifts import Shifts, Views
from anomaly_gan.types import Images, Labels

_TURNS = 4
_STEPS = (0, 1, -1)
"""Translations, in units of their distance; 1 is down or to the right."""
_PART_OF_SIDE = 4
"""The released codes move images by 8 pixels of 32 and by 16 of 64: a quarter of the side."""


class Geometric(Shifts):
    """Horizontal flip or none, then a translation of the rows and of the columns, then a rotation.

    A translation moves the image by a quarter of its side, rounded down, down or up and right or left, or
    not at all. What it uncovers is the image mirrored at its edge. Rotations are counter-clockwise. No pixel
    value is changed: all transforms only put pixels elsewhere.

    The 72 of Geom (Golan & El-Yaniv, 2018) are the default; without flips they are the 36 of Rot+Trans
    (Hendrycks et al., 2019), without translations the 8 that GOAD calls simple (Bergman & Hoshen, 2020).
    The order is that of Geom's released code: the rotation runs fastest, then the columns (0, right, left),
    then the rows (0, down, up), then the flip.

    Args:
        flips: whether half of the transforms flip the image.
        translations: whether the image is moved.
        border: of what a translation uncovers: the edge pixel is repeated (symmetric), or not (reflect).
    """

    def __init__(
        self,
        flips: bool = True,
        translations: bool = True,
        border: Literal["symmetric", "reflect"] = "symmetric",
    ):
        self.border = border
        self.flips = (False, True) if flips else (False,)
        self.steps = _STEPS if translations else (0,)
        self.count = len(self.flips) * len(self.steps) ** 2 * _TURNS

    def __call__(self, images: Images) -> Views:
        return torch.cat(self._transformed(images))

    def single(self, images: Images, labels: Labels) -> Images:
        """Each image under the one shift that its label names: [B, C, H, H] and [B] -> [B, C, H, H]."""
        pixels = torch.arange(images.shape[2] * images.shape[3], device=images.device)
        # A picture of its own pixels' places, once transformed, says where each pixel comes from.
        sources = torch.cat(self._transformed(pixels.view(1, 1, *images.shape[2:]))).flatten(1)
        found = sources[labels].unsqueeze(1).expand(-1, images.shape[1], -1)
        return images.flatten(2).gather(2, found).view(images.shape)

    def places(self, device: torch.device | str = "cpu") -> Int64[Tensor, "shifts 4"]:
        """What each shift is made of, [K, 4]: flip 0..1, rows 0..2, columns 0..2 and turns 0..3."""
        parts = (self.flips, self.steps, self.steps, range(_TURNS))
        # Made on the device: a recorded graph cannot take numbers from the host.
        return torch.cartesian_prod(*(torch.arange(len(part), device=device) for part in parts))

    def _transformed(self, images: Tensor) -> list[Tensor]:
        """[B, C, H, H] under each of the shifts."""
        return [
            moved.rot90(turns, (2, 3))
            for flip in self.flips
            for moved in self._translated(images.flip(3) if flip else images)
            for turns in range(_TURNS)
        ]

    def _translated(self, images: Tensor) -> list[Tensor]:
        """[B, C, H, H] under each of the translations."""
        if len(self.steps) == 1:
            return [images]
        side = images.shape[2]
        distance = side // _PART_OF_SIDE
        mirrored = self._mirrored(self._mirrored(images, 2), 3)
        start = (mirrored.shape[2] - side) // 2
        return [
            mirrored[:, :, top : top + side, left : left + side]
            for top, left in product((start - step * distance for step in self.steps), repeat=2)
        ]

    def _mirrored(self, images: Tensor, dim: int) -> Tensor:
        """About three times as long in `dim`: the images between two mirror images of themselves."""
        reflection, side = images.flip(dim), images.shape[dim]
        if self.border == "symmetric":
            return torch.cat([reflection, images, reflection], dim)
        before, after = reflection.narrow(dim, 0, side - 1), reflection.narrow(dim, 1, side - 1)
        return torch.cat([before, images, after], dim)
