"""At each place of the picture a Gaussian of the features that are normal there, as PaDiM has it."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import average_, gather_unknown
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
        if squares is not None and squares < 1:
            raise UserError(f"scoring.squares={squares} must be at least 1, or null for a Gaussian a place")
        self.squares = min(squares or places, places)
        if places % self.squares:
            raise UserError(
                f"scoring.squares={squares}: image_size={self.image_size} has {places} places along a side, "
                "which has to be a multiple"
            )
        self.features = features
        # Nothing before the fit: it would be in every checkpoint of a training.
        self.register_buffer("mean", torch.empty(0, features))
        self.register_buffer("whitening", torch.empty(0, features, features))

    def fit_places(self, normal: ImageBatches) -> None:
        sums = torch.zeros(self.squares**2, self.features, device=self.device)
        products = torch.zeros(self.squares**2, self.features, self.features, device=self.device)
        places = 0
        origin = None
        for images in in_parts(normal):
            features = self.by_square(self.place_features(images))
            if origin is None:  # numbers near 0 lose nothing when their squares are added
                origin = gather_unknown(features.mean(dim=1)[None]).mean(dim=0)
            centred = features - origin[:, None]
            sums += centred.sum(dim=1)
            products += centred.mT @ centred
            places += features.shape[1]
        assert origin is not None
        count = torch.tensor(float(places), device=self.device)
        average_([sums, products, count])  # over processes; what is divided by count is of all their places
        shift = sums / count
        self.mean = origin + shift
        self.whitening = whitening(products / count - shift[:, :, None] * shift[:, None], self.ridge)

    def place_scores(self, features: PlaceFeatures) -> Float[Tensor, "batch rows columns"]:
        distances = mahalanobis(self.by_square(features), self.mean, self.whitening)
        side = features.shape[1] // self.squares
        grid = distances.view(self.squares, self.squares, features.shape[0], side, side)
        return grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # A fresh scorer has none, and a file from the middle of a training neither.
        fitted = len(state_dict.get(f"{prefix}mean", ())) > 0
        squares = self.squares**2 if fitted else 0
        self.mean = self.mean.new_empty(squares, self.features)
        self.whitening = self.mean.new_empty(squares, self.features, self.features)
        super()._load_from_state_dict(state_dict, prefix, *args)

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
    lower, failed = torch.linalg.cholesky_ex(covariance + r * identity)
    lower[failed > 0] = torch.nan  # where features are no numbers: scores are checked for that
    return torch.linalg.solve_triangular(lower, identity.expand_as(covariance), upper=False)


@in_full_precision
def mahalanobis(
    features: Float[Tensor, "squares samples feature"],
    mean: Float[Tensor, "squares feature"],
    whitening: Float[Tensor, "squares feature feature"],
) -> Float[Tensor, "squares samples"]:
    """||W (x - m)|| of each sample of each square."""
    return ((features - mean[:, None]) @ whitening.mT).norm(dim=2)
