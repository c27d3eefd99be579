"""Deep SVDD's network (Ruff et al., 2018) and the decoder that it is trained with first."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.blocks import FeatureMap
from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import Embeddings, Images

HALVINGS = 3
"""How often the side is halved: from 32 pixels to 4."""

SLOPE = 0.01
"""Of all LeakyReLUs below zero."""

EPSILON = 1e-4
"""Of all batch norms, which have no weights: with a bias, the network could map every image to the centre."""


class LeNet(nn.Module):
    """Three convolutions of 5x5, each with batch norm, LeakyReLU and pooling, then a linear layer; no biases.

    At width 64, 32 pixels and 3 channels it is the released CIFAR-10 network: 32, 64 and 128 channels.

    Args:
        image_size: side of the images in pixels, a multiple of 8.
        channels: 1 or 3.
        width: channels of the second convolution; the first has half as many, the third twice as many.
        embedding_size: outputs.

    Raises:
        UserError: another side, or a width that is no multiple of 16.
    """

    def __init__(self, image_size: int, channels: int, width: int = 64, embedding_size: int = 128):
        if image_size < 8 or image_size % 8:
            raise UserError(f"image_size={image_size}: Deep SVDD's network needs a multiple of 8")
        if width < 16 or width % 16:
            raise UserError(f"width={width}: give a multiple of 16: 64 is Deep SVDD's, 16 fits a CPU")
        super().__init__()
        self.width = width
        maps = [channels, width // 2, width, 2 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=5, padding=2, bias=False)
            for inputs, outputs in pairwise(maps)
        )
        self.norms = nn.ModuleList(_norm(outputs) for outputs in maps[1:])
        self.bottom = image_size // 2**HALVINGS
        self.linear = nn.Linear(maps[-1] * self.bottom**2, embedding_size, bias=False)
        for layer in self.convolutions:
            _xavier(layer)

    def forward(self, images: Images) -> Embeddings:
        """[B, C, H, H] of any values -> [B, D]."""
        x: Tensor = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.max_pool2d(F.leaky_relu(norm(convolution(x)), SLOPE), 2)
        return self._embedded(x.flatten(1))

    @in_full_precision
    def _embedded(self, features: Tensor) -> Embeddings:
        """It costs next to nothing, and scores are made of it: never in half precision."""
        return self.linear(features)


class LeNetDecoder(nn.Module):
    """From embeddings back to images, no plain mirror: batch norm first, four deconvolutions, sigmoid.

    Args:
        image_size, channels, width, embedding_size: as of the `LeNet`.

    Raises:
        UserError: the embedding cannot be cut into maps of the smallest side.
    """

    def __init__(self, image_size: int, channels: int, width: int = 64, embedding_size: int = 128):
        self.bottom = image_size // 2**HALVINGS
        if embedding_size % self.bottom**2:
            raise UserError(
                f"scoring.embedding_size={embedding_size}: for images of {image_size} pixels Deep SVDD's "
                f"decoder needs a multiple of {self.bottom**2}"
            )
        super().__init__()
        self.embedding_norm = nn.BatchNorm1d(embedding_size, eps=EPSILON, affine=False)
        maps = [embedding_size // self.bottom**2, 2 * width, width, width // 2, channels]
        self.deconvolutions = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, kernel_size=5, padding=2, bias=False)
            for inputs, outputs in pairwise(maps)
        )
        self.norms = nn.ModuleList(_norm(outputs) for outputs in maps[1:-1])
        for layer in self.deconvolutions:
            _xavier(layer)

    def forward(self, embeddings: Embeddings) -> Images:
        """[B, D] -> [B, C, H, H] in (0, 1)."""
        smallest = self.embedding_norm(embeddings).unflatten(1, (-1, self.bottom, self.bottom))
        x: FeatureMap = self.deconvolutions[0](F.leaky_relu(smallest, SLOPE))
        for norm, deconvolution in zip(self.norms, self.deconvolutions[1:], strict=True):
            x = F.interpolate(F.leaky_relu(norm(x), SLOPE), scale_factor=2.0, mode="nearest")
            x = deconvolution(x)
        return x.sigmoid()


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, affine=False)


def _xavier(layer: nn.Module) -> None:
    nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain("leaky_relu"))  # type: ignore[arg-type]
