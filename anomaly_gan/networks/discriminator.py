"""D: real images or made ones. Spectral norm on every layer, no batch norm: an image is judged alone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from anomaly_gan.networks.blocks import (
    BOTTOM,
    Judge,
    centred,
    glorot,
    halving_channels,
    initialise_normal,
    levels,
    normalise_spectrally,
)
from anomaly_gan.types import Images, Logits


class SumPool(nn.Module):
    """[B, c, h, w] -> [B, c]: the sum over places."""

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels"]:
        return x.sum(dim=(2, 3))


class Discriminator(nn.Module):
    """A logit for each image; positive: real.

    Args:
        body: [B, C, H, W] in [-1, 1] -> [B, 1]. Its layers are normalised here.
    """

    def __init__(self, body: nn.Sequential):
        super().__init__()
        self.body = body
        normalise_spectrally(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Images) -> Logits:
        """[B, C, H, W] in [0, 1] -> [B]."""
        return self.body(centred(images)).squeeze(1)


def residual_discriminator(image_size: int, channels: int, width: int) -> Discriminator:
    """SNGAN's residual discriminator.

    Millions of parameters at width 64, three channels: 1.05 (16 and 32 pixels), 10.1 (64), 29.0 (128).
    """
    if image_size <= 32:
        maps, halved = [2 * width] * 4, 2
    else:
        maps, halved = halving_channels(image_size, width)[::-1], levels(image_size)
    blocks = [
        Judge(inputs, outputs, halve=i < halved, first=i == 0)
        for i, (inputs, outputs) in enumerate(zip([channels, *maps], maps, strict=False))
    ]
    return Discriminator(nn.Sequential(*blocks, nn.ReLU(), SumPool(), glorot(nn.Linear(maps[-1], 1))))


def standard_discriminator(image_size: int, channels: int, width: int) -> Discriminator:
    """SNGAN's "standard" discriminator: 3x3 and 4x4 stride-2 convolutions in turn, LeakyReLU 0.1.

    Millions of parameters at width 64, three channels: 0.70 (16 pixels), 2.94 (32), 11.9 (64), 38.1 (128).
    """
    maps = halving_channels(image_size, width)[::-1]
    layers: list[nn.Module] = []
    inputs = channels
    for outputs, after in zip(maps, [*maps[1:], None], strict=True):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.LeakyReLU(0.1)]
        if after is not None:
            halving = nn.Conv2d(outputs, outputs, kernel_size=4, stride=2, padding=1)
            layers += [halving, nn.LeakyReLU(0.1)]
        inputs = outputs
    body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(BOTTOM**2 * maps[-1], 1))
    initialise_normal(body)
    return Discriminator(body)
