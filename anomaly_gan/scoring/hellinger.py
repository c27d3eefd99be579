"""How far F's penultimate features of an image are from those of the nearest normal image.

F's last feature map has passed a ReLU and is averaged over its places: what is left is how much of each kind
of thing is in the image. Divided by its sum it is a distribution over kinds, and distributions are compared
by the Hellinger distance, in which rare kinds count for more than in a cosine.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import BankRows


@in_full_precision
def roots(penultimate: Float[Tensor, "*rows feature"]) -> Float[Tensor, "*rows feature"]:
    """Square roots of features that are at least 0, over their length: inner products are Bhattacharyya's.

    Features that are all 0 stay 0, as far from everything as can be.
    """
    return F.normalize(penultimate.clamp_min(0).sqrt(), dim=-1)


@in_full_precision
def squared_distance(
    queries: Float[Tensor, "batch shifts feature"], rows: BankRows, chunk: int
) -> Float[Tensor, "batch shifts"]:
    """Per shift, the squared Hellinger distance to the nearest row, in [0, 1].

    Args:
        queries: `roots` of B images under K shifts. [B, K, P]
        rows: `roots` of the normal images. [N, K, P]
        chunk: rows compared at a time.
    """
    largest = queries.new_zeros(queries.shape[:2])
    for part in rows.split(chunk):
        for shift in range(queries.shape[1]):
            coefficient = (queries[:, shift] @ part[:, shift].T).amax(dim=1)
            largest[:, shift] = torch.maximum(largest[:, shift], coefficient)
    return 1 - largest
