"""The yardstick that needs no learning: distance to the nearest normal image, pixel by pixel."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown
from anomaly_gan.precision import in_full_precision
from anomaly_gan.scoring.base import Attribution, Neighbours, Scorer
from anomaly_gan.types import ImageBatches, Images, Scores

LARGEST_SIDE = 32
CHUNK = 8192
"""Rows of the bank compared at a time."""


class RawPixels(Scorer):
    """Euclidean distance of the raw pixels to the nearest normal training image.

    Strong where classes differ in the place of their strokes (digits), near chance on natural images.
    Images of more than 32 pixels are averaged down to 32, so that any bank fits into memory.
    """

    primary = "raw_pixels"
    pixels: Tensor

    def __init__(self, *, image_size: int, channels: int):
        super().__init__(image_size=image_size, channels=channels)
        self.side = min(image_size, LARGEST_SIDE)
        self.register_buffer("pixels", torch.empty(0, channels * self.side**2))

    def fit(self, normal: ImageBatches) -> None:
        self.pixels = gather_unknown(torch.cat([self._flat(images) for images in normal]).to(self.device))

    def scores(self, images: Images) -> dict[str, Scores]:
        return {"raw_pixels": distance(self._flat(images.to(self.device)), self.pixels)}

    def attribution(self, images: Images, neighbours: int) -> Attribution:
        # Not by a matrix product, which takes an image for 0.01 away from itself; the score does not.
        exact = "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(self._flat(images), self.pixels, compute_mode=exact)
        nearest = distances.topk(min(neighbours, len(self.pixels)), largest=False)
        return Attribution({}, {}, Neighbours(nearest.values, nearest.indices, "distance"))

    def _flat(self, images: Images) -> Float[Tensor, "batch pixels"]:
        return F.adaptive_avg_pool2d(images, self.side).flatten(1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # There are as many rows as there were normal images, which a fresh module cannot know.
        self.pixels = torch.empty_like(state_dict.get(f"{prefix}pixels", self.pixels))
        super()._load_from_state_dict(state_dict, prefix, *args)


@in_full_precision
def distance(queries: Float[Tensor, "batch pixels"], rows: Float[Tensor, "rows pixels"]) -> Scores:
    """Of each of `queries` [B, P] to the nearest of `rows` [N, P], N >= 1."""
    best = queries.new_full(queries.shape[:1], torch.inf)  # len() would fix it in an export
    for part in rows.split(CHUNK):
        # ||x - y||^2 up to ||x||^2, by one matrix product: finds y, too rough to be the distance.
        nearness = part.square().sum(dim=1) - 2 * queries @ part.T  # [B, CHUNK]
        best = torch.minimum(best, (queries - part[nearness.argmin(dim=1)]).norm(dim=1))
    return best
