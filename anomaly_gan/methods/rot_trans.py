"""Rot+Trans (Hendrycks et al., 2019): how was an image moved, and how was it turned?"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from anomaly_gan.losses.contrastive import shift_classification
from anomaly_gan.methods.base import Method
from anomaly_gan.scoring.rot_trans import HEADS, RotTransScore
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.phases import Step, Terms, one_phase
from anomaly_gan.transforms.color import per_pixel
from anomaly_gan.transforms.geometric import Geometric
from anomaly_gan.types import Images

TURNS = 4
"""Rotations that each image is shown under; they run fastest among the shifts of `Geometric`."""


@dataclass(frozen=True)
class MovedStep(Step):
    """`images` are the batch's, each flipped with probability 1/2."""

    shifts: Geometric
    translations: Int64[Tensor, " batch"]
    """Which of the nine each image is moved by, 0..8; all its rotations have the same."""

    def views(self) -> tuple[Float[Tensor, "views channels height width"], Int64[Tensor, "views 3"]]:
        """Each image, moved, under all four rotations, [4B, C, H, H]; what was done to each, [4B, 3]."""
        shifts = torch.cat([TURNS * self.translations + turns for turns in range(TURNS)])
        views = self.shifts.single(self.images.repeat(TURNS, 1, 1, 1), shifts)
        return views, self.shifts.places(shifts.device)[shifts, 1:]


class RotTrans(Method):
    """Three cross-entropies: of the translation of the rows, of the columns, and of the rotation.

    The released code is for ImageNet, and its epoch has every image under all nine translations. Here an
    image comes with one drawn translation a time, and under all four rotations as there.

    Args:
        scorer: it holds the classifier and the transforms.
        training: see `Method`.
    """

    def __init__(self, *, scorer: RotTransScore, **training: Any):
        super().__init__(
            scorer=scorer,
            networks={"classifier": scorer.network},
            plan=one_phase("classification", "classifier", classification),
            **training,
        )
        self.shifts = scorer.shifts

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> MovedStep:
        of_step = rng("step")
        drawn = of_step.uniform(len(images), 2)
        flipped = torch.where(per_pixel(drawn[:, 0] < 0.5), images.flip(3), images)
        translations = (drawn[:, 1] * (self.shifts.count // TURNS)).long()
        return MovedStep(dict(self.networks.items()), flipped, shard, of_step, self.shifts, translations)


def classification(step: MovedStep) -> Terms:
    """Cross-entropy of each head; their sum is a mean of the three with weights of a third."""
    views, done = step.views()
    logits = step.networks["classifier"](views, step.rng).logits.split(list(HEADS.values()), dim=1)
    return {
        head: shift_classification(of_head, right)
        for head, of_head, right in zip(HEADS, logits, done.unbind(1), strict=True)
    }
