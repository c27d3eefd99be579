"""OCGAN (Perera et al., 2019): an autoencoder all of whose latent space decodes to normal images."""

from dataclasses import dataclass
from typing import Any, Final

import torch

from anomaly_gan.distributed import mean_of_rows
from anomaly_gan.errors import UserError
from anomaly_gan.losses.adversarial import d_loss_made, d_loss_real, g_loss
from anomaly_gan.methods.base import Method
from anomaly_gan.metrics.game import accuracy, diversity
from anomaly_gan.networks.ocgan import Centred, LatentDiscriminator, VisualDiscriminator
from anomaly_gan.scoring.reconstruction import ReconstructionError, mean_squared
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.phases import Phase, Stage, Step, Terms
from anomaly_gan.types import ImageBatches, Images, Latents

FORM: Final = "non_saturating"
"""Of all games: binary cross-entropies."""


@dataclass(frozen=True)
class GameStep(Step):
    """`images` are as the networks take them."""

    noisy: Centred
    """The same with noise, which the encoder sees."""
    drawn: Latents
    """Latents before their tanh; after it, they are uniform in (-1, 1)."""
    mining_step: float
    """How far `drawn` goes towards what the classifier calls made; 0: nowhere."""

    def encoded(self) -> Latents:
        """E of the noisy images."""
        return self.networks["encoder"](self.noisy)

    def decoded(self, latents: Latents) -> Centred:
        """G of latents in (-1, 1)."""
        return self.networks["decoder"](latents, self.rng)

    def mined(self) -> Latents:
        """Drawn latents, moved to where the classifier is surest that their images are made."""
        if not self.mining_step:
            return self.drawn.tanh()
        with torch.enable_grad():
            start = self.drawn.detach().requires_grad_()
            logits = self.networks["classifier"](self.decoded(start.tanh()))
            # Of the sum over images: the size of a latent's step does not depend on how many there are.
            (slope,) = torch.autograd.grad(d_loss_made(logits, FORM) * len(logits), start)
        return (start - self.mining_step * slope).tanh().detach()


class OCGAN(Method):
    """Encoder and decoder against a discriminator of images and one of latents; a classifier finds hard ones.

    Where paper and released code differ, this is the paper's: latents are mined from the first step on, in
    the code from epoch 150 on; in the code, the latent term of encoder and decoder weighs 10 and the pixels'
    half as much. Ours alone: noise is drawn anew each time that an image comes, in the code once an image;
    mining starts from the latents that the other networks see, in the code from the tanh of other uniform
    draws, which leaves out the rim; and the last state counts, as for every method of this package, in the
    code the epoch with the lowest error on held-out images.

    Args:
        scorer: it holds encoder and decoder.
        noise: standard deviation of what is added to the encoder's images, at least 0.
        mining_step: of the search for latents whose images do not look like the class, at least 0.
        training: see `Method`.
    """

    makers = ("decoder",)

    least_batch = 2  # batch norm of codes

    def __init__(self, *, scorer: ReconstructionError, noise: float, mining_step: float, **training: Any):
        for key, value in (("noise", noise), ("mining_step", mining_step)):
            if value < 0:
                raise UserError(f"method.{key}={value} must be at least 0")
        channels, width = scorer.channels, scorer.encoder.width
        others = {
            "discriminator": VisualDiscriminator(channels, max(8, 3 * width // 16)),
            "latent_discriminator": LatentDiscriminator(scorer.decoder.latent_size),
            "classifier": VisualDiscriminator(channels, width),
        }
        phases = (
            Phase("discriminator", ("discriminator",), discriminator),
            Phase("latent_discriminator", ("latent_discriminator",), latent_discriminator),
            Phase("classifier", ("classifier",), classifier),
            Phase("autoencoder", ("encoder", "decoder"), autoencoder),
        )
        super().__init__(
            scorer=scorer,
            networks={"encoder": scorer.encoder, "decoder": scorer.decoder} | others,
            plan=[Stage("game", phases, begin=self.set_mean)],
            **training,
        )
        self.scorer: ReconstructionError = scorer
        self.noise, self.mining_step = noise, mining_step

    def set_mean(self, normal: ImageBatches) -> None:
        """Set the mean image of the normal class."""
        self.scorer.mean.zero_()
        self.scorer.mean = mean_of_rows(self.scorer.prepared(images) for images in normal)

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> GameStep:
        prepared, of_step = self.scorer.prepared(images), rng("step")
        noise = of_step.normal(len(images), prepared[0].numel()).view_as(prepared)
        uniform = 2 * of_step.uniform(len(images), self.scorer.decoder.latent_size) - 1
        drawn = torch.atanh(uniform.clamp(-0.999, 0.999))
        return GameStep(
            networks=dict(self.networks.items()),
            images=prepared,
            shard=shard,
            rng=of_step,
            noisy=prepared + self.noise * noise,
            drawn=drawn,
            mining_step=self.mining_step,
        )

    def health(self, step: GameStep) -> Terms:
        made = step.decoded(step.drawn.tanh())
        visual, latent = step.networks["discriminator"], step.networks["latent_discriminator"]
        return {
            "discriminator_accuracy_real": accuracy(visual(step.images), real=True),
            "discriminator_accuracy_synthetic": accuracy(visual(made), real=False),
            "latent_discriminator_accuracy_encoded": accuracy(latent(step.encoded()), real=False),
            "diversity": diversity(made) / diversity(step.images).clamp_min(1e-12),
        }


def discriminator(step: GameStep) -> Terms:
    """The visual discriminator tells real images from decoded draws."""
    with torch.no_grad():
        made = step.decoded(step.drawn.tanh())
    network = step.networks["discriminator"]
    return {"real": d_loss_real(network(step.images), FORM), "made": d_loss_made(network(made), FORM)}


def latent_discriminator(step: GameStep) -> Terms:
    """The latent discriminator tells draws from encoded images."""
    with torch.no_grad():
        encoded = step.encoded()
    network = step.networks["latent_discriminator"]
    drawn = network(step.drawn.tanh())
    return {"drawn": d_loss_real(drawn, FORM), "encoded": d_loss_made(network(encoded), FORM)}


def classifier(step: GameStep) -> Terms:
    """The classifier tells reconstructions from decoded draws."""
    with torch.no_grad():
        reconstructed, made = step.decoded(step.encoded()), step.decoded(step.drawn.tanh())
    network = step.networks["classifier"]
    return {
        "reconstructed": d_loss_real(network(reconstructed), FORM),
        "made": d_loss_made(network(made), FORM),
    }


def autoencoder(step: GameStep) -> Terms:
    """Encoder and decoder reconstruct, fill the latent space, and pass images of mined latents for real."""
    encoded = step.encoded()
    made = step.decoded(step.mined())
    # Last: the decoder's running statistics, by which images are scored, are those of reconstructions.
    reconstructed = step.decoded(encoded)
    return {
        "pixels": mean_squared(reconstructed, step.images).mean(),
        "visual": g_loss(step.networks["discriminator"](made), FORM),
        "latent": g_loss(step.networks["latent_discriminator"](encoded), FORM),
    }
