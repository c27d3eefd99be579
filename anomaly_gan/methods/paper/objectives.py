"""One function per line of Algorithm 1: what the line minimises, as named terms.

The weight of a term stands in the configuration, under `method.phases.<line>.weights.<term>`. A line makes
its images anew, for the line before it has moved the networks; the latents h are those of the iteration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from anomaly_gan.distributed import gather
from anomaly_gan.losses.adversarial import Form, d_loss_made, d_loss_real, g_loss
from anomaly_gan.losses.contrastive import nt_xent, shift_classification
from anomaly_gan.losses.reconstruction import dissimilarity, latent_error, pixel_error
from anomaly_gan.training import phases
from anomaly_gan.training.phases import Terms
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.geometry import resized
from anomaly_gan.transforms.views import ShiftedViews
from anomaly_gan.types import Images


@dataclass(frozen=True)
class Step(phases.Step):
    """What one iteration of Algorithm 1 hands to each of its lines; `images` is X, the real inliers."""

    latents: Float[Tensor, "draws latent"]
    """h: draws of N(0, I), [kB, L]; one or more for each inlier."""
    views: ShiftedViews
    """The shifts S and the augmentation T."""
    temperature: float
    """tau of NT-Xent."""
    adversarial: Form
    """Of the games of D and D'."""
    diff_augment: DiffAugment
    """Of every image that D sees."""
    generator_side: int
    """Side of the images that E, G and D work with, pixels."""

    def inliers(self) -> Images:
        """X at the side that E, G and D work with."""
        return resized(self.images, self.generator_side)

    def synthetic(self) -> Images:
        """G(h)."""
        return self.networks["generator"](self.latents)

    def reconstructed(self) -> Images:
        """G(E(x))."""
        return self.networks["generator"](self.networks["encoder"](self.inliers()))


class SharedStep(Step):
    """A step whose lines all see the same G(h) and G(E(x)), each made once."""

    @cached_property
    def _synthetic(self) -> Images:
        return super().synthetic()

    @cached_property
    def _reconstructed(self) -> Images:
        return super().reconstructed()

    def synthetic(self) -> Images:
        """G(h), made at the first call."""
        return self._synthetic

    def reconstructed(self) -> Images:
        """G(E(x)), made at the first call."""
        return self._reconstructed


def contrast_shifted(step: Step, images: Images) -> Terms:
    """CSI (eq. 4) of `images`: con-SI (eq. 2) and cls-SI (eq. 3) over 2KB views."""
    views = step.views.training(resized(images, step.images.shape[-1]), step.rng)
    features = step.networks["feature_extractor"](views)
    labels = step.views.training_labels(len(images), images.device)
    groups = len(views) // len(step.images)
    everyone = gather(features.embedding, step.shard.sizes(groups))
    first = groups * step.shard.first
    return {
        "contrastive": nt_xent(features.embedding, step.temperature, everyone, first),
        "shift_classification": shift_classification(features.shift_logits, labels),
    }


def discriminate(step: Step, made: Mapping[str, Images]) -> Terms:
    """D's side of eq. 7 on X and the images `made`, by their names."""
    batches = {"real": step.inliers(), **made}
    logits = _discriminate(step, list(batches.values()))
    terms = {"real": d_loss_real(logits[0], step.adversarial)}
    return terms | {
        name: d_loss_made(values, step.adversarial) for name, values in zip(made, logits[1:], strict=True)
    }


def pass_for_real(step: Step, made: Mapping[str, Images]) -> Terms:
    """The other side of eq. 7, of those who made the images."""
    logits = _discriminate(step, list(made.values()))
    return {name: g_loss(values, step.adversarial) for name, values in zip(made, logits, strict=True)}


def _discriminate(
    step: Step, batches: list[Float[Tensor, "_ channels height width"]]
) -> list[Float[Tensor, "_"]]:
    # One pass for all: D has no batch norm, and its spectral norm moves on once a step.
    images = step.diff_augment(torch.cat(batches), step.rng)
    logits = step.networks["discriminator"](images)
    return list(logits.split([len(batch) for batch in batches]))


def feature(step: Step) -> Terms:
    """F minimises CSI(X), eq. 4."""
    return contrast_shifted(step, step.images)


