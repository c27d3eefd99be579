"""G: from latents to images."""

from itertools import pairwise

import torch
from torch import nn

from anomaly_gan.networks.blocks import (
    BOTTOM,
    Up,
    chain,
    glorot,
    halving_channels,
    initialise_normal,
    residual_channels,
)
from anomaly_gan.precision import at_least_float32
from anomaly_gan.types import Images, Latents


class Generator(nn.Module):
    """Linear to the smallest feature map, `body` up to the images' side, tanh.

    Args:
        bottom: Linear, L -> 4 * 4 * channels of the smallest map.
        body: [B, c, 4, 4] -> [B, C, H, W], any real number.
    """

    def __init__(self, bottom: nn.Linear, body: nn.Sequential):
        super().__init__()
        self.bottom, self.body = bottom, body
        self.latent_size = bottom.in_features
        self.to(memory_format=torch.channels_last)

    def forward(self, latents: Latents) -> Images:
        """[B, L] -> [B, C, H, W] in [0, 1]."""
        smallest = self.bottom(latents).view(len(latents), -1, BOTTOM, BOTTOM)
        body = self.body(smallest.contiguous(memory_format=torch.channels_last))
        # Under autocast as well, images are float32.
        return (at_least_float32(body).tanh() + 1) / 2


def residual_generator(image_size: int, channels: int, width: int, latent_size: int) -> Generator:
    """SNGAN's residual generator; no spectral norm.

    Millions of parameters at width 64, three channels, L = 128:
    3.03 (16 pixels), 4.28 (32), 12.2 (64), 32.2 (128).
    """
    maps = residual_channels(image_size, width)
    bottom = glorot(nn.Linear(latent_size, BOTTOM**2 * maps[0]))
    top = glorot(nn.Conv2d(maps[-1], channels, kernel_size=3, padding=1))
    return Generator(bottom, nn.Sequential(*chain(Up, maps), nn.BatchNorm2d(maps[-1]), nn.ReLU(), top))


def standard_generator(image_size: int, channels: int, width: int, latent_size: int) -> Generator:
    """SNGAN's "standard" generator: 4x4 stride-2 deconvolutions, BN and ReLU after each; no spectral norm.

    Millions of parameters at width 64, three channels, L = 128:
    1.19 (16 pixels), 3.81 (32), 13.3 (64), 30.0 (128).
    """
    maps = halving_channels(image_size, width)
    layers: list[nn.Module] = [nn.BatchNorm2d(maps[0]), nn.ReLU()]
    for inputs, outputs in pairwise(maps):
        # Batch norm takes the bias away again.
        deconvolution = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False)
        layers += [deconvolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    layers.append(nn.Conv2d(maps[-1], channels, kernel_size=3, padding=1))
    generator = Generator(nn.Linear(latent_size, BOTTOM**2 * maps[0]), nn.Sequential(*layers))
    initialise_normal(generator)
    return generator
