"""Whole pictures by the features of a network that was trained on other ones."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown
from anomaly_gan.errors import UserError
from anomaly_gan.precision import at_least_float32, in_full_precision
from anomaly_gan.scoring.base import Attribution, Neighbours
from anomaly_gan.scoring.dense import AT_A_TIME, in_parts
from anomaly_gan.scoring.pretrained import BackboneScorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import Embeddings, ImageBatches, Images, RawImages, Scores


class PooledNeighbours(BackboneScorer):
    """One less the mean cosine to the nearest normal pictures, of features averaged over all places.

    Args:
        neighbours: how many of the nearest.
        of_backbone: see `BackboneScorer`; the features of several blocks stand side by side.
    """

    primary = "pooled"
    bank: Tensor
    """Features of the normal pictures, each of length one, [N, D]."""

    def __init__(self, *, neighbours: int, **of_backbone: Any):
        super().__init__(**of_backbone)
        if neighbours < 1:
            raise UserError(f"scoring.neighbours={neighbours} must be at least 1")
        self.neighbours = neighbours
        self.register_buffer("bank", torch.empty(0, sum(self.backbone.channels)))

    def embed(self, images: Images) -> Embeddings:
        """Features of images in [0, 1], each of length one: [B, D]."""
        with self.autocast(images.device):
            maps = self.feature_maps(images)
        blocks = [
            F.normalize(at_least_float32(found).mean((2, 3)), dim=1) for found in maps
        ]  # none outweighs another
        return F.normalize(torch.cat(blocks, dim=1), dim=1)

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        self.bank = gather_unknown(torch.cat([self.embed(images) for images in in_parts(normal)]))

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        return {"pooled": torch.cat([self._distance(part) for part in images.split(AT_A_TIME)])}

    def forward(self, images: RawImages) -> Scores:
        return self._distance(to_float(images))

    @torch.inference_mode()
    def attribution(self, images: Images, neighbours: int) -> Attribution:
        best = cosines(self.embed(images), self.bank).topk(min(neighbours, len(self.bank)), dim=1)
        return Attribution({}, {}, Neighbours(best.values, best.indices, "cosine"))

    def _distance(self, images: Images) -> Scores:
        found = cosines(self.embed(images), self.bank)
        return 1 - found.topk(min(self.neighbours, len(self.bank)), dim=1).values.mean(dim=1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # A fresh scorer cannot know how many rows there were.
        self.bank = torch.empty_like(state_dict.get(f"{prefix}bank", self.bank))
        super()._load_from_state_dict(state_dict, prefix, *args)


@in_full_precision
def cosines(
    queries: Float[Tensor, "batch feature"], rows: Float[Tensor, "rows feature"]
) -> Float[Tensor, "batch rows"]:
    """Of vectors of length one."""
    return queries @ rows.T
