"""Geom (Golan & El-Yaniv, 2018): which of 72 geometric transforms was applied to an image?"""

from dataclasses import dataclass
from typing import Any

from anomaly_gan.losses.contrastive import shift_classification
from anomaly_gan.methods.base import Method
from anomaly_gan.scoring.transforms import TransformClassifier
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.phases import Step, Terms, one_phase
from anomaly_gan.types import Images, Labels


@dataclass(frozen=True)
class TransformedStep(Step):
    """Images, each under one transform: `images` are what the network sees."""

    labels: Labels
    """Which transform, [B] in 0..K-1."""


class Geom(Method):
    """The classifier learns to name the transform of each image, drawn anew every time it comes.

    The released code goes through all pairs of image and transform in each of its epochs; here the transform
    of each image is drawn, so that over the same number of images some pairs come more often than others.

    Args:
        scorer: it holds the classifier and the transforms.
        training: see `Method`.
    """

    def __init__(self, *, scorer: TransformClassifier, **training: Any):
        super().__init__(
            scorer=scorer,
            networks={"classifier": scorer.network},
            plan=one_phase("classification", "classifier", classification),
            **training,
        )
        self.shifts = scorer.shifts

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> TransformedStep:
        of_step = rng("step")
        labels = (of_step.uniform(len(images), 1).flatten() * self.shifts.count).long()
        transformed = self.shifts.single(images, labels)
        return TransformedStep(dict(self.networks.items()), transformed, shard, of_step, labels)


def classification(step: TransformedStep) -> Terms:
    """Cross-entropy of the transform that each image is under."""
    logits = step.networks["classifier"](step.images, step.rng).logits
    return {"transform": shift_classification(logits, step.labels)}
