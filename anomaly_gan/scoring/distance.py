"""Deep SVDD's score (Ruff et al., 2018): how far an image is from the centre of the normal ones."""

import torch
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.networks.lenet import LeNet
from anomaly_gan.precision import in_full_precision
from anomaly_gan.scoring.base import Precision, Scorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import Embeddings, ImageBatches, Images, RawImages, Scores

LEAST_DEVIATION = 1 / 255
"""The mean absolute deviation from which on images are divided by it: below one grey level, most of it is
noise, which would be made large."""


class CentreDistance(Scorer):
    """Squared distance of an image's embedding to a fixed centre.

    Centre and range of the input belong to the training: it sets them before its stages.

    Args:
        image_size, channels, precision: see `Scorer`.
        width, embedding_size: of the network.
    """

    primary = "deep_svdd"
    centre: Tensor
    """c, [D]."""
    low: Tensor
    """The smallest value of the normal images after `contrast_normalised`, []; it becomes 0."""
    high: Tensor
    """The largest, which becomes 1."""

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        width: int,
        embedding_size: int,
        precision: Precision,
    ):
        super().__init__(image_size=image_size, channels=channels, precision=precision)
        if embedding_size < 1:
            raise UserError(f"scoring.embedding_size={embedding_size} must be at least 1")
        self.network = LeNet(image_size, channels, width, embedding_size)
        self.register_buffer("centre", torch.zeros(embedding_size))
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.ones(()))

    def prepared(self, images: Images) -> Images:
        """Images as the network takes them: of one contrast; those of the training set in [0, 1]."""
        return (contrast_normalised(images) - self.low) / (self.high - self.low)

    def embed(self, images: Images) -> Embeddings:
        """Phi of images in [0, 1], [B, D]."""
        prepared = self.prepared(images)
        with self.autocast(images.device):
            return self.network(prepared)

    def fit(self, normal: ImageBatches) -> None:
        """It takes nothing from them: the centre was set before the network learned to come near it."""

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        return {"deep_svdd": squared_distance(self.embed(images), self.centre)}

    def forward(self, images: RawImages) -> Scores:
        return squared_distance(self.embed(to_float(images)), self.centre)


@in_full_precision
def squared_distance(embeddings: Embeddings, centre: Tensor) -> Scores:
    """||phi(x) - c||^2 of each image, [B]."""
    return (embeddings - centre).square().sum(1)


@in_full_precision
def contrast_normalised(images: Images) -> Images:
    """Each image less its mean, over its mean absolute deviation: global contrast normalisation, by L1.

    Of an image of one colour, which has no contrast, every value is 0.
    """
    # Not by the deviations: the mean of equal values is not always one of them, to the last place.
    has_contrast = images.amax((1, 2, 3), keepdim=True) > images.amin((1, 2, 3), keepdim=True)
    deviations = torch.where(has_contrast, images - images.mean((1, 2, 3), keepdim=True), 0)
    return deviations / deviations.abs().mean((1, 2, 3), keepdim=True).clamp_min(LEAST_DEVIATION)
