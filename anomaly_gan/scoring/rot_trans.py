"""Rot+Trans's score (Hendrycks et al., 2019): the probabilities of the right translations and rotation."""

from typing import Any

import torch

from anomaly_gan.scoring.base import Attribution
from anomaly_gan.scoring.classification import rot_trans_parts
from anomaly_gan.scoring.transforms import Seen, TransformScorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometric import Geometric
from anomaly_gan.types import ImageBatches, Images, RawImages, Scores

HEADS = {"rows": 3, "columns": 3, "turns": 4}
"""What is told apart of a view, and how many classes it has: the network's outputs, in this order."""


class RotTransScore(TransformScorer):
    """A wide ResNet with three heads: how an image was moved up or down, left or right, and turned.

    The score is minus the sum, over all views and heads, of the probability of what was done; a head's part
    of it alone is `rows`, `columns` and `turns`.

    Args:
        shifts: translations and rotations, without flips.
        network: see `TransformScorer`.
    """

    primary = "rot_trans"
    parts = tuple(HEADS)

    def __init__(self, *, shifts: Geometric, **network: Any):
        super().__init__(sum(HEADS.values()), False, shifts=shifts, **network)

    def fit(self, normal: ImageBatches) -> None:
        """It takes nothing from them."""

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        parts = self._parts(self.seen(images))
        of_heads = dict(zip(HEADS, parts.sum(1).unbind(1), strict=True))
        return {"rot_trans": parts.sum((1, 2))} | of_heads

    def forward(self, images: RawImages) -> Scores:
        return self._parts(self.seen_at_once(to_float(images))).sum((1, 2))

    @torch.inference_mode()
    def attribution(self, images: Images, neighbours: int) -> Attribution:
        self.eval()
        parts = self._parts(self.seen(images))
        sure = torch.full_like(parts[0, :, 0], -1.0)  # of an image of which everything is known
        return Attribution(dict(zip(HEADS, parts.unbind(2), strict=True)), dict.fromkeys(HEADS, sure), None)

    def _parts(self, seen: Seen) -> torch.Tensor:
        rows, columns, turns = seen.logits.split(list(HEADS.values()), dim=2)
        return rot_trans_parts(rows, columns, turns, self.shifts.places(rows.device)[:, 1:])
