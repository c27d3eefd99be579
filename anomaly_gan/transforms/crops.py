"""Crops of pictures at their own scale, to learn from what is small in them."""

import torch
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.randomness import RowRng
from anomaly_gan.transforms.geometry import Resized
from anomaly_gan.types import Images


class RandomCrops:
    """A square part of each picture, at a drawn place, pixel by pixel.

    Args:
        side: of the part, pixels.
    """

    def __init__(self, side: int):
        if side < 1:
            raise UserError(f"method.crops.side={side} must be at least 1")
        self.side = side

    def __call__(self, images: Images, rng: RowRng) -> Resized:
        """[B, C, H, H] -> [B, C, side, side], on the images' device.

        Raises:
            UserError: the pictures are smaller than their parts.
        """
        free = images.shape[2] - self.side
        if free < 0:
            raise UserError(
                f"method.crops.side={self.side} is more than the pictures have ({images.shape[2]} pixels); "
                "give less, or a larger image_size"
            )
        return windows(images, self.side, (rng.uniform(len(images), 2) * (free + 1)).long())


def windows(images: Images, side: int, corner: Tensor) -> Resized:
    """Windows of `side` pixels; beyond an edge the image goes on at the other one.

    Args:
        images: [B, C, H, W].
        side: of the windows, pixels.
        corner: the first row and the first column of each, [B, 2].
    """
    batch, _, height, width = images.shape
    at = torch.arange(side, device=images.device)
    rows, columns = (corner[:, :1] + at) % height, (corner[:, 1:] + at) % width  # [B, side]
    index = torch.arange(batch, device=images.device)[:, None, None]
    found: Tensor = images.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return found.permute(0, 3, 1, 2)
