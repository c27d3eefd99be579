"""Geom's scores: how sure a classifier is of the transform that an image is under."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from anomaly_gan.distributed import average_, world_size
from anomaly_gan.errors import UserError
from anomaly_gan.networks.wide_resnet import WideResNet
from anomaly_gan.scoring.base import Attribution, Scorer
from anomaly_gan.scoring.classification import (
    Moments,
    TransformLogits,
    dirichlet_parts,
    dirichlet_score,
    fit_dirichlets,
    simplified_parts,
    simplified_score,
    softmax_moments,
)
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometric import Geometric
from anomaly_gan.types import ImageBatches, Images, RawImages, Scores

WIDTH_OF_ONE = 16
"""Channels of a wide ResNet's first group for each unit of its widening factor."""


class TransformClassifier(Scorer):
    """A wide ResNet that names transforms, and per transform the Dirichlet of its softmax on normal images.

    `dirichlet` is the paper's score. `simplified` is the mean probability of the right transform, negated.

    Args:
        image_size, channels: see `Scorer`.
        shifts: the transforms.
        depth: layers of the wide ResNet.
        width: channels of its first group, a multiple of 16; 64 is the published size.
        primary: which score ranks.
        chunk: views that go through the network at a time; sets the memory.
        precision: of the network's convolutions; its linear layer and the scores are float32 always.
    """

    alphas: Tensor
    """The Dirichlets' parameters, [K, K]."""
    typical: Tensor
    """What each transform adds to the score of a normal image, on average, [K]."""

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        shifts: Geometric,
        depth: int,
        width: int,
        primary: Literal["dirichlet", "simplified"],
        chunk: int,
        precision: Literal["32-true", "bf16-mixed"],
    ):
        if width < WIDTH_OF_ONE or width % WIDTH_OF_ONE:
            raise UserError(f"width={width}: give a multiple of 16: 64 is Geom's, 16 fits a CPU")
        if chunk < 1:
            raise UserError(f"scoring.chunk={chunk} must be at least 1")
        super().__init__(image_size=image_size, channels=channels)
        self.network = WideResNet(image_size, channels, shifts.count, depth, width // WIDTH_OF_ONE)
        self.shifts = shifts
        self.primary = primary
        self.chunk = chunk
        self.precision = precision
        self.register_buffer("alphas", torch.ones(shifts.count, shifts.count, dtype=torch.float64))
        self.register_buffer("typical", torch.zeros(shifts.count))

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        """Fit a Dirichlet to the softmax of the normal images under each transform."""
        self.eval()
        counts: list[int] = []

        def seen() -> Iterator[TransformLogits]:
            for images in normal:
                counts.append(len(images))
                yield self.logits(images)

        moments = _of_all_processes(softmax_moments(seen()), counts)
        self.alphas = fit_dirichlets(moments)
        shifts = self.shifts.count
        if self.primary == "dirichlet":
            self.typical = -((self.alphas - 1) * moments.log_probability).sum(1).float() / shifts
        else:
            self.typical = -moments.probability.diagonal().float() / shifts

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        logits = self.logits(images)
        return {"dirichlet": dirichlet_score(logits, self.alphas), "simplified": simplified_score(logits)}

    def forward(self, images: RawImages) -> Scores:
        logits = self._logits(to_float(images))
        if self.primary == "dirichlet":
            return dirichlet_score(logits, self.alphas)
        return simplified_score(logits)

    def check_export(self, format_name: str) -> None:
        if format_name == "onnx" and self.precision != "32-true":
            raise UserError(
                f"format=onnx: ONNX Runtime has no {self.precision}; format=torch has it, or train with "
                "scoring.precision=32-true"
            )

    @torch.inference_mode()
    def attribution(self, images: Images, neighbours: int) -> Attribution:
        self.eval()
        logits = self.logits(images)
        parts = (
            dirichlet_parts(logits, self.alphas) if self.primary == "dirichlet" else simplified_parts(logits)
        )
        return Attribution({self.primary: parts}, {self.primary: self.typical}, None)

    def logits(self, images: Images) -> TransformLogits:
        """What the classifier says of each image under each transform, [B, K, K]; some images at a time."""
        at_a_time = max(1, self.chunk // self.shifts.count)
        return torch.cat([self._logits(part) for part in images.split(at_a_time)])

    def _logits(self, images: Images) -> TransformLogits:
        half = self.precision == "bf16-mixed"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            logits = self.network(self.shifts(images)).logits  # [K*B, K], transform by transform
        return logits.unflatten(0, (self.shifts.count, -1)).transpose(0, 1)


def _of_all_processes(moments: Moments, counts: list[int]) -> Moments:
    """The moments of the images of all processes, of which this one has seen `counts`."""
    if world_size() == 1:
        return moments
    total = moments.probability.new_tensor([float(sum(counts))])
    sums = [moment * total for moment in moments]
    average_([*sums, total])
    return Moments(*(summed / total for summed in sums))
