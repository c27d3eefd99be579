"""Places of a picture by the features of an F that has learned from crops of normal pictures alone."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.scoring.features import FeatureScorer
from anomaly_gan.scoring.gaussians import GaussianPlaces
from anomaly_gan.types import Images


class LearnedPlaces(FeatureScorer, GaussianPlaces):
    """Gaussians of F's feature maps at each place of the whole picture; F has learned from crops of it.

    Args:
        maps: which of F's maps, by their place in `FeatureExtractor.maps` (0 is the largest), rising.
        squares: how many Gaussians there are along a side of the picture; places between them share one.
        of_features: see `FeatureScorer`.
    """

    primary = "places"
    ridge = 0.01

    def __init__(self, *, maps: list[int], squares: int, **of_features: Any):
        super().__init__(**of_features)
        self.network.eval()  # nothing is learned from what is only measured here
        with torch.no_grad():
            found = self.network.maps(torch.zeros(1, self.channels, self.image_size, self.image_size))
        if not maps or list(maps) != sorted(set(maps)) or maps[0] < 0 or maps[-1] >= len(found):
            raise UserError(f"scoring.maps={list(maps)}: rising numbers from 0 to {len(found) - 1}")
        self.used = list(maps)
        self.reserve(sum(found[number].shape[1] for number in maps), squares)
        self.network.train()

    def feature_maps(self, images: Images) -> list[Float[Tensor, "batch _ _ _"]]:
        found = self.network.maps(images)
        return [found[number] for number in self.used]
