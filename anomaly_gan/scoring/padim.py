"""PaDiM (Defard et al., 2021): at each place of the picture, a Gaussian of what is normal there."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown, world_size
from anomaly_gan.errors import UserError
from anomaly_gan.precision import in_full_precision
from anomaly_gan.randomness import make_rng
from anomaly_gan.scoring.dense import DenseScorer, in_parts
from anomaly_gan.types import ImageBatches, PlaceFeatures

REGULARISATION = 0.1
"""Added to each variance, in units of the mean variance of all places: pictures are few. PaDiM's .01 is of
another unit; what this is worth: docs/defects.md."""


class PaDiM(DenseScorer):
    """Mahalanobis distance of each place's features to those of normal pictures at the same place.

    For pictures that show their object always in the same position.

    Args:
        features: how many of the backbone's channels are used; they are drawn by `seed`.
        seed: of the draw.
        of_dense: see `BackboneScorer`.
    """

    primary = "padim"
    mean: Tensor
    """Of the features of each place, [places, D]."""
    whitening: Tensor
    """W with W^T W the inverse covariance there, [places, D, D]."""
    chosen: Tensor
    """Channels, [D]."""

    def __init__(self, *, features: int, seed: int, **of_dense: Any):
        super().__init__(**of_dense)
        there_are = sum(self.backbone.channels)
        if not 1 <= features <= there_are:
            raise UserError(
                f"scoring.features={features}: from 1 to {there_are}, the channels of these blocks"
            )
        drawn = torch.randperm(there_are, generator=make_rng("cpu", seed, "padim features"))[:features]
        with torch.no_grad():
            maps = self.backbone(torch.zeros(1, self.channels, self.image_size, self.image_size))
        places = maps[0].shape[2] * maps[0].shape[3]
        self.register_buffer("chosen", drawn.sort().values)
        self.register_buffer("mean", torch.zeros(places, features))
        self.register_buffer("whitening", torch.zeros(places, features, features))

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        sums, products, count = torch.zeros_like(self.mean), torch.zeros_like(self.whitening), 0
        origin = None
        for images in in_parts(normal):
            features = self._by_place(self.place_features(images))
            if origin is None:  # numbers near 0 lose nothing when their squares are added
                origin = gather_unknown(features.mean(dim=1)[None]).mean(dim=0)
            centred = features - origin[:, None]
            sums += centred.sum(dim=1)
            products += centred.mT @ centred
            count += len(images)
        assert origin is not None
        if world_size() > 1:
            sums, products = (gather_unknown(found[None]).sum(dim=0) for found in (sums, products))
            count = int(gather_unknown(torch.tensor([count], device=self.device)).sum())
        shift = sums / count
        self.mean = origin + shift
        self.whitening = whitening(products / count - shift[:, :, None] * shift[:, None])

    def place_scores(self, features: PlaceFeatures) -> Float[Tensor, "batch rows columns"]:
        by_place = self._by_place(features)  # [places, B, D]
        distances = mahalanobis(by_place, self.mean, self.whitening)
        return distances.T.unflatten(1, features.shape[1:3])

    def _by_place(self, features: PlaceFeatures) -> Float[Tensor, "places batch chosen"]:
        return features[..., self.chosen].flatten(1, 2).transpose(0, 1)


@in_full_precision
def whitening(covariance: Float[Tensor, "places feature feature"]) -> Float[Tensor, "places feature feature"]:
    """W with W^T W = (covariance + r I)^-1 at each place; r: a tenth of the mean variance of all."""
    size = covariance.shape[-1]
    r = REGULARISATION * covariance.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    identity = torch.eye(size).to(covariance)
    lower = torch.linalg.cholesky(covariance + r * identity)
    return torch.linalg.solve_triangular(lower, identity.expand_as(covariance), upper=False)


@in_full_precision
def mahalanobis(
    features: Float[Tensor, "places batch feature"],
    mean: Float[Tensor, "places feature"],
    whitening: Float[Tensor, "places feature feature"],
) -> Float[Tensor, "places batch"]:
    """||W (x - m)|| of each of B pictures at each place."""
    return ((features - mean[:, None]) @ whitening.mT).norm(dim=2)
