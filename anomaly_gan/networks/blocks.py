"""Residual blocks of the SNGAN paper (Miyato et al., 2018) and what its networks share."""

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization

from anomaly_gan.precision import in_full_precision

SIZES = (16, 32, 64, 128)
"""Sides in pixels that the autoencoder's networks exist for."""

BOTTOM = 4
"""Side in pixels of the smallest feature map."""

FeatureMap = Float[Tensor, "batch _channels _height _width"]
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def levels(image_size: int) -> int:
    """How often a side of `image_size` pixels, one of `SIZES`, is halved down to `BOTTOM`."""
    return (image_size // BOTTOM).bit_length() - 1


def residual_channels(image_size: int, width: int) -> list[int]:
    """Channels of the residual generator's feature maps, from the smallest map to the largest."""
    n = levels(image_size)
    return [4 * width] * (n + 1) if image_size <= 32 else halving_channels(image_size, width)


def halving_channels(image_size: int, width: int) -> list[int]:
    """Channels that halve with every doubling of the side, down to `width`, at most 16 times that."""
    return [min(16, 2**level) * width for level in reversed(range(levels(image_size) + 1))]


class Up(nn.Module):
    """BN-ReLU-up-conv3-BN-ReLU-conv3 beside up-conv1; twice the side."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first_norm, self.second_norm = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.first, self.second = _conv3(inputs, outputs), _conv3(outputs, outputs)
        self.shortcut = _conv1(inputs, outputs)

    def forward(self, x: FeatureMap) -> FeatureMap:
        h = self.first(_up(self.first_norm(x).relu()))
        h = self.second(self.second_norm(h).relu())
        # conv1 and nearest-neighbour scaling commute, and here there is a quarter of the pixels.
        return h + _up(self.shortcut(x))


class Down(nn.Module):
    """The mirror of `Up`: BN-ReLU-conv3-BN-ReLU-conv3-pool beside pool-conv1; half the side."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first_norm, self.second_norm = nn.BatchNorm2d(inputs), nn.BatchNorm2d(inputs)
        self.first, self.second = _conv3(inputs, inputs), _conv3(inputs, outputs)
        self.shortcut = _conv1(inputs, outputs)

    def forward(self, x: FeatureMap) -> FeatureMap:
        h = self.first(self.first_norm(x).relu())
        h = _pool(self.second(self.second_norm(h).relu()))
        return h + self.shortcut(_pool(x))


class Judge(nn.Module):
    """The discriminator's block, without batch norm: ReLU-conv3-ReLU-conv3, pooled where it halves the side.

    Args:
        inputs, outputs: channels.
        halve: half the side.
        first: of the network: no ReLU before the first convolution, for there come pixels.
    """

    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool = False):
        super().__init__()
        self.halve, self.is_first = halve, first
        hidden = outputs if first else inputs
        self.first, self.second = _conv3(inputs, hidden), _conv3(hidden, outputs)
        self.shortcut = _conv1(inputs, outputs) if halve or inputs != outputs else nn.Identity()

    def forward(self, x: FeatureMap) -> FeatureMap:
        h = self.second(self.first(x if self.is_first else x.relu()).relu())
        if self.halve:
            return _pool(h) + self.shortcut(_pool(x))  # pool and conv1 commute
        return h + self.shortcut(x)


def chain(block: type[nn.Module], channels: Iterable[int]) -> nn.Sequential:
    """One block from each number of channels to the next."""
    return nn.Sequential(*(block(inputs, outputs) for inputs, outputs in pairwise(channels)))


class SpectralNorm(_SpectralNorm):
    """torch's own, whose products of matrix and vector autocast would run in half precision on a GPU."""

    @in_full_precision
    def forward(self, weight: Tensor) -> Tensor:
        return super().forward(weight)


def normalise_spectrally(network: nn.Module) -> None:
    """Divide the weight of every convolution and linear layer by its largest singular value."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            register_parametrization(layer, "weight", SpectralNorm(layer.weight))


def initialise_normal(network: nn.Module) -> None:
    """Weights of convolutions and linear layers from N(0, 0.02), as in DCGAN (Radford et al., 2016)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def glorot(layer: Layer, gain: float = 1.0) -> Layer:
    """`layer` with Glorot-uniform weights and no bias to start with."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _conv3(inputs: int, outputs: int) -> nn.Conv2d:
    return glorot(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), gain=2**0.5)


def _conv1(inputs: int, outputs: int) -> nn.Conv2d:
    return glorot(nn.Conv2d(inputs, outputs, kernel_size=1))


def _up(x: FeatureMap) -> FeatureMap:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _pool(x: FeatureMap) -> FeatureMap:
    return F.avg_pool2d(x, 2)


def centred(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], channels last, which is the faster layout for convolutions."""
    return ((images - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)
