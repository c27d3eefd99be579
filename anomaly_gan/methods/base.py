"""What every method promises, the paper's and each baseline."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import pytorch_lightning as pl
from jaxtyping import Float, Int64
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.types import ImageBatches, Images, Scores


class Insight(NamedTuple):
    """What the primary scores of B images are made of."""

    per_shift: dict[str, Float[Tensor, "batch shifts"]]
    """By part of the score, what each shift adds to it; all parts and shifts together are the score."""
    typical: dict[str, Float[Tensor, " shifts"]]
    """The same of a normal image, roughly."""
    cosine: Float[Tensor, "batch neighbours"]
    """Of the most similar normal training images, nearest first."""
    row: Int64[Tensor, "batch neighbours"]
    """Which they are, in the order of `fit_scorer`."""


class AnomalyDetector(pl.LightningModule, ABC):
    """Learns from normal images; scores any image, higher = more anomalous."""

    name: str
    """Of the method, in results."""
    primary: str
    """The score that ranks: a key of what `score_all` returns."""
    forms: tuple[str, ...] = ("plain",)
    """The forms in which every score is computed; the last is the primary's."""

    @property
    def generates(self) -> bool:
        """Whether `generate` works."""
        return False

    @property
    def reconstructs(self) -> bool:
        """Whether `reconstruct` works."""
        return False

    def generate(self, count: int, *purpose: int | str) -> Images:
        """`count` synthetic inliers, [count, C, h, w] in [0, 1]; the same for the same purpose."""
        raise TypeError(f"{self.name} generates nothing")

    def reconstruct(self, images: Images) -> Images:
        """What a model of the inliers makes of each image, [B, C, H, W] in [0, 1], as the input."""
        raise TypeError(f"{self.name} reconstructs nothing")

    def scorer(self) -> nn.Module:
        """What `score` computes as a module of its own: raw images [B, C, H, W] -> scores [B].

        It is one expression of tensors, of any B, that `torch.export` can follow: nothing is drawn in it and
        nothing split. It shares the detector's weights, and has none that the score does not need.

        Raises:
            UserError: the method has none.
        """
        raise UserError(f"{self.name} cannot be exported; a detector of anomaly_gan can")

    @abstractmethod
    def fit_scorer(self, normal: ImageBatches) -> None:
        """Take what scoring needs from the normal training images into buffers.

        Args:
            normal: batches [B, C, H, W] in [0, 1], on the detector's device; of several processes, this one's
                part of them. What is taken is of all processes' images.
        """

    @abstractmethod
    def score_all(self, images: Images) -> dict[str, Scores]:
        """Every score and part of each image, [B]; independent of what else is in the batch."""

    def insight(self, images: Images, neighbours: int) -> Insight | None:
        """What the primary score of each image is made of; None from a method that cannot say."""
        return None

    def score(self, images: Images) -> Scores:
        """The anomaly score of each image, [B]."""
        return self.score_all(images)[self.primary]
