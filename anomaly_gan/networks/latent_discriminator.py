"""D': latents of N(0, I) or encoded ones."""

from torch import nn

from anomaly_gan.networks.blocks import normalise_spectrally
from anomaly_gan.types import Latents, Logits


class LatentDiscriminator(nn.Module):
    """L-512-512-1, LeakyReLU 0.2, spectral norm; positive: drawn from N(0, I).

    Millions of parameters at L = 128: 0.33.
    """

    def __init__(self, latent_size: int, hidden: int = 512):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(latent_size, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )
        normalise_spectrally(self)

    def forward(self, latents: Latents) -> Logits:
        """[B, L] -> logits [B]."""
        return self.body(latents).squeeze(1)
