"""How far F's features of an image are from the nearest normal image, in units of how normal images differ.

The features are those of two depths of F, `Features.middle` and `Features.penultimate`, averaged over their
places, as square roots of distributions over kinds of thing (`scoring.hellinger`). The earlier ones know of
parts and of texture what the last, which tells shifts apart, has given up. What normal images differ
by anyhow then counts for less: along each principal component a difference is divided by the deviation of
normal images, to whose square the mean variance of all is added, so that rare ones are not blown up.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from anomaly_gan.precision import in_full_precision
from anomaly_gan.scoring.hellinger import roots

COMPONENTS = 128
"""Principal components that are kept of each shift: 64 lose .4 points, all (512 at width 16) gain nothing."""
SHRINKAGE = 1.0
"""How much of the mean variance is added to that of each component; from .3 to 10 it matters by .2 points."""

TYPICAL = 50
"""At least so many normal images, where there are as many, say what is typical of one."""

Described = Float[Tensor, "images shifts feature"]
Whitened = Float[Tensor, "images shifts component"]
WhitenedRows = Float[Tensor, "rows shifts component"]


class Whitening(NamedTuple):
    """By shift, how normal images differ."""

    centre: Float[Tensor, "shifts feature"]
    """Their mean. [K, P]"""
    axes: Float[Tensor, "shifts feature component"]
    """Principal components, each divided by its deviation, 0 where normal images have no more of them.
    [K, P, C], C at most 128"""
    rest: Float[Tensor, " shifts"]
    """What the length of all that lies outside of these components is multiplied by. [K]"""


@in_full_precision
def described(
    middle: Float[Tensor, "images shifts earlier"], penultimate: Described
) -> Float[Tensor, "images shifts both"]:
    """Averaged feature maps of both depths, at least 0, as the square roots of distributions. [B, K, P]"""
    return torch.cat([roots(penultimate), roots(middle)], dim=-1)


@in_full_precision
def whitening(normal: Described) -> Whitening:
    """That of the normal images, found in double precision."""
    centre = normal.double().mean(dim=0)
    axes, rest = [], []
    for shift, mean in enumerate(centre):
        difference = normal[:, shift].double() - mean
        values, vectors = torch.linalg.eigh(difference.T @ difference / len(normal))
        added = (SHRINKAGE * values.clamp_min(0).mean()).clamp_min(1e-12)
        scale = (values.clamp_min(0) + added).rsqrt()
        # Directions in which no normal image differs are none in particular: together they are the rest.
        varies = values > 1e-6 * values.amax().clamp_min(1e-12)
        axes.append((vectors * torch.where(varies, scale, 0))[:, -COMPONENTS:])
        rest.append(added.rsqrt())
    found = Whitening(centre, torch.stack(axes), torch.stack(rest))
    return Whitening(*(part.to(normal.dtype) for part in found))


@in_full_precision
def whitened(images: Described, by: Whitening) -> Whitened:
    """[B, K, P] -> [B, K, C + 1]: along each component, and the length of the rest."""
    difference = images - by.centre
    along = torch.einsum("bkp,kpc->bkc", difference, by.axes)
    unit = by.axes / by.axes.square().sum(dim=1, keepdim=True).clamp_min(1e-12)
    outside = difference - torch.einsum("bkc,kpc->bkp", along, unit)
    return torch.cat([along, (outside.norm(dim=-1) * by.rest)[..., None]], dim=-1)


@in_full_precision
def distance(queries: Whitened, rows: WhitenedRows, chunk: int) -> Float[Tensor, "images shifts"]:
    """Per shift, the Euclidean distance to the nearest row.

    Args:
        queries: `whitened` features of B images under K shifts. [B, K, C + 1]
        rows: those of the normal images. [N, K, C + 1]
        chunk: rows compared at a time.
    """
    found = []
    for shift in range(queries.shape[1]):
        query, of_shift = queries[:, shift], rows[:, shift]
        nearest, row = [], []
        for start in range(0, len(rows), chunk):
            part = of_shift[start : start + chunk]
            # What is the largest of this is the smallest of the squared distance.
            best = (query @ part.T - part.square().sum(dim=1) / 2).max(dim=1)
            nearest.append(best.values)
            row.append(best.indices + start)
        of_parts = torch.stack(nearest).argmax(dim=0, keepdim=True)
        nearest_row = of_shift[torch.stack(row).gather(0, of_parts)[0]]
        # From the rows themselves: of an image that is one of them, products would leave a rounding error.
        found.append((query - nearest_row).square().sum(dim=1).sqrt())
    return torch.stack(found, dim=1)


@in_full_precision
def nearest_rows(
    queries: Whitened, rows: WhitenedRows, count: int
) -> tuple[Float[Tensor, "images neighbours"], Int64[Tensor, "images neighbours"]]:
    """The `count` rows nearest to each image over all shifts, nearest first, and how far they are. [B, count]

    The distance is the root of the mean over the shifts of the squared one.
    """
    # By products of matrices, an image would not be quite as near to itself as can be.
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(queries.flatten(1), rows.flatten(1), compute_mode=exact)
    distances /= queries.shape[1] ** 0.5
    best = distances.topk(count, dim=1, largest=False)
    return best.values, best.indices


@in_full_precision
def typical_distance(rows: WhitenedRows) -> Float[Tensor, " shifts"]:
    """The median, over some of the rows, of the distance to the nearest other one; of one row alone 0. [K]"""
    some = torch.arange(0, len(rows), max(1, len(rows) // TYPICAL), device=rows.device)
    distances = torch.cdist(rows[some].transpose(0, 1), rows.transpose(0, 1))  # [K, some, N]
    if len(rows) == 1:
        return distances[:, 0, 0]
    distances[:, torch.arange(len(some), device=rows.device), some] = torch.inf
    return distances.amin(dim=2).median(dim=1).values
