"""What a classifier of transforms says -> anomaly scores: those of Geom, Rot+Trans and GOAD.

Geom: Golan & El-Yaniv, 2018; Rot+Trans: Hendrycks et al., 2019; GOAD: Bergman & Hoshen, 2020. An image is
normal where the classifier knows which transform was applied to it.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import Scores

TransformLogits = Float[Tensor, "batch shifts classes"]
"""Per image and transform: the classifier's logits for the image under it; class k is transform k."""

SMALLEST_PROBABILITY = 1e-37
"""Smaller probabilities count as this, about the smallest that float32 holds with all its digits. A
probability of 0, as the released code can have it, has no logarithm."""

FIXED_POINT_STEPS = 1000
TOLERANCE = 1e-9
"""The fit ends where a step moves a transform's parameters by less, in the Euclidean norm."""
NEWTON_STEPS = 5

_EULER = -torch.digamma(torch.ones((), dtype=torch.float64)).item()
_LEAST_SPREAD = 1e-12
"""Keeps the fit finite where all images have the same probabilities, and the best density is infinite."""


class Moments(NamedTuple):
    """What a Dirichlet's likelihood depends on, for each transform: means over images."""

    probability: Float64[Tensor, "shifts classes"]
    """Of the softmax."""
    log_probability: Float64[Tensor, "shifts classes"]
    """Of its logarithm."""


def softmax_moments(batches: Iterable[Float[Tensor, "_ shifts classes"]]) -> Moments:
    """The moments of all images of `batches`, which are logits [B, K, K]; one image at least."""
    counts, *sums = zip(*((len(logits), *_sums(logits)) for logits in batches), strict=True)
    return Moments(*(torch.stack(parts).sum(0) / sum(counts) for parts in sums))


def fit_dirichlets(moments: Moments) -> Float64[Tensor, "shifts classes"]:
    """Per transform, the Dirichlet under which the softmax of the normal images is most likely.

    The fixed-point iteration of Minka (2000) as in Geom's released code, from the mean times an approximate
    sum of the parameters (Wicker et al., 2008). Each transform stops for itself.

    Returns:
        The parameters alpha > 0 of each transform. [K, K]
    """
    mean, mean_log = moments
    spread = (mean * (mean.log() - mean_log)).sum(1, keepdim=True).clamp_min(_LEAST_SPREAD)
    alphas = mean * (mean.shape[1] - 1) * _EULER / spread
    moving = torch.ones_like(spread, dtype=torch.bool)
    for _ in range(FIXED_POINT_STEPS):
        moved = _inverse_digamma(alphas.sum(1, keepdim=True).digamma() + mean_log)
        distance = (moved - alphas).norm(dim=1, keepdim=True)
        alphas = torch.where(moving, moved, alphas)
        moving = moving & (distance >= TOLERANCE)
        if not moving.any():
            break
    return alphas


@in_full_precision
def dirichlet_score(logits: TransformLogits, alphas: Float[Tensor, "shifts classes"]) -> Scores:
    """Geom's score: minus the mean over transforms T of the sum of (alpha - 1) log p(T(x)).

    Up to a constant it is minus the mean logarithm of the density at the image's softmax.

    Args:
        logits: [B, K, K].
        alphas: [K, K], of `fit_dirichlets`.
    """
    return dirichlet_parts(logits, alphas).sum(1)


@in_full_precision
def dirichlet_parts(
    logits: TransformLogits, alphas: Float[Tensor, "shifts classes"]
) -> Float[Tensor, "batch shifts"]:
    """What each transform adds to `dirichlet_score`: [B, K], whose sum over the transforms is the score."""
    return -((alphas - 1).to(logits.dtype) * _log_softmax(logits)).sum(2) / logits.shape[1]


@in_full_precision
def simplified_score(logits: TransformLogits) -> Scores:
    """Geom's simplified score: minus the mean softmax of the right transform, in [-1, 0].

    Args:
        logits: [B, K, K].
    """
    return simplified_parts(logits).sum(1)


@in_full_precision
def simplified_parts(logits: TransformLogits) -> Float[Tensor, "batch shifts"]:
    """What each transform adds to `simplified_score`: [B, K], whose sum over the transforms is the score."""
    return -logits.softmax(2).diagonal(dim1=1, dim2=2) / logits.shape[1]


@in_full_precision
def rot_trans_score(
    rows: Float[Tensor, "batch views row_classes"],
    columns: Float[Tensor, "batch views column_classes"],
    turns: Float[Tensor, "batch views turn_classes"],
    labels: Int64[Tensor, "views 3"],
) -> Scores:
    """Rot+Trans's score: minus the sum over the views of the three right probabilities.

    Args:
        rows: logits of each view's translation of the rows, 3 classes. [B, V, 3]
        columns: logits of its translation of the columns, 3 classes. [B, V, 3]
        turns: logits of its rotation, 4 classes. [B, V, 4]
        labels: the right class of each view in `rows`, `columns` and `turns`. [V, 3]
    """
    return rot_trans_parts(rows, columns, turns, labels).sum((1, 2))


@in_full_precision
def rot_trans_parts(
    rows: Float[Tensor, "batch views row_classes"],
    columns: Float[Tensor, "batch views column_classes"],
    turns: Float[Tensor, "batch views turn_classes"],
    labels: Int64[Tensor, "views 3"],
) -> Float[Tensor, "batch views 3"]:
    """What each view and each of the three heads adds to `rot_trans_score`."""
    views = torch.arange(len(labels), device=labels.device)
    heads = zip((rows, columns, turns), labels.unbind(1), strict=True)
    return -torch.stack([logits.softmax(2)[:, views, label] for logits, label in heads], dim=2)


@in_full_precision
def goad_score(
    features: Float[Tensor, "batch shifts feature"], centres: Float[Tensor, "shifts feature"]
) -> Scores:
    """GOAD's score: minus the sum over transforms m of log softmax_m(-||z_m - mu_m'||^2 for all m').

    Args:
        features: z, of each image under each transform. [B, K, D]
        centres: mu, the mean feature of the normal images under each transform. [K, D]
    """
    return goad_parts(features, centres).sum(1)


@in_full_precision
def goad_parts(
    features: Float[Tensor, "batch shifts feature"], centres: Float[Tensor, "shifts feature"]
) -> Float[Tensor, "batch shifts"]:
    """What each transform adds to `goad_score`: [B, K], whose sum over the transforms is the score."""
    # ||z||^2 is the same for all m' and leaves the softmax as it is.
    nearness = 2 * features @ centres.T - centres.square().sum(1)
    return -nearness.log_softmax(2).diagonal(dim1=1, dim2=2)


def _log_softmax(logits: TransformLogits) -> TransformLogits:
    return logits.log_softmax(2).clamp_min(math.log(SMALLEST_PROBABILITY))


@in_full_precision
def _sums(logits: TransformLogits) -> tuple[Tensor, Tensor]:
    """Over the images: of the softmax and of its logarithm, each [K, K]."""
    logs = _log_softmax(logits)
    return logs.exp().sum(0, dtype=torch.float64), logs.sum(0, dtype=torch.float64)


def _inverse_digamma(values: Float64[Tensor, "shifts classes"]) -> Float64[Tensor, "shifts classes"]:
    """The positive arguments whose digamma function is `values`, by Newton's rule from Minka's start."""
    x = torch.where(values >= -2.22, values.exp() + 0.5, -1 / (values + _EULER))
    for _ in range(NEWTON_STEPS):
        x = x - (x.digamma() - values) / torch.polygamma(1, x)
    return x
