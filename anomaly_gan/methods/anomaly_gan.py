"""Yu & Chiu: contrastive learning and an adversarial autoencoder, in the phases of Algorithm 1."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from anomaly_gan.algorithm import ABLATIONS, networks_of, with_period, with_shared_forward
from anomaly_gan.data.image_set import Batch
from anomaly_gan.distributed import average_, gather_unknown, world_size
from anomaly_gan.errors import UserError, nearest
from anomaly_gan.losses.adversarial import Form
from anomaly_gan.methods.base import Insight
from anomaly_gan.methods.phased import PhasedDetector, PhaseSettings
from anomaly_gan.methods.scorer import Scorer, embed
from anomaly_gan.networks.autoencoders import Family
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.networks.modes import batch_norms, recalibrating
from anomaly_gan.objectives import Step, resized
from anomaly_gan.optimizers import Recipe
from anomaly_gan.randomness import RowRng, derive_seed, make_rng
from anomaly_gan.scoring.memory import MemoryBank
from anomaly_gan.scoring.scores import (
    SMALLEST_MEAN_SHIFT_LOGIT,
    anomaly_scores,
    contributions,
    make_bank,
    most_similar,
)
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.views import ShiftedViews
from anomaly_gan.types import ImageBatches, Images, Latents, Scores, ShiftedEmbeddings, ShiftLogits

SUFFIX = {"plain": "", "ensemble": "_ens"}
"""What the names of a form's scores end in."""

BANK_ROWS = 4
"""Rows of the bank compared at a time, for each view that goes through F at a time: a row is small."""


