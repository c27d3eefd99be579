"""The yardstick that needs no learning: distance to the nearest normal image, pixel by pixel."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.precision import in_full_precision
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
        return {"raw_pixels": distance(_flat(images.to(self.device)), self.pixels)}


@in_full_precision
def distance(queries: Float[Tensor, "batch pixels"], rows: Float[Tensor, "rows pixels"]) -> Scores:
    """Of each of `queries` [B, P] to the nearest of `rows` [N, P], N >= 1."""
    best = queries.new_full((len(queries),), torch.inf)
    for part in rows.split(CHUNK):
        # ||x - y||^2 up to ||x||^2, by one matrix product: finds y, too rough to be the distance.
        nearness = part.square().sum(dim=1) - 2 * queries @ part.T  # [B, CHUNK]
        best = torch.minimum(best, (queries - part[nearness.argmin(dim=1)]).norm(dim=1))
    return best


def _flat(images: Images) -> Float[Tensor, "batch pixels"]:
    side = min(images.shape[-1], LARGEST_SIDE)
    return F.adaptive_avg_pool2d(images, side).flatten(1)
