"""The yardstick that needs no learning: distance to the nearest normal image, pixel by pixel."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.types import ImageBatches, Images, Scores

LARGEST_SIDE = 32
CHUNK = 8192
"""Rows of the bank compared at a time."""


class RawPixels(AnomalyDetector):
    """Euclidean distance of the raw pixels to the nearest normal training image.

    Strong where classes differ in the place of their strokes (digits), near chance on natural images.
    Images of more than 32 pixels are averaged down to 32, so that any bank fits into memory.
    """

    name = "raw_pixels"
    primary = "raw_pixels"
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pixels", torch.empty(0, 0))

    def fit_scorer(self, normal: ImageBatches) -> None:
        self.pixels = gather_unknown(torch.cat([_flat(images) for images in normal]).to(self.device))

    def score_all(self, images: Images) -> dict[str, Scores]:
        queries = _flat(images.to(self.device))
        best = queries.new_full((len(queries),), torch.inf)
        for rows in self.pixels.split(CHUNK):
            # ||x - y||^2 up to ||x||^2, by one matrix product: finds y, too rough to be the distance.
            nearness = rows.square().sum(dim=1) - 2 * queries @ rows.T  # [B, CHUNK]
            best = torch.minimum(best, (queries - rows[nearness.argmin(dim=1)]).norm(dim=1))
        return {"raw_pixels": best}


def _flat(images: Images) -> Float[Tensor, "batch pixels"]:
    side = min(images.shape[-1], LARGEST_SIDE)
    return F.adaptive_avg_pool2d(images, side).flatten(1)
