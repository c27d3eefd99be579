"""The contrastive losses: equations 1 to 4 of the paper. Pure, in float32 whatever the inputs' type."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import Scalar


@in_full_precision
def nt_xent(
    embeddings: Float[Tensor, "twice_n embedding"],
    temperature: float = 0.5,
    everyone: Float[Tensor, "all embedding"] | None = None,
    first: int = 0,
) -> Scalar:
    """NT-Xent over n items with two views each (eq. 1; Chen et al., 2020).

    The similarity is the cosine over `temperature`. Each view's positive is its item's other view, its
    negatives the 2n - 2 views of all other items; itself it never meets. The paper prints a sum over the
    2n terms; the mean keeps the learning rate independent of the batch.

    With the items S_j(x_i), every shift of every image an item of its own, this is con-SI (eq. 2).

    Args:
        embeddings: [2n, D], not necessarily of unit length; row i and row n + i are views of one item.
        temperature: tau.
        everyone: the embeddings of a larger batch, which they are compared with; None: themselves.
        first: where among those theirs begin.

    Returns:
        The mean of the 2n cross-entropies, in nats; log(2n - 1) for embeddings that are all alike.
    """
    unit = F.normalize(embeddings, dim=1)
    others = unit if everyone is None else F.normalize(everyone, dim=1)
    place = torch.arange(len(unit), device=unit.device)
    itself = torch.arange(len(others), device=unit.device) == first + place[:, None]
    logits = (unit @ others.T / temperature).masked_fill(itself, -torch.inf)  # [2n, all]
    return F.cross_entropy(logits, first + place.roll(len(unit) // 2))


@in_full_precision
def shift_classification(
    shift_logits: Float[Tensor, "views shifts"], shift_labels: Int64[Tensor, " views"]
) -> Scalar:
    """Cross-entropy of telling the shifts apart, mean over the views, in nats; of CSI it is cls-SI (eq. 3).

    Args:
        shift_logits: [V, K], K for each view; of CSI from F's shift head, and V = 2KB.
        shift_labels: [V], the shift each view was made by, 0..K-1.
    """
    return F.cross_entropy(shift_logits, shift_labels)
