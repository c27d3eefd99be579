"""At each place of the picture a Gaussian of the features that are normal there, as PaDiM has it."""

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather_unknown, world_size
from anomaly_gan.errors import UserError
from anomaly_gan.precision import in_full_precision
from anomaly_gan.scoring.dense import DenseScorer, in_parts
from anomaly_gan.types import ImageBatches, PlaceFeatures


class GaussianPlaces(DenseScorer):
    """Mahalanobis distance of each place's features to those of normal pictures at the same place.

    For pictures that show their object always in the same position. Places that lie in one square of a grid
    may share a Gaussian, which forgives small shifts of the object and keeps the detector's file small. A
    scorer of this kind calls `reserve` once it has its network.

    Args:
        of_dense: see `DenseScorer`.
    """

    mean: Tensor
    """Of the features of each square of places, [squares, D]."""
    whitening: Tensor
    """W with W^T W the inverse covariance there, [squares, D, D]."""
    ridge: float
    """Added to each variance, in units of the mean variance of all squares: pictures are few."""

    def reserve(self, features: int, squares: int | None = None) -> None:
        """Make room for Gaussians of `features` of the network's features.

        Args:
            features: D.
            squares: how many Gaussians there are along a side of the picture, if it has as many places;
                None: as many as places.

        Raises:
            UserError: the places along a side are no multiple of them.
        """
        with torch.no_grad():
            first = self.feature_maps(torch.zeros(1, self.channels, self.image_size, self.image_size))[0]
        places = first.shape[2]
        self.squares = min(squares or places, places)
        if places % self.squares:
            raise UserError(
                f"scoring.squares={squares}: image_size={self.image_size} has {places} places along a side, "
                "which has to be a multiple"
            )
        self.register_buffer("mean", torch.zeros(self.squares**2, features))
        self.register_buffer("whitening", torch.zeros(self.squares**2, features, features))

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        self.eval()
        sums, products, count = torch.zeros_like(self.mean), torch.zeros_like(self.whitening), 0
        origin = None
        for images in in_parts(normal):
            features = self.by_square(self.place_features(images))
            if origin is None:  # numbers near 0 lose nothing when their squares are added
                origin = gather_unknown(features.mean(dim=1)[None]).mean(dim=0)
            centred = features - origin[:, None]
            sums += centred.sum(dim=1)
            products += centred.mT @ centred
            count += features.shape[1]
        assert origin is not None
        if world_size() > 1:
            sums, products = (gather_unknown(found[None]).sum(dim=0) for found in (sums, products))
            count = int(gather_unknown(torch.tensor([count], device=self.device)).sum())
        shift = sums / count
        self.mean = origin + shift
        self.whitening = whitening(products / count - shift[:, :, None] * shift[:, None], self.ridge)

    def place_scores(self, features: PlaceFeatures) -> Float[Tensor, "batch rows columns"]:
        distances = mahalanobis(self.by_square(features), self.mean, self.whitening)
        side = features.shape[1] // self.squares
        grid = distances.view(self.squares, self.squares, features.shape[0], side, side)
        return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)

    def by_square(self, features: PlaceFeatures) -> Float[Tensor, "squares samples chosen"]:
        """Those features that are compared, [B, h, w, D] -> [S * S, B * h / S * w / S, D]."""
        side = features.shape[1] // self.squares
        grid = features.unflatten(2, (self.squares, side)).unflatten(1, (self.squares, side))
        return grid.permute(1, 3, 0, 2, 4, 5).flatten(2, 4).flatten(0, 1)


@in_full_precision
def whitening(
    covariance: Float[Tensor, "squares feature feature"], ridge: float
) -> Float[Tensor, "squares feature feature"]:
    """W with W^T W = (covariance + r I)^-1 of each square; r: `ridge` times the mean variance of all."""
    size = covariance.shape[-1]
    r = ridge * covariance.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-12)
    identity = torch.eye(size).to(covariance)
    lower = torch.linalg.cholesky(covariance + r * identity)
    return torch.linalg.solve_triangular(lower, identity.expand_as(covariance), upper=False)


@in_full_precision
def mahalanobis(
    features: Float[Tensor, "squares samples feature"],
    mean: Float[Tensor, "squares feature"],
    whitening: Float[Tensor, "squares feature feature"],
) -> Float[Tensor, "squares samples"]:
    """||W (x - m)|| of each sample of each square."""
    return ((features - mean[:, None]) @ whitening.mT).norm(dim=2)
