"""PatchCore (Roth et al., 2022): the nearest of some normal patches, wherever in a picture these were."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown
from anomaly_gan.errors import UserError
from anomaly_gan.precision import in_full_precision
from anomaly_gan.randomness import make_rng
from anomaly_gan.scoring.coreset import farthest_points
from anomaly_gan.scoring.dense import DenseScorer, in_parts, rng_of
from anomaly_gan.scoring.pretrained import BackboneScorer
from anomaly_gan.types import ImageBatches, PlaceFeatures

CHUNK = 1024
"""Rows of the bank compared at a time: more take memory, and are no faster."""


class PatchCore(BackboneScorer, DenseScorer):
    """Distance of each place's features to the nearest of a bank of normal ones.

    The bank is chosen from all normal places by `farthest_points`, on a random projection of their features.
    Other than in the paper, a picture's score is the highest of its blurred map, and is not weighed by how
    near the neighbours of the nearest place in the bank are.

    Args:
        patches: how many the bank holds at most.
        chosen_from: about how many places they are chosen from: as many are drawn of each picture as make
            that number, rounded up.
        projection: features by which they are chosen.
        seed: of the draws.
        of_backbone: see `BackboneScorer`.
    """

    primary = "patchcore"
    bank: Tensor
    """[N, D]."""

    def __init__(self, *, patches: int, chosen_from: int, projection: int, seed: int, **of_backbone: Any):
        super().__init__(**of_backbone)
        for name, value in (("patches", patches), ("projection", projection)):
            if value < 1:
                raise UserError(f"scoring.{name}={value} must be at least 1")
        if chosen_from < patches:
            raise UserError(f"scoring.chosen_from={chosen_from} must be at least scoring.patches={patches}")
        self.patches, self.chosen_from, self.projection, self.seed = patches, chosen_from, projection, seed
        self.register_buffer("bank", torch.empty(0, sum(self.backbone.channels)))

    def fit_places(self, normal: ImageBatches) -> None:
        here = torch.tensor([float(sum(len(batch) for batch in normal))], device=self.device)
        each = -(-self.chosen_from // int(gather_unknown(here).sum()))  # of an image, rounded up
        kept: list[Tensor] = []
        for batch in in_parts(normal):
            of_batch = self._compared(self.place_features(batch)).flatten(1, 2)
            for image, places in zip(batch, of_batch, strict=True):
                kept.append(places[self._drawn(image, len(places), each)])
        places = gather_unknown(torch.cat(kept))
        size = len(self.bank.T)
        directions = torch.randn(size, self.projection, generator=make_rng("cpu", self.seed, "projection"))
        projected = places @ directions.to(places) if self.projection < size else places
        self.bank = places[farthest_points(projected, min(self.patches, len(places)))]

    def place_scores(self, features: PlaceFeatures) -> Float[Tensor, "batch rows columns"]:
        places = self._compared(features)
        return nearest_distance(places.flatten(0, 2), self.bank).unflatten(0, places.shape[:3])

    def _drawn(self, image: Float[Tensor, "channels height width"], places: int, count: int) -> Tensor:
        """Which places of an image are among those that the bank is chosen from, in ascending order.

        It follows from the image alone, so neither batches nor processes make a difference.
        """
        rng = rng_of(image, self.seed, "patches")
        return torch.randperm(places, generator=rng)[:count].sort().values.to(image.device)

    def _compared(self, features: PlaceFeatures) -> PlaceFeatures:
        """Features of each block divided by their length: none outweighs the other, nor does contrast."""
        blocks = features.split(self.backbone.channels, dim=3)
        return torch.cat([F.normalize(block, dim=3) for block in blocks], dim=3)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # A fresh scorer cannot know how many rows there were.
        self.bank = torch.empty_like(state_dict.get(f"{prefix}bank", self.bank))
        super()._load_from_state_dict(state_dict, prefix, *args)


@in_full_precision
def nearest_distance(
    queries: Float[Tensor, "queries feature"], rows: Float[Tensor, "rows feature"]
) -> Float[Tensor, " queries"]:
    """Euclidean distance of each query to the nearest row."""
    squares = torch.stack(
        [
            torch.addmm(part.square().sum(dim=1), queries, part.T, alpha=-2).amin(dim=1)
            for part in rows.split(CHUNK)
        ]
    ).amin(dim=0)
    return (squares + queries.square().sum(dim=1)).clamp_min(0).sqrt()
