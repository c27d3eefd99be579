"""The two families of E, G, D and D' (SNGAN's), by configuration."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from anomaly_gan.errors import UserError
from anomaly_gan.networks.blocks import SIZES
from anomaly_gan.networks.discriminator import (
    Discriminator,
    residual_discriminator,
    standard_discriminator,
)
from anomaly_gan.networks.encoder import Encoder, residual_encoder, standard_encoder
from anomaly_gan.networks.generator import Generator, residual_generator, standard_generator
from anomaly_gan.networks.latent_discriminator import LatentDiscriminator


@dataclass(frozen=True)
class Family(ABC):
    """Networks that fit together.

    Args:
        width: channels that all numbers of channels are multiples of, itself a multiple of 8; 64 is SNGAN's.
        latent_size: L.
        image_size: side of the images that G makes, pixels, one of `SIZES`; None: the largest that is not
            above the data's.
    """

    width: int = 64
    latent_size: int = 128
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise UserError(f"networks.width={self.width}: give a multiple of 8; 64 is SNGAN's")
        if self.latent_size < 1:
            raise UserError(f"networks.latent_size={self.latent_size} must be at least 1")
        if self.image_size is not None and self.image_size not in SIZES:
            raise UserError(
                f"networks.image_size={self.image_size}: give one of {', '.join(map(str, SIZES))}"
            )

    def side(self, image_size: int) -> int:
        """Side of G's images for data of `image_size` pixels.

        Raises:
            UserError: the data's images are smaller than any that G can make.
        """
        if image_size < SIZES[0]:
            raise UserError(
                f"data.image_size={image_size}: the generator starts at {SIZES[0]} pixels; use ablation=csi"
            )
        return self.image_size or max(size for size in SIZES if size <= image_size)

    def build(self, image_size: int, channels: int) -> dict[str, Callable[[], nn.Module]]:
        """How each network is made for data of `image_size` pixels, by its name in the phase table."""
        side = self.side(image_size)
        return {
            "encoder": lambda: self.encoder(side, channels),
            "generator": lambda: self.generator(side, channels),
            "discriminator": lambda: self.discriminator(side, channels),
            "latent_discriminator": lambda: LatentDiscriminator(self.latent_size),
        }

    @abstractmethod
    def encoder(self, side: int, channels: int) -> Encoder:
        """E for images of `side` pixels."""

    @abstractmethod
    def generator(self, side: int, channels: int) -> Generator:
        """G, likewise."""

    @abstractmethod
    def discriminator(self, side: int, channels: int) -> Discriminator:
        """D, likewise."""


class ResNet(Family):
    """SNGAN's residual networks."""

    def encoder(self, side: int, channels: int) -> Encoder:
        return residual_encoder(side, channels, self.width, self.latent_size)

    def generator(self, side: int, channels: int) -> Generator:
        return residual_generator(side, channels, self.width, self.latent_size)

    def discriminator(self, side: int, channels: int) -> Discriminator:
        return residual_discriminator(side, channels, self.width)


class Standard(Family):
    """SNGAN's "standard" convolutional networks."""

    def encoder(self, side: int, channels: int) -> Encoder:
        return standard_encoder(side, channels, self.width, self.latent_size)

    def generator(self, side: int, channels: int) -> Generator:
        return standard_generator(side, channels, self.width, self.latent_size)

    def discriminator(self, side: int, channels: int) -> Discriminator:
        return standard_discriminator(side, channels, self.width)
