"""OCGAN's score (Perera et al., 2019): how well an image is reconstructed by what has seen normal ones."""

import torch
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.networks.blocks import centred
from anomaly_gan.networks.ocgan import SIDE, Centred, Decoder, Encoder
from anomaly_gan.precision import in_full_precision
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometry import resized
from anomaly_gan.types import ImageBatches, Images, RawImages, Scores


class ReconstructionError(Scorer):
    """Mean squared difference between an image, at 61 pixels, and what encoder and decoder make of it.

    The images are in [-1, 1], less the mean image of the normal class, which the training sets before it
    begins. The released code adds the training's noise to the images that it scores, too; here the same image
    always has the same score.

    Args:
        image_size, channels: see `Scorer`.
        width: channels of the largest feature map.
        latent_size: L.
        seed: of the latents of `generate`.
    """

    primary = "ocgan"
    mean: Tensor
    """The mean of the normal images at 61 pixels, in [-1, 1]. [C, 61, 61]"""

    def __init__(self, *, image_size: int, channels: int, width: int, latent_size: int, seed: int):
        super().__init__(image_size=image_size, channels=channels)
        if latent_size < 1:
            raise UserError(f"scoring.latent_size={latent_size} must be at least 1")
        self.encoder = Encoder(channels, width, latent_size)
        self.decoder = Decoder(channels, width, latent_size)
        self.seed = seed
        self.register_buffer("mean", torch.zeros(channels, SIDE, SIDE))

    def prepared(self, images: Images) -> Centred:
        """Images as the networks take them."""
        return centred(resized(images, SIDE)) - self.mean

    def fit(self, normal: ImageBatches) -> None:
        """It takes nothing from them."""

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        return {"ocgan": self._error(images)}

    def forward(self, images: RawImages) -> Scores:
        return self._error(to_float(images))

    @property
    def generates(self) -> bool:
        return True

    @property
    def reconstructs(self) -> bool:
        return True

    @torch.no_grad()
    def generate(self, count: int, *purpose: int | str) -> Images:
        self.eval()
        rng = RowRng(make_rng("cpu", self.seed, *purpose))
        latents = 2 * rng.uniform(count, self.decoder.latent_size).to(self.device) - 1
        return torch.cat([self._shown(self.decoder(part)) for part in latents.split(256)])

    @torch.no_grad()
    def reconstruct(self, images: Images) -> Images:
        self.eval()
        return self._shown(self.decoder(self.encoder(self.prepared(images))))

    def _shown(self, made: Centred) -> Images:
        return resized(((made + self.mean + 1) / 2).clamp(0, 1), self.image_size)

    def _error(self, images: Images) -> Scores:
        prepared = self.prepared(images)
        return mean_squared(self.decoder(self.encoder(prepared)), prepared)


@in_full_precision
def mean_squared(made: Centred, images: Centred) -> Scores:
    """Of each image, the mean over its values of the squared difference, [B]; the range of values is 2."""
    return (made - images).square().mean((1, 2, 3))
