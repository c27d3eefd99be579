"""F: ResNet-18 with a projection head and a shift head."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from anomaly_gan.errors import UserError
from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import Embeddings, Images

LARGEST_SMALL_IMAGE = 32
"""Side in pixels up to which the stem keeps the resolution."""


class Features(NamedTuple):
    """What F says of a batch."""

    embedding: Embeddings
    """Projection head, not normalised: its length is part of the score. [B, 128]"""
    shift_logits: Float[Tensor, "batch shifts"]
    """One logit per shift S_1..S_K. [B, K]"""
    penultimate: Float[Tensor, "batch feature"]
    """Averaged last feature map. [B, 8 * width]"""


class FeatureExtractor(nn.Module):
    """ResNet-18 (He et al., 2016) with CSI's two heads.

    Images of at most 32 pixels meet a 3x3 stride-1 stem without pooling (CSI, SimCLR); larger ones the
    original 7x7 stride-2 stem with max-pooling. At width 64 and 32 pixels: 11.5 million parameters.

    Args:
        image_size: side of the images, pixels.
        channels: 1 or 3.
        width: channels of the first stage, a multiple of 8; 64 is the paper's, 16 the CPU size.
        shifts: K, the number of shifts to tell apart.
        embedding_size: outputs of the projection head.

    Raises:
        UserError: another width. With 4 channels, the backward pass of channels_last convolutions in torch
            2.15 writes beyond its memory (seen on an AVX2 processor); multiples of 8 also suit every device.
    """

    def __init__(
        self, image_size: int, channels: int, width: int = 64, shifts: int = 4, embedding_size: int = 128
    ):
        if width < 8 or width % 8:
            raise UserError(f"width={width}: give a multiple of 8: 64 is the paper's, 16 fits a CPU")
        super().__init__()
        stem: list[nn.Module] = [
            nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
            if image_size <= LARGEST_SMALL_IMAGE
            else nn.Conv2d(channels, width, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        if image_size > LARGEST_SMALL_IMAGE:
            stem.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
        self.body = nn.Sequential(
            *stem,
            _stage(width, width, stride=1),
            _stage(width, 2 * width, stride=2),
            _stage(2 * width, 4 * width, stride=2),
            _stage(4 * width, 8 * width, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        features = 8 * width
        self.projection_head = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, embedding_size)
        )
        self.shift_head = nn.Linear(features, shifts)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Images) -> Features:
        centred = (images - 0.5) / 0.5
        return self._heads(self.body(centred.contiguous(memory_format=torch.channels_last)))

    @in_full_precision
    def _heads(self, penultimate: Float[Tensor, "batch feature"]) -> Features:
        """They cost next to nothing, and scores are made of what they say: never in half precision."""
        return Features(self.projection_head(penultimate), self.shift_head(penultimate), penultimate)


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Two residual blocks, the first with `stride`."""
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))
