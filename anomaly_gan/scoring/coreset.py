"""A few points that cover many: greedy farthest-point selection, exactly, in blocks."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from anomaly_gan.precision import in_full_precision

CANDIDATES = 2048
"""Points among which a block chooses."""

CHUNK = 2048
"""Points whose distances are computed at a time: more would not stay in a cache."""


@in_full_precision
def farthest_points(points: Float[Tensor, "points feature"], count: int) -> Int64[Tensor, " count"]:
    """`count` of the points, each the farthest from those before it; the first is the farthest from the mean.

    The greedy choice of Gonzalez (1985), as PatchCore has it: no other `count` points cover all of them
    within half the radius. A point's distance to the chosen ones only falls. So the next choice is among
    those points that were the farthest when all were last looked at, as long as one of these is farther
    than all others were then. All points are looked at once a block, by one matrix product, and not once a
    choice.

    Args:
        points: [N, D].
        count: how many to choose, from 1 to N.

    Returns:
        Their rows, in the order of choice.
    """
    squares = points.square().sum(dim=1)
    nearest = _to_nearest(points, squares, points.mean(dim=0, keepdim=True))
    new = chosen = nearest.argmax().view(1)
    nearest.fill_(torch.inf)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, _to_nearest(points, squares, points[new]))
        nearest[new] = -torch.inf  # never again
        far = nearest.topk(min(CANDIDATES + 1, len(points)))
        limit = far.values[CANDIDATES] if len(points) > CANDIDATES else far.values.new_tensor(-torch.inf)
        new = far.indices[_farthest_of(points[far.indices], far.values, limit, count - len(chosen))]
        chosen = torch.cat([chosen, new])
    return chosen


def _farthest_of(
    points: Float[Tensor, "candidates feature"],
    nearest: Float[Tensor, " candidates"],
    limit: Float[Tensor, ""],
    count: int,
) -> Int64[Tensor, " new"]:
    """The first up to `count` choices among candidates: at least one, and then those beyond `limit`."""
    squares = points.square().sum(dim=1)
    new: list[int] = []
    while len(new) < count:
        farthest, row = nearest.max(dim=0)
        if new and farthest <= limit:
            break
        new.append(int(row))
        to_row = torch.addmv(squares, points, points[row], alpha=-2) + squares[row]
        nearest = torch.minimum(nearest, to_row)
        nearest[row] = -torch.inf
    return torch.tensor(new, device=points.device)


def _to_nearest(
    points: Float[Tensor, "points feature"],
    squares: Float[Tensor, " points"],
    others: Float[Tensor, "others feature"],
) -> Float[Tensor, " points"]:
    """Squared distance of `points`, whose squared lengths are `squares`, to the nearest of `others`, [N]."""
    of_others = others.square().sum(dim=1)
    parts = [
        torch.addmm(of_others, part, others.T, alpha=-2).amin(dim=1) + length
        for part, length in zip(points.split(CHUNK), squares.split(CHUNK), strict=True)
    ]
    return torch.cat(parts)
