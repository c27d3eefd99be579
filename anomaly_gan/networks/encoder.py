"""E: from images to latents; each family's generator mirrored."""

from itertools import pairwise

import torch
from torch import nn

from anomaly_gan.networks.blocks import (
    BOTTOM,
    Down,
    centred,
    chain,
    glorot,
    halving_channels,
    initialise_normal,
    residual_channels,
)
from anomaly_gan.types import Images, Latents


class Encoder(nn.Module):
    """`body` down to the smallest feature map, Linear to the latents.

    Args:
        body: [B, C, H, W] in [-1, 1] -> [B, c, 4, 4].
        top: Linear, 4 * 4 * c -> L.
    """

    def __init__(self, body: nn.Sequential, top: nn.Linear):
        super().__init__()
        self.body, self.top = body, top
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Images) -> Latents:
        """[B, C, H, W] in [0, 1] -> [B, L]."""
        return self.top(self.body(centred(images)).flatten(1))


def residual_encoder(image_size: int, channels: int, width: int, latent_size: int) -> Encoder:
    """The mirror of `residual_generator`: down for up.

    Millions of parameters at width 64, three channels, L = 128:
    3.03 (16 pixels), 4.27 (32), 12.2 (64), 32.1 (128).
    """
    maps = residual_channels(image_size, width)[::-1]
    bottom = glorot(nn.Conv2d(channels, maps[0], kernel_size=3, padding=1))
    body = nn.Sequential(bottom, *chain(Down, maps), nn.BatchNorm2d(maps[-1]), nn.ReLU())
    return Encoder(body, glorot(nn.Linear(BOTTOM**2 * maps[-1], latent_size)))


def standard_encoder(image_size: int, channels: int, width: int, latent_size: int) -> Encoder:
    """The mirror of `standard_generator`: convolution for deconvolution.

    Millions of parameters at width 64, three channels, L = 128:
    1.18 (16 pixels), 3.80 (32), 13.2 (64), 30.0 (128).
    """
    maps = halving_channels(image_size, width)[::-1]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, maps[0], kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(maps[0]),
        nn.ReLU(),
    ]
    for inputs, outputs in pairwise(maps):
        convolution = nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    encoder = Encoder(nn.Sequential(*layers), nn.Linear(BOTTOM**2 * maps[-1], latent_size))
    initialise_normal(encoder)
    return encoder
