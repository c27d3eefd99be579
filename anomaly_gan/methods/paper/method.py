"""Yu & Chiu: contrastive learning and an adversarial autoencoder, in the phases of Algorithm 1."""

from collections.abc import Sequence
from typing import Any, Literal

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.losses.adversarial import Form
from anomaly_gan.methods.base import Method
from anomaly_gan.methods.paper.algorithm import (
    METHODS,
    networks_of,
    with_negatives,
    with_period,
    with_shared_forward,
)
from anomaly_gan.methods.paper.health import health
from anomaly_gan.methods.paper.objectives import Step
from anomaly_gan.networks.average import MovingAverage
from anomaly_gan.scoring.features import FeatureScorer
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.phases import Phase, Stage, Terms
from anomaly_gan.transforms.crops import RandomCrops
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.views import ShiftedViews
from anomaly_gan.types import Images


class AnomalyGAN(Method):
    """Algorithm 1, or of its phases those of an ablation.

    Args:
        name: key of `METHODS`.
        scorer: it holds F; where G and E are trained, it is given them.
        views: shifts and augmentation.
        crops: of the pictures, what is learned from; None: whole pictures.
        every: N; the phases of the autoencoder and `joint` run in every Nth iteration.
        temperature: tau of NT-Xent.
        adversarial: form of the games of D and D'.
        latents_per_image: how many h for each inlier of a batch; `joint` sees one for each all the same.
        synthetic_as: what G(h) is to F in `joint`: "inliers" like X (eq. 5), or "negatives" of X alone.
        diff_augment: of what D sees.
        share_generator_forward: one step on the sum of all phases that train G; see `with_shared_forward`.
        generator_average: decay of an exponential moving average of G's weights, in [0, 1), which then makes
            the images of the detector; None: G itself does.
        training: see `Method`.
    """

    makers = ("generator",)
    same_when_recorded = True

    def __init__(
        self,
        *,
        name: str,
        scorer: FeatureScorer,
        views: ShiftedViews,
        every: int,
        temperature: float | int,
        adversarial: Form,
        latents_per_image: int,
        synthetic_as: Literal["inliers", "negatives"] = "inliers",
        diff_augment: DiffAugment,
        share_generator_forward: bool,
        generator_average: float | None,
        crops: RandomCrops | None = None,
        **training: Any,
    ):
        for key, value in (("method.every", every), ("method.latents_per_image", latents_per_image)):
            if value < 1:
                raise UserError(f"{key}={value} must be at least 1")
        if not temperature > 0:
            raise UserError(f"method.temperature={temperature} must be above 0")
        if generator_average is not None and not 0 <= generator_average < 1:
            raise UserError(f"method.generator_average={generator_average} must be in [0, 1), or null")
        if name not in METHODS:
            raise UserError(f"method.name={name}: no such ablation; {nearest(name, list(METHODS))}")
        phases = with_period(METHODS[name], every)
        if synthetic_as == "negatives":
            phases = with_negatives(phases)
        if share_generator_forward:
            phases = with_shared_forward(phases)
        # F is there already: whatever else is trained, it starts from the same weights.
        trained = networks_of(phases)
        family, image_size = scorer.synthesis.family, scorer.learns_side
        build = family.build(image_size, scorer.channels) if len(trained) > 1 else {}
        makers = {network: build[network]() for network in trained if network in build}
        super().__init__(
            name=name,
            scorer=scorer,
            networks={"feature_extractor": scorer.network} | makers,
            plan=[Stage(name, phases)],
            **training,
        )
        self.views = views
        self.crops = crops
        self.temperature = temperature
        self.adversarial = adversarial
        self.latents_per_image = latents_per_image
        self.diff_augment = diff_augment
        self.latent_size = family.latent_size
        self.generator_side = family.side(image_size) if makers else image_size
        self.average: MovingAverage | None = None
        if generator_average is not None and "generator" in makers:
            self.average = MovingAverage(makers["generator"], generator_average)
        scorer.synthesis.fill(makers.get("generator"), makers.get("encoder"), self.average)

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> Step:
        if self.crops is not None:
            images = self.crops(images, rng("crops"))
        return Step(
            networks=dict(self.networks.items()),
            images=images,
            latents=rng("latents").normal(self.latents_per_image * len(images), self.latent_size),
            views=self.views,
            temperature=self.temperature,
            adversarial=self.adversarial,
            diff_augment=self.diff_augment,
            generator_side=self.generator_side,
            shard=shard,
            rng=rng("step"),
        )

    def after_iteration(self, ran: Sequence[Phase]) -> None:
        if self.average is not None and any("generator" in phase.trains for phase in ran):
            self.average.update_parameters(self.networks["generator"])

    def compile_networks(self) -> None:
        super().compile_networks()
        self.views.compile()

    def health(self, step: Any) -> Terms:
        return health(step)
