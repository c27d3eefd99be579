"""F: ResNet-18, or a plain network for CPUs, with a projection head and a shift head."""

from typing import Literal, NamedTuple

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
    middle: Float[Tensor, "batch earlier"]
    """Averaged earlier feature map, at least 0: of `vgg7` the positive part of what the last stage's first
    convolution gives, [B, 16 * width]; of `resnet18` the map before the last stage, [B, 4 * width]."""
    penultimate: Float[Tensor, "batch feature"]
    """Averaged last feature map, at least 0. [B, 8 * width], of `vgg7` [B, 16 * width]"""


Body = Literal["resnet18", "vgg7"]
"""What F's feature map is made by."""


class FeatureExtractor(nn.Module):
    """A convolutional network with CSI's two heads.

    `resnet18` (He et al., 2016) is the paper's. Images of at most 32 pixels meet a 3x3 stride-1 stem without
    pooling (CSI, SimCLR); larger ones the original 7x7 stride-2 stem with max-pooling. At width 64 and 32
    pixels: 11.5 million parameters.

    `vgg7` is six 3x3 convolutions after the stem, in three stages of 4, 8 and 16 times the width, of which
    each begins with a convolution, 2x2 max-pooling and batch norm (after VGG, Simonyan & Zisserman, 2015).
    It halves the resolution at once and has no residual sums, so that of a CPU's time most goes into
    products of matrices. Images of more than 32 pixels meet a 7x7 stride-2 stem.

    Args:
        image_size: side of the images, pixels.
        channels: 1 or 3.
        width: channels of the first feature map, a multiple of 8; 64 is the paper's, 16 the CPU size.
        shifts: K, the number of shifts to tell apart.
        embedding_size: outputs of the projection head.
        body: which of the two.

    Raises:
        UserError: another width. With 4 channels, the backward pass of channels_last convolutions in torch
            2.15 writes beyond its memory (seen on an AVX2 processor); multiples of 8 also suit every device.
    """

    def __init__(
        self,
        image_size: int,
        channels: int,
        width: int = 64,
        shifts: int = 4,
        embedding_size: int = 128,
        body: Body = "resnet18",
    ):
        if width < 8 or width % 8:
            raise UserError(f"width={width}: give a multiple of 8: 64 is the paper's, 16 fits a CPU")
        super().__init__()
        large = image_size > LARGEST_SMALL_IMAGE
        layers, self.middle_layer, features = (_resnet18 if body == "resnet18" else _vgg7)(
            channels, width, large
        )
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.projection_head = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, embedding_size)
        )
        self.shift_head = nn.Linear(features, shifts)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Images) -> Features:
        seen = _centred(images)
        for place, layer in enumerate(self.body):
            seen = layer(seen)
            if place == self.middle_layer:
                middle = seen.clamp_min(0).mean(dim=(2, 3))
        return self._heads(middle, seen)

    def maps(self, images: Images) -> list[Float[Tensor, "batch _ _ _"]]:
        """The last feature map of each resolution, the largest first; images of any size of at least 32."""
        found: list[Tensor] = []
        seen = _centred(images)
        for layer in self.body[:-2]:  # all but the mean over the places
            seen = layer(seen)
            if found and found[-1].shape[2] == seen.shape[2]:
                found.pop()
            found.append(seen)
        return found

    @in_full_precision
    def _heads(
        self, middle: Float[Tensor, "batch earlier"], penultimate: Float[Tensor, "batch feature"]
    ) -> Features:
        """They cost next to nothing, and scores are made of what they say: never in half precision."""
        embedding, shift_logits = self.projection_head(penultimate), self.shift_head(penultimate)
        return Features(embedding, shift_logits, middle, penultimate)


def _centred(images: Images) -> Images:
    centred: Tensor = (images - 0.5) / 0.5
    return centred.contiguous(memory_format=torch.channels_last)


def _resnet18(channels: int, width: int, large: bool) -> tuple[list[nn.Module], int, int]:
    """Layers up to the last feature map, which of them gives `Features.middle`, and the map's channels."""
    layers = [_stem(channels, width, large, bias=False), *_normalised(width)]
    if large:
        layers.append(nn.MaxPool2d(kernel_size=3, stride=2, padding=1))
    layers += [
        _stage(width, width, stride=1),
        _stage(width, 2 * width, stride=2),
        _stage(2 * width, 4 * width, stride=2),
        _stage(4 * width, 8 * width, stride=2),
    ]
    return layers, len(layers) - 2, 8 * width


def _vgg7(channels: int, width: int, large: bool) -> tuple[list[nn.Module], int, int]:
    """As `_resnet18`."""
    layers, inputs = [_stem(channels, width, large, bias=True), nn.ReLU(inplace=True)], width
    for outputs in (4 * width, 8 * width, 16 * width):
        first = len(layers)
        layers += [_convolution(inputs, outputs), nn.MaxPool2d(2), *_normalised(outputs)]
        layers += [_convolution(outputs, outputs), *_normalised(outputs)]
        inputs = outputs
    return layers, first, inputs


def _stem(channels: int, width: int, large: bool, bias: bool) -> nn.Module:
    if large:
        return nn.Conv2d(channels, width, kernel_size=7, stride=2, padding=3, bias=bias)
    return nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=bias)


def _convolution(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)


def _normalised(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Two residual blocks, the first with `stride`."""
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))