class AnomalyGAN(PhasedDetector):
    """The paper's method; `ablation` chooses the phase table.

    Scores come in two forms: from the shifted image alone (eq. 11's M: `paper`, `csi` and their parts), and,
    where `ensemble` > 0, from embeddings averaged over that many draws of T (M_ens: `paper_ens`, ...).

    Args:
        image_size: side of the images, pixels.
        channels: 1 or 3.
        ablation: key of `ABLATIONS`.
        width, embedding_size: of F.
        networks: what E, G, D and D' are made of.
        views: shifts and augmentation.
        phases: settings of each line of Algorithm 1, by its name.
        every: N; the lines of the autoencoder and `joint` run in every Nth iteration.
        temperature: tau of NT-Xent.
        adversarial: form of the games of D and D'.
        latents_per_image: how many h for each inlier of a batch; `joint` sees one for each all the same.
        diff_augment: of what D sees.
        share_generator_forward: one step on the sum of all lines that train G; see `with_shared_forward`.
        generator_average: decay of an exponential moving average of G's weights, in [0, 1), which then makes
            the images of `generate` and `reconstruct`; None: G itself does.
        optimizer, total_iterations, on_non_finite, log_every_iterations: see `PhasedDetector`.
        seed: of every random draw.
        primary: which score ranks; the ensemble's where it runs.
        ensemble: R, draws of T a score averages over; 0 for none.
        chunk: views that go through F, and a quarter of the bank rows that are compared, at a time;
            sets the memory.
        scoring_precision: of F's convolutions where it scores; its heads and the search are float32 always.
        recalibrate_batch_norm: re-estimate F's running statistics on the bank's images, seen as the primary
            score sees them, before the bank is made.
    """

    name = "anomaly_gan"

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        ablation: str,
        width: int,
        embedding_size: int,
        networks: Family,
        views: ShiftedViews,
        phases: Mapping[str, PhaseSettings],
        every: int,
        temperature: float,
        adversarial: Form,
        latents_per_image: int,
        diff_augment: DiffAugment,
        share_generator_forward: bool,
        generator_average: float | None,
        optimizer: Recipe,
        total_iterations: int,
        on_non_finite: Literal["raise", "skip"],
        seed: int,
        log_every_iterations: int,
        primary: Literal["paper", "csi"],
        ensemble: int,
        chunk: int,
        scoring_precision: Literal["32-true", "bf16-mixed"],
        recalibrate_batch_norm: bool,
    ):
        for key, value, smallest in (
            ("scoring.ensemble", ensemble, 0),
            ("scoring.chunk", chunk, 1),
            ("seed", seed, 0),
            ("method.every", every, 1),
            ("method.embedding_size", embedding_size, 1),
            ("method.latents_per_image", latents_per_image, 1),
        ):
            if value < smallest:
                raise UserError(f"{key}={value} must be at least {smallest}")
        if generator_average is not None and not 0 <= generator_average < 1:
            raise UserError(f"method.generator_average={generator_average} must be in [0, 1), or null")
        if ablation not in ABLATIONS:
            raise UserError(f"ablation={ablation}: no such ablation; {nearest(ablation, list(ABLATIONS))}")
        table = with_period(ABLATIONS[ablation], every)
        if share_generator_forward:
            table = with_shared_forward(table)
        shifts = views.shifts.count
        # F first: whatever else is there, it starts from the same weights.
        feature_extractor = FeatureExtractor(image_size, channels, width, shifts, embedding_size)
        trained = networks_of(table)
        makers = networks.build(image_size, channels) if len(trained) > 1 else {}
        super().__init__(
            phases=table,
            networks={"feature_extractor": feature_extractor}
            | {name: makers[name]() for name in trained if name in makers},
            settings=phases,
            recipe=optimizer,
            total_iterations=total_iterations,
            on_non_finite=on_non_finite,
            log_every_iterations=log_every_iterations,
        )
        self.views = views
        self.temperature = temperature
        self.adversarial = adversarial
        self.latents_per_image = latents_per_image
        self.diff_augment = diff_augment
        self.seed = seed
        self._rngs: dict[tuple[str, str], torch.Generator] = {}
        self.image_size = image_size
        self.latent_size = networks.latent_size
        self.generator_side = networks.side(image_size) if makers else image_size
        self.average = None
        if generator_average is not None and self.generates:
            average = get_ema_multi_avg_fn(generator_average)
            generator = self.networks["generator"]
            self.average = AveragedModel(generator, multi_avg_fn=average, use_buffers=True)
        self.forms = ("plain", "ensemble") if ensemble > 0 else ("plain",)
        self.banks = torch.nn.ModuleDict({form: MemoryBank() for form in self.forms})
        self.primary = primary + SUFFIX[self.forms[-1]]
        self.ensemble = ensemble
        self.chunk = chunk
        self.scoring_precision = scoring_precision
        self.recalibrate_batch_norm = recalibrate_batch_norm

    def make_step(self, batch: Batch) -> Step:
        images, shard = to_float(batch.images), self.shard_of(batch)
        of_latents, of_step = (RowRng(self._rng(purpose), shard) for purpose in ("latents", "step"))
        return Step(
            networks=dict(self.networks.items()),
            images=images,
            latents=of_latents.normal(self.latents_per_image * len(images), self.latent_size),
            views=self.views,
            temperature=self.temperature,
            adversarial=self.adversarial,
            diff_augment=self.diff_augment,
            generator_side=self.generator_side,
            shard=shard,
            rng=of_step,
        )

    def _rng(self, purpose: str) -> torch.Generator:
        """Seeded for this iteration; always the same object, which graphs that draw from it have to know."""
        key = (purpose, str(self.device))
        if key not in self._rngs:
            self._rngs[key] = torch.Generator(self.device)
        return self._rngs[key].manual_seed(derive_seed(self.seed, purpose, self.iteration))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        if self.average is not None and any(
            "generator" in phase.trains and self.runs(phase) for phase in self.phases
        ):
            self.average.update_parameters(self.networks["generator"])

    def compile_networks(self) -> None:
        super().compile_networks()
        self.views.compile()

    @property
    def generates(self) -> bool:
        return "generator" in self.networks

    @property
    def reconstructs(self) -> bool:
        return "encoder" in self.networks

    def draw_latents(self, count: int, *purpose: int | str) -> Latents:
        """`count` draws of N(0, I), [count, L], the same for the same seed and purpose on every device."""
        rng = RowRng(make_rng("cpu", self.seed, *purpose))
        return rng.normal(count, self.latent_size).to(self.device)

    @torch.no_grad()
    def generate(self, count: int, *purpose: int | str) -> Images:
        if not self.generates:
            return super().generate(count, *purpose)
        self.eval()
        latents = self.draw_latents(count, *purpose)
        return torch.cat([self._maker(part) for part in latents.split(self.chunk)])

    @torch.no_grad()
    def reconstruct(self, images: Images) -> Images:
        if not self.reconstructs:
            return super().reconstruct(images)
        self.eval()
        latents = self.networks["encoder"](resized(images, self.generator_side))
        return resized(self._maker(latents), self.image_size)

    @property
    def _maker(self) -> torch.nn.Module:
        """G, or its average where one is kept."""
        return self.networks["generator"] if self.average is None else self.average

    @torch.no_grad()
    def fit_scorer(self, normal: ImageBatches) -> None:
        """Fill the banks; F's running statistics are re-estimated before, where that is asked for.

        Warns:
            UserWarning: a shift's mean logit over the bank is too small to divide by.
        """
        if self.recalibrate_batch_norm:
            self._recalibrate(normal)
        self.eval()
        for form in self.forms:
            embedded = [self.embed(images, form) for images in normal]
            bank = make_bank(*(gather_unknown(torch.cat(parts)) for parts in zip(*embedded, strict=True)))
            self._memory(form).fill(bank)
            weak = (bank.mean_logit < SMALLEST_MEAN_SHIFT_LOGIT).nonzero().flatten().tolist()
            if weak:
                warnings.warn(
                    f"the shift head is not yet sure of shifts {weak} on normal images (mean logit below "
                    f"{SMALLEST_MEAN_SHIFT_LOGIT}): their weight in the csi score is capped; train longer",
                    stacklevel=2,
                )

    @torch.inference_mode()
    def score_all(self, images: Images) -> dict[str, Scores]:
        self.eval()
        scores: dict[str, Scores] = {}
        for form in self.forms:
            embedded = self.embed(images, form)
            of_form = anomaly_scores(*embedded, self._memory(form).bank, BANK_ROWS * self.chunk)
            scores |= {name + SUFFIX[form]: value for name, value in of_form.items()}
        return scores

    @torch.inference_mode()
    def insight(self, images: Images, neighbours: int) -> Insight:
        self.eval()
        bank, chunk = self._memory(self.forms[-1]).bank, BANK_ROWS * self.chunk
        embeddings, logits = self.embed(images, self.forms[-1])
        found = contributions(embeddings, logits, bank, chunk)
        name = self.primary.removesuffix(SUFFIX[self.forms[-1]])
        parts = ("contrastive", "shift") if name == "csi" else (name,)
        # Of an image as near to another as can be, with the mean length and the mean logits of the bank.
        shifts = len(bank.mean_norm)
        normal = -bank.mean_norm if name == "paper" else torch.full_like(bank.mean_norm, -1 / shifts)
        count = min(neighbours, len(bank.unit))
        return Insight(
            {part: found[part] for part in parts},
            dict.fromkeys(parts, normal),
            *most_similar(embeddings, bank.unit, count, chunk),
        )

    def embed(self, images: Images, form: str) -> tuple[ShiftedEmbeddings, ShiftLogits]:
        """Embeddings [B, K, D] and own-shift logits [B, K] of `images`, averaged over the form's draws."""
        with self._scoring():
            parts = [self._embed(part, form) for part in images.split(self._images_at_a_time)]
        embeddings, logits = zip(*parts, strict=True)
        return torch.cat(embeddings), torch.cat(logits)

    def _scoring(self) -> torch.autocast:
        half = self.scoring_precision == "bf16-mixed"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def _memory(self, form: str) -> MemoryBank:
        memory = self.banks[form]
        assert isinstance(memory, MemoryBank)
        return memory

    @property
    def _images_at_a_time(self) -> int:
        return max(1, self.chunk // self.views.shifts.count)

    def _embed(self, images: Images, form: str) -> tuple[ShiftedEmbeddings, ShiftLogits]:
        return embed(self.networks["feature_extractor"], self._views(images, form), self.views.shifts.count)

    def scorer(self) -> Scorer:
        form = self.forms[-1]
        ensemble = None
        if form == "ensemble":
            ensemble = [self.views.scoring_draw(draw, self.seed) for draw in range(self.ensemble)]
        return Scorer(
            self.networks["feature_extractor"],
            self._memory(form),
            self.views,
            ensemble,
            self.primary.removesuffix(SUFFIX[form]),
            self.scoring_precision,
        )

    def _views(self, images: Images, form: str) -> Iterator[Images]:
        if form == "plain":
            yield self.views.plain(images)
        else:
            for draw in range(self.ensemble):
                yield self.views.ensemble(images, draw, self.seed)

    def _recalibrate(self, normal: ImageBatches) -> None:
        """Set F's running statistics to their averages over the images as the primary score sees them."""
        form = self.forms[-1]
        network = self.networks["feature_extractor"]
        seen = torch.zeros(1, device=self.device)
        with recalibrating(network), self._scoring():
            for images in normal:
                seen += len(images)
                for part in images.split(self._images_at_a_time):
                    for views in self._views(part, form):
                        network(views)
        if world_size() > 1:  # each process counts for as many images as it has seen
            share = seen * world_size() / gather_unknown(seen).sum()
            names = ("running_mean", "running_var")
            statistics = [norm.get_buffer(name) for norm in batch_norms(network) for name in names]
            for buffer in statistics:
                buffer *= share
            average_(statistics)
