"""DiffAugment (Zhao et al., 2020): D sees real and made images changed alike, and learns less by heart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from anomaly_gan.randomness import RowRng
from anomaly_gan.transforms.color import per_pixel
from anomaly_gan.types import Images

Change = Literal["color", "translation", "cutout"]

_LARGEST_SHIFT = 1 / 8
_CUTOUT_SIDE = 1 / 2
"""Parts of the image's side, as in the paper."""


@dataclass(frozen=True)
class DiffAugment:
    """Random changes of each image, differentiable in it; none where `changes` is empty.

    Args:
        changes: of color (brightness, saturation, contrast), translation (by up to 1/8 of the side) and
            cutout (a square of half the side becomes mid-grey), in the order in which they are made.
    """

    changes: Sequence[Change] = ()

    def __call__(self, images: Images, rng: RowRng) -> Images:
        """[B, C, H, W] in [0, 1] -> the same shape; colours may leave the range.

        `rng` is on the images' device.
        """
        functions = {"color": _color, "translation": _translation, "cutout": _cutout}
        for change in self.changes:
            images = functions[change](images, rng)
        return images


def _color(images: Images, rng: RowRng) -> Images:
    brightness, saturation, contrast = rng.uniform(len(images), 3).to(images.dtype).unbind(1)
    images = images + per_pixel((brightness - 0.5) / 2)  # half a unit of the range [-1, 1]
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * per_pixel(2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * per_pixel(contrast + 0.5)


def _translation(images: Images, rng: RowRng) -> Images:
    batch, _, height, width = images.shape
    largest = [round(side * _LARGEST_SHIFT) for side in (height, width)]
    y, x = (
        (uniform * (2 * most + 1)).long()
        for uniform, most in zip(rng.uniform(batch, 2).unbind(1), largest, strict=True)
    )
    padded = F.pad(images, (largest[1], largest[1], largest[0], largest[0]), value=0.5)
    rows = y[:, None] + torch.arange(height, device=images.device)  # [B, H]
    columns = x[:, None] + torch.arange(width, device=images.device)  # [B, W]
    image = torch.arange(batch, device=images.device)
    # Indexing puts the channels last.
    return padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )


def _cutout(images: Images, rng: RowRng) -> Images:
    batch, _, height, width = images.shape
    centres = rng.uniform(batch, 2).unbind(1)
    kept_along = []
    for side, centre in zip((height, width), centres, strict=True):
        length = round(side * _CUTOUT_SIDE)
        first = (side * centre).floor()[:, None] - length // 2
        place = torch.arange(side, device=images.device)
        kept_along.append((place < first) | (place >= first + length))
    kept = kept_along[0][:, None, :, None] | kept_along[1][:, None, None, :]  # [B, 1, H, W]
    return torch.where(kept, images, 0.5)
