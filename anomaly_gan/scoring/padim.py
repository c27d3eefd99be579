"""PaDiM (Defard et al., 2021): at each place of the picture, a Gaussian of what is normal there."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.randomness import make_rng
from anomaly_gan.scoring.gaussians import GaussianPlaces
from anomaly_gan.scoring.pretrained import BackboneScorer
from anomaly_gan.types import PlaceFeatures


class PaDiM(BackboneScorer, GaussianPlaces):
    """Gaussians of some of a backbone's features at each place.

    Args:
        features: how many of the backbone's channels are used; they are drawn by `seed`.
        seed: of the draw.
        of_backbone: see `BackboneScorer`.
    """

    primary = "padim"
    ridge = 0.1  # PaDiM's .01 is of another unit; what this is worth: docs/defects.md
    chosen: Tensor
    """Channels, [D]."""

    def __init__(self, *, features: int, seed: int, **of_backbone: Any):
        super().__init__(**of_backbone)
        there_are = sum(self.backbone.channels)
        if not 1 <= features <= there_are:
            raise UserError(
                f"scoring.features={features}: from 1 to {there_are}, the channels of these blocks"
            )
        drawn = torch.randperm(there_are, generator=make_rng("cpu", seed, "padim features"))[:features]
        self.register_buffer("chosen", drawn.sort().values)
        self.reserve(features)

    def by_square(self, features: PlaceFeatures) -> Float[Tensor, "squares samples chosen"]:
        return super().by_square(features[..., self.chosen])
