"""What reconstructions are held to (eqs. 8 and 10)."""

import torch.nn.functional as F

from anomaly_gan.precision import in_full_precision
from anomaly_gan.types import Embeddings, Images, Latents, Scalar


@in_full_precision
def pixel_error(images: Images, reconstructed: Images) -> Scalar:
    """Squared error, mean over batch, channels and pixels (eq. 8, first term).

    The paper prints a norm, a sum over pixels: at 3,072 of them, times lambda = 100, the similarity could do
    nothing beside it.
    """
    return F.mse_loss(reconstructed, images)


@in_full_precision
def dissimilarity(embeddings: Embeddings, others: Embeddings) -> Scalar:
    """Minus the cosine of each pair, mean over the batch, in [-1, 1] (eq. 8, second term)."""
    return -F.cosine_similarity(embeddings, others, dim=1).mean()


@in_full_precision
def latent_error(latents: Latents, recovered: Latents) -> Scalar:
    """Squared error, mean over batch and latent dimensions (eq. 10)."""
    return F.mse_loss(recovered, latents)
