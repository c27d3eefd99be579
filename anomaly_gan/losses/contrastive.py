"""The contrastive losses: equations 1 to 4 of the paper. Pure, in float32 whatever the inputs' type."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from anomaly_gan.types import Scalar


def nt_xent(embeddings: Float[Tensor, "twice_n embedding"], temperature: float = 0.5) -> Scalar:
    """NT-Xent over n items with two views each (eq. 1; Chen et al., 2020).

    The similarity is the cosine over `temperature`. Each view's positive is its item's other view, its
    negatives the 2n - 2 views of all other items; itself it never meets. The paper prints a sum over the
    2n terms; the mean keeps the learning rate independent of the batch.

    With the items S_j(x_i), every shift of every image an item of its own, this is con-SI (eq. 2).

    Args:
        embeddings: [2n, D], not necessarily of unit length; row i and row n + i are views of one item.
        temperature: tau.

    Returns:
        The mean of the 2n cross-entropies, in nats; log(2n - 1) for embeddings that are all alike.
    """
    unit = F.normalize(_at_least_float32(embeddings), dim=1)
    logits = unit @ unit.T / temperature  # [2n, 2n]
    logits = logits.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)
    positive = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
    return F.cross_entropy(logits, positive)


def shift_classification(
    shift_logits: Float[Tensor, "views shifts"], shift_labels: Int64[Tensor, " views"]
) -> Scalar:
    """cls-SI (eq. 3): cross-entropy of telling the shifts apart, mean over the views, in nats.

    Args:
        shift_logits: [2KB, K] from F's shift head.
        shift_labels: [2KB] the shift each view was made by, 0..K-1.
    """
    return F.cross_entropy(_at_least_float32(shift_logits), shift_labels)


def _at_least_float32(values: Tensor) -> Tensor:
    """Lift half precision to float32 (log-sum-exp needs it); leave float64 as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
