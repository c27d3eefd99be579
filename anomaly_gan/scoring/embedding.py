"""What F says of images under every shift, averaged over draws of T."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anomaly_gan.transforms.shifts import Views
from anomaly_gan.types import ShiftedEmbeddings, ShiftLogits


class Embedded(NamedTuple):
    """What F says of B images under K shifts."""

    embeddings: ShiftedEmbeddings
    """Of the projection head, not normalised. [B, K, D]"""
    logits: ShiftLogits
    """Of the shift head, for the view's own shift. [B, K]"""
    middle: Float[Tensor, "batch shifts earlier"]
    """An averaged earlier feature map. [B, K, Q]"""
    penultimate: Float[Tensor, "batch shifts feature"]
    """The averaged last feature map. [B, K, P]"""


def embed(network: nn.Module, draws: Iterable[Views], shifts: int) -> Embedded:
    """What F says of B images, averaged over draws of their views.

    Args:
        network: F.
        draws: of each, the views [K*B, C, H, W], shift-major; at least one.
        shifts: K.
    """
    seen = [network(views) for views in draws]
    embeddings, logits, middle, penultimate = (
        torch.stack(parts).mean(dim=0).unflatten(0, (shifts, -1)).transpose(0, 1)
        for parts in zip(*seen, strict=True)
    )
    return Embedded(embeddings, logits.diagonal(dim1=1, dim2=2), middle, penultimate)
