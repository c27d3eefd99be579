"""How the games of the autoencoder stand: who wins, and whether what is made still varies."""

from anomaly_gan.methods.paper.objectives import Step
from anomaly_gan.metrics.game import accuracy, diversity, normality_distance
from anomaly_gan.training.phases import Terms


def health(step: Step) -> Terms:
    """How the games stand on one batch; `step` as for the lines of Algorithm 1."""
    networks, inliers, synthetic = step.networks, step.inliers(), step.synthetic()
    discriminator = networks["discriminator"]
    found = {
        "discriminator_accuracy_real": accuracy(discriminator(inliers), real=True),
        "discriminator_accuracy_synthetic": accuracy(discriminator(synthetic), real=False),
        "diversity": diversity(synthetic) / diversity(inliers).clamp_min(1e-12),
    }
    if "encoder" in networks:
        encoded, latent_discriminator = networks["encoder"](inliers), networks["latent_discriminator"]
        found |= {
            "discriminator_accuracy_reconstructed": accuracy(discriminator(step.reconstructed()), real=False),
            "latent_discriminator_accuracy_drawn": accuracy(latent_discriminator(step.latents), real=True),
            "latent_discriminator_accuracy_encoded": accuracy(latent_discriminator(encoded), real=False),
            "encoded_mean": encoded.mean(),
            "encoded_variance": encoded.var(dim=0).mean(),
            "encoded_normality_distance": normality_distance(encoded),
            "drawn_normality_distance": normality_distance(step.latents[: len(encoded)]),
        }
    return found
