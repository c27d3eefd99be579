"""OCGAN's networks (Perera et al., 2019): convolutions of 5x5 with stride 2 between 61 pixels and one."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.blocks import FeatureMap
from anomaly_gan.networks.dropout import Dropout
from anomaly_gan.precision import at_least_float32
from anomaly_gan.randomness import RowRng
from anomaly_gan.types import Latents, Logits

SIDE = 61
"""Of the images, pixels: 61, 29, 13, 5 and 1 are the sides of the feature maps."""

LAST = 3
"""The place of the last of the decoder's four deconvolutions, which no batch norm follows."""

SLOPE = 0.2
"""Of LeakyReLUs below zero."""

MOMENTUM = 0.9
"""Of batch norm: how much of a batch's statistics goes into the running ones."""

Centred = Float[Tensor, "batch channels 61 61"]
"""Images in [-1, 1] less the mean image of the normal class, which is of that range itself. What lies further
than 1 from the mean, no decoder with a tanh can make: so it is in the released code."""


def maps(width: int) -> list[int]:
    """Channels of the feature maps of 29, 13 and 5 pixels.

    Raises:
        UserError: a width that is no multiple of 8.
    """
    if width < 8 or width % 8:
        raise UserError(f"width={width}: give a multiple of 8: 64 is OCGAN's, 16 fits a CPU")
    return [width, 2 * width, 4 * width]


class Down(nn.Sequential):
    """Four convolutions from an image to a vector, LeakyReLU between them; batch norm after the middle two.

    Args:
        channels: numbers of channels, from the image's to the vector's.
        last_bias: whether the last convolution has one; the first has, those before batch norm have none.
    """

    def __init__(self, channels: Sequence[int], last_bias: bool):
        first, second, third, fourth, last = channels
        layers: list[nn.Module] = [nn.Conv2d(first, second, kernel_size=5, stride=2), nn.LeakyReLU(SLOPE)]
        for inputs, outputs in ((second, third), (third, fourth)):
            layers.append(nn.Conv2d(inputs, outputs, kernel_size=5, stride=2, bias=False))
            layers += [nn.BatchNorm2d(outputs, momentum=MOMENTUM), nn.LeakyReLU(SLOPE)]
        layers.append(nn.Conv2d(fourth, last, kernel_size=5, stride=2, bias=last_bias))
        super().__init__(*layers, nn.Flatten())


class Encoder(nn.Module):
    """From images to latents in (-1, 1): batch norm and tanh at its end.

    In one of its two versions, the released code has LeakyReLU there instead; the paper has tanh.

    Args:
        channels: 1 or 3.
        width: channels of the first feature map; 64 is the published size.
        latent_size: L.
    """

    def __init__(self, channels: int, width: int, latent_size: int):
        super().__init__()
        self.width = width
        self.body = Down([channels, *maps(width), latent_size], last_bias=False)
        self.norm = nn.BatchNorm1d(latent_size, momentum=MOMENTUM)
        initialise(self)

    def forward(self, images: Centred) -> Latents:
        """[B, C, 61, 61] -> [B, L]."""
        return at_least_float32(self.norm(self.body(images))).tanh()


class Decoder(nn.Module):
    """From latents to images: four deconvolutions, each but the last with batch norm and ReLU; a dropout.

    Args:
        channels, width, latent_size: as of the `Encoder`.
    """

    def __init__(self, channels: int, width: int, latent_size: int):
        super().__init__()
        self.latent_size = latent_size
        sizes = [latent_size, *reversed(maps(width)), channels]
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, kernel_size=5, stride=2, bias=place == LAST)
            for place, (inputs, outputs) in enumerate(pairwise(sizes))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size, momentum=MOMENTUM) for size in sizes[1:-1])
        self.dropout = Dropout(0.5)
        initialise(self)

    def forward(self, latents: Latents, rng: RowRng | None = None) -> Centred:
        """[B, L] -> [B, C, 61, 61] in (-1, 1); `rng` is needed in training, for dropout."""
        x: FeatureMap = latents[:, :, None, None]
        for deconvolution, norm in zip(self.deconvolutions[:LAST], self.norms, strict=True):
            x = F.relu(norm(deconvolution(x)))
        x = self.dropout(x, rng)
        return at_least_float32(self.deconvolutions[LAST](x)).tanh()


class VisualDiscriminator(nn.Module):
    """Real or made? The visual discriminator; with more channels, the classifier.

    Args:
        channels: 1 or 3.
        base: channels of the first feature map: 12 and 64 are the published sizes.
    """

    def __init__(self, channels: int, base: int):
        super().__init__()
        self.body = Down([channels, base, 2 * base, 4 * base, 1], last_bias=True)
        initialise(self)

    def forward(self, images: Centred) -> Logits:
        """[B, C, 61, 61] -> [B]; positive: real."""
        return at_least_float32(self.body(images)).squeeze(1)


class LatentDiscriminator(nn.Module):
    """Drawn from U(-1, 1) or encoded? L-128-64-32-16-1, ReLU.

    The released code ends with the sigmoid of 16 numbers, and its loss takes the sigmoid of it again; one
    logit is meant.

    Args:
        latent_size: L.
    """

    def __init__(self, latent_size: int):
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([latent_size, 128, 64, 32, 16]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Linear(16, 1))
        initialise(self)

    def forward(self, latents: Latents) -> Logits:
        """[B, L] -> [B]; positive: drawn."""
        return at_least_float32(self.body(latents)).squeeze(1)


def initialise(network: nn.Module) -> None:
    """Weights from N(0, 0.02), those of batch norm from N(1, 0.02), no biases."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, mean=1.0, std=0.02)
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