def discriminator(step: Step) -> Terms:
    """D tells X from G(h) and G(E(x)), eq. 7."""
    with torch.no_grad():
        made = {"synthetic": step.synthetic(), "reconstructed": step.reconstructed()}
    return discriminate(step, made)


def discriminator_of_synthetic(step: Step) -> Terms:
    """The same without E: D tells X from G(h)."""
    with torch.no_grad():
        made = {"synthetic": step.synthetic()}
    return discriminate(step, made)


def adversarial(step: Step) -> Terms:
    """G and E pass G(h) and G(E(x)) for real, eq. 7."""
    return pass_for_real(step, {"synthetic": step.synthetic(), "reconstructed": step.reconstructed()})


def adversarial_of_synthetic(step: Step) -> Terms:
    """The same without E: G passes G(h) for real."""
    return pass_for_real(step, {"synthetic": step.synthetic()})


def synthetic_contrast(step: Step) -> Terms:
    """CSI-S: G minimises CSI(G(h)) through T and F, eq. 6."""
    return contrast_shifted(step, step.synthetic())


def latent_discriminator(step: Step) -> Terms:
    """D' tells h from E(x), eq. 9."""
    network = step.networks["latent_discriminator"]
    with torch.no_grad():
        encoded = step.networks["encoder"](step.inliers())
    logits = network(torch.cat([step.latents, encoded]))
    drawn, made = logits.split([len(step.latents), len(encoded)])
    return {
        "drawn": d_loss_real(drawn, step.adversarial),
        "encoded": d_loss_made(made, step.adversarial),
    }


def latent_adversarial(step: Step) -> Terms:
    """E passes E(x) for drawn, eq. 9."""
    encoded = step.networks["encoder"](step.inliers())
    return {"encoded": g_loss(step.networks["latent_discriminator"](encoded), step.adversarial)}


def reconstruction(step: Step) -> Terms:
    """REC: G and E bring G(E(x)) close to x, in pixels and, under T, to F, eq. 8."""
    reconstructed = step.reconstructed()
    both = torch.cat([step.images, resized(reconstructed, step.images.shape[-1])])
    # One batch, as in the joint line: normalised apart, the two would hide from F how they differ on average.
    views = step.views.apply(both, step.views.augment.draw(len(both), step.rng))
    of_real, of_reconstructed = step.networks["feature_extractor"](views).embedding.chunk(2)
    return {
        "pixels": pixel_error(step.inliers(), reconstructed),
        "dissimilarity": dissimilarity(of_real, of_reconstructed),
    }


def latent_reconstruction(step: Step) -> Terms:
    """LREC: E finds h back in G(h), eq. 10."""
    with torch.no_grad():
        synthetic = step.synthetic()
    return {"latents": latent_error(step.latents, step.networks["encoder"](synthetic))}


def _for_f(step: Step) -> Images:
    """G(h) that F learns from, not G: as many images as there are real ones, and of their side."""
    with torch.no_grad():
        return resized(step.synthetic()[: len(step.images)], step.images.shape[-1])


def joint(step: Step) -> Terms:
    """JOINT: F minimises CSI(X u G(h)), as many synthetic as real, eq. 5."""
    return contrast_shifted(step, torch.cat([step.images, _for_f(step)]))


def joint_against(step: Step) -> Terms:
    """F minimises CSI(X) with the views of G(h) as further negatives, as many synthetic as real images.

    Not the paper's: a synthetic image has no positive there, and its shift is not learned.
    """
    real, count = step.images, len(step.images)
    views = step.views.training(torch.cat([real, _for_f(step)]), step.rng)
    features = step.networks["feature_extractor"](views)
    groups = len(views) // (2 * count)

    def halves(rows: Tensor) -> list[Tensor]:
        # Each group of rows, a view of a shift, has first the real images, then the synthetic ones.
        return [half.flatten(0, 1) for half in rows.unflatten(0, (groups, -1)).split(count, dim=1)]

    of_real, of_synthetic = halves(features.embedding)
    sizes = step.shard.sizes(groups)
    everyone = torch.cat([gather(of_real, sizes), gather(of_synthetic, sizes)])
    shifts = halves(features.shift_logits)[0]
    return {
        "contrastive": nt_xent(of_real, step.temperature, everyone, groups * step.shard.first),
        "shift_classification": shift_classification(shifts, step.views.training_labels(count, real.device)),
    }
