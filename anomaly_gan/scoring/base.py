"""What every scorer promises: the part of a method that is left when its training is over."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import ImageBatches, Images, RawImages, ScoreMaps, Scores

Precision = Literal["32-true", "bf16-mixed"]
"""Of convolutions where a scorer works; what is near the score is float32 always."""


class Neighbours(NamedTuple):
    """The normal training images that B images are most like."""

    likeness: Float[Tensor, "batch neighbours"]
    """How near they are, nearest first, in the measure that `measure` names."""
    row: Int64[Tensor, "batch neighbours"]
    """Which they are, in the order of `Scorer.fit`."""
    measure: str
    """What likeness is: "cosine", "overlap", "distance"."""


class Attribution(NamedTuple):
    """What the primary scores of B images are made of."""

    per_shift: dict[str, Float[Tensor, "batch shifts"]]
    """By part of the score, what each shift adds to it; all parts and shifts together are the score. Empty
    where a score has no shifts."""
    typical: dict[str, Float[Tensor, " shifts"]]
    """The same of a normal image, roughly."""
    neighbours: Neighbours | None
    """None where a score knows no single images."""


class Scorer(nn.Module, ABC):
    """Turns images into anomaly scores; a detector's file holds it and rebuilds it from its configuration.

    Its networks are trained by a method. What it takes from the normal images lies in buffers, so that it
    travels in the file.

    Args:
        image_size: side of the images, pixels.
        channels: 1 or 3.
        precision: of its networks' convolutions, for a scorer that uses `autocast`.
    """

    primary: str
    """The score that ranks: a key of what `scores` returns."""
    scores_places = False
    """Whether `maps` works."""
    parts: tuple[str, ...] = ()
    """The keys of what `scores` returns that are parts of a score and never rank."""

    def __init__(self, *, image_size: int, channels: int, precision: Precision = "32-true"):
        super().__init__()
        self.image_size, self.channels, self.precision = image_size, channels, precision

    @abstractmethod
    def fit(self, normal: ImageBatches) -> None:
        """Take what scoring needs from the normal training images into buffers.

        Args:
            normal: batches [B, C, H, W] in [0, 1], on the scorer's device; of several processes, this one's
                part of them. What is taken is of all processes' images.
        """

    @property
    def lowest(self) -> float:
        """What no place scores less than, of a scorer that scores places."""
        return 0.0

    @abstractmethod
    def scores(self, images: Images) -> dict[str, Scores]:
        """Every score and part of each image, [B]; independent of what else is in the batch."""

    def score(self, images: Images) -> Scores:
        """The primary score of each image, [B]; higher is more anomalous."""
        return self.scores(images)[self.primary]

    def forward(self, images: RawImages) -> Scores:
        """The primary score of uint8 images [B, C, H, W], 0..255 -> [B]: what an export traces.

        It has to be one expression of tensors, of any B: nothing is drawn in it and nothing split.
        """
        return self.score(to_float(images))

    def check_export(self, format_name: str) -> None:
        """Before any work of an export.

        Raises:
            UserError: the scorer cannot be written in that format.
        """
        if format_name == "onnx" and self.precision != "32-true":
            raise UserError(
                f"format=onnx: ONNX Runtime has no {self.precision}; format=torch has it, or train with "
                "scoring.precision=32-true"
            )

    def attribution(self, images: Images, neighbours: int) -> Attribution | None:
        """What the primary score of each image is made of; None from a scorer that cannot say."""
        return None

    def maps(self, images: Images) -> ScoreMaps:
        """How anomalous each place of each image is, [B, H, W]."""
        raise UserError(f"{type(self).__name__} looks at whole images: it has no score of a place")

    def raw_maps(self, images: RawImages) -> ScoreMaps:
        """`maps` of uint8 images, as `forward` is `score`: where a scorer scores places, an export traces it.

        The largest score of a map is the image's.
        """
        raise UserError(f"{type(self).__name__} looks at whole images: it has no score of a place")

    def keep_primary_alone(self) -> None:
        """From now on leave out what the primary score does not need, to be faster and smaller. A hook."""

    @property
    def generates(self) -> bool:
        """Whether `generate` works."""
        return False

    @property
    def reconstructs(self) -> bool:
        """Whether `reconstruct` works."""
        return False

    def generate(self, count: int, *purpose: int | str) -> Images:
        """`count` synthetic normal images, [count, C, h, w] in [0, 1]; the same for the same purpose."""
        raise UserError(f"{type(self).__name__} generates nothing")

    def reconstruct(self, images: Images) -> Images:
        """What a model of normal images makes of each image, [B, C, H, W] in [0, 1], as the input."""
        raise UserError(f"{type(self).__name__} reconstructs nothing")

    def autocast(self, device: torch.device) -> torch.autocast:
        """A context in which networks on `device` compute in the scorer's precision."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")

    @property
    def device(self) -> torch.device:
        """Where it works."""
        return next(tensor.device for tensor in (*self.parameters(), *self.buffers()))
