"""How the games of Algorithm 1 stand: numbers on the device, for which nobody has waited yet."""

import torch

from anomaly_gan.types import Images, Latents, Logits, Scalar


def accuracy(logits: Logits, real: bool) -> Scalar:
    """Part of the inputs, in [0, 1], that a discriminator tells right: real where its logit is positive."""
    return ((logits > 0) == real).float().mean()


def normality_distance(latents: Latents) -> Scalar:
    """How far each latent dimension is from N(0, 1): the Wasserstein-2 distance, RMS over the dimensions.

    Between the batch's sorted values and the quantiles of N(0, 1); draws of N(0, I) get about 0.28 at 32 rows
    and 0.06 at 1,000, so a figure means something only beside that of as many draws.
    """
    rows = len(latents)
    middles = (torch.arange(rows, device=latents.device, dtype=torch.float64) + 0.5) / rows
    quantiles = torch.special.ndtri(middles)[:, None]  # [B, 1]
    return (latents.double().sort(dim=0).values - quantiles).square().mean().sqrt()


def diversity(images: Images) -> Scalar:
    """Root mean squared difference of two images of a batch, per pixel, in [0, 1]; 0: all alike."""
    variance = images.flatten(1).var(dim=0, unbiased=True).mean()
    return (2 * variance).sqrt()  # E (x - x')^2 = 2 Var x
