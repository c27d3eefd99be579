"""A detector's primary score as a module of its own: what can be exported."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import nn

from anomaly_gan.scoring.memory import MemoryBank
from anomaly_gan.scoring.scores import anomaly_scores
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.shifts import Views
from anomaly_gan.transforms.views import ScoringDraw, ShiftedViews
from anomaly_gan.types import RawImages, Scores, ShiftedEmbeddings, ShiftLogits


def embed(network: nn.Module, draws: Iterable[Views], shifts: int) -> tuple[ShiftedEmbeddings, ShiftLogits]:
    """What F says of B images, averaged over draws of their views.

    Args:
        network: F.
        draws: of each, the views [K*B, C, H, W], shift-major; at least one.
        shifts: K.

    Returns:
        Embeddings [B, K, D], not normalised, and own-shift logits [B, K].
    """
    seen = [network(views) for views in draws]
    embeddings = torch.stack([features.embedding for features in seen]).mean(dim=0)  # [K*B, D]
    logits = torch.stack([features.shift_logits for features in seen]).mean(dim=0)  # [K*B, K]
    by_shift = logits.unflatten(0, (shifts, -1))
    return embeddings.unflatten(0, (shifts, -1)).transpose(0, 1), by_shift.diagonal(dim1=0, dim2=2)


class Scorer(nn.Module):
    """`AnomalyGAN.score` without its loops over parts of the batch and of the bank.

    Memory beyond that of F: some 12 bytes for each pair of an image and a row of the bank.

    Args:
        network: F, trained.
        memory: the bank of the form that ranks.
        views: shifts and augmentation.
        ensemble: draws of T to average over; None: the shifted images as they are.
        score: which score, without its form.
        precision: of F's convolutions.
    """

    def __init__(
        self,
        network: nn.Module,
        memory: MemoryBank,
        views: ShiftedViews,
        ensemble: Sequence[ScoringDraw] | None,
        score: str,
        precision: Literal["32-true", "bf16-mixed"],
    ):
        super().__init__()
        self.network = network
        self.memory = memory
        self.views = views
        self.ensemble = ensemble
        self.score = score
        self.precision = precision
        self.eval()

    def blurs(self, side: int) -> bool:
        """Whether it blurs any view of images of `side` pixels."""
        return self.views.scoring_augment.blurs(side) and any(draw.blurs for draw in self.ensemble or [])

    def forward(self, images: RawImages) -> Scores:
        """uint8 [B, C, H, W], 0..255 -> [B], higher = more anomalous."""
        half = self.precision == "bf16-mixed"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            embedded = embed(self.network, self._draws(images), self.views.shifts.count)
        bank = self.memory.bank
        return anomaly_scores(*embedded, bank, len(bank.unit))[self.score]

    def _draws(self, images: RawImages) -> Iterable[Views]:
        seen = to_float(images)
        if self.ensemble is None:
            return [self.views.plain(seen)]
        return (self.views.drawn(seen, draw) for draw in self.ensemble)
