"""Yu & Chiu: contrastive learning over shifted instances, in the phases of Algorithm 1."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Literal

import torch

from anomaly_gan.algorithm import ABLATIONS
from anomaly_gan.errors import UserError, nearest
from anomaly_gan.methods.phased import PhasedDetector
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.networks.modes import recalibrating
from anomaly_gan.optimizers import Recipe
from anomaly_gan.scoring.memory import MemoryBank
from anomaly_gan.scoring.scores import SMALLEST_MEAN_SHIFT_LOGIT, anomaly_scores, make_bank
from anomaly_gan.transforms.views import ShiftedViews
from anomaly_gan.types import ImageBatches, Images, Scores, ShiftedEmbeddings, ShiftLogits

SUFFIX = {"plain": "", "ensemble": "_ens"}
"""What the names of a form's scores end in."""


class AnomalyGAN(PhasedDetector):
    """The paper's method; `ablation` chooses the phase table.

    Scores come in two forms: from the shifted image alone (eq. 11's M: `paper`, `csi` and their parts), and,
    where `ensemble` > 0, from embeddings averaged over that many draws of T (M_ens: `paper_ens`, ...).

    Args:
        image_size: side of the images, pixels.
        channels: 1 or 3.
        ablation: key of `ABLATIONS`.
        width, embedding_size: of F.
        views: shifts and augmentation.
        optimizer, total_iterations, temperature, weights, seed, log_every_iterations: see `PhasedDetector`.
        primary: which score ranks; the ensemble's where it runs.
        ensemble: R, draws of T a score averages over; 0 for none.
        chunk: views that go through F, and rows of the bank that are compared, at a time; sets the memory.
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
        views: ShiftedViews,
        optimizer: Recipe,
        total_iterations: int,
        temperature: float,
        weights: Mapping[str, Mapping[str, float]],
        seed: int,
        log_every_iterations: int,
        primary: Literal["paper", "csi"],
        ensemble: int,
        chunk: int,
        recalibrate_batch_norm: bool,
    ):
        for key, value, smallest in (("scoring.ensemble", ensemble, 0), ("scoring.chunk", chunk, 1)):
            if value < smallest:
                raise UserError(f"{key}={value} must be at least {smallest}")
        if ablation not in ABLATIONS:
            raise UserError(f"ablation={ablation}: no such ablation; {nearest(ablation, list(ABLATIONS))}")
        shifts = views.shifts.count
        feature_extractor = FeatureExtractor(image_size, channels, width, shifts, embedding_size)
        super().__init__(
            phases=ABLATIONS[ablation],
            networks={"feature_extractor": feature_extractor},
            views=views,
            recipe=optimizer,
            total_iterations=total_iterations,
            temperature=temperature,
            weights=weights,
            seed=seed,
            log_every_iterations=log_every_iterations,
        )
        self.forms = ("plain", "ensemble") if ensemble > 0 else ("plain",)
        self.banks = torch.nn.ModuleDict({form: MemoryBank() for form in self.forms})
        self.primary = primary + SUFFIX[self.forms[-1]]
        self.ensemble = ensemble
        self.chunk = chunk
        self.recalibrate_batch_norm = recalibrate_batch_norm

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
            bank = make_bank(*(torch.cat(parts) for parts in zip(*embedded, strict=True)))
            self._memory(form).fill(bank)
            weak = (bank.mean_logit < SMALLEST_MEAN_SHIFT_LOGIT).nonzero().flatten().tolist()
            if weak:
                warnings.warn(
                    f"the shift head is not yet sure of shifts {weak} on normal images (mean logit below "
                    f"{SMALLEST_MEAN_SHIFT_LOGIT}): their weight in the csi score is capped; train longer",
                    stacklevel=2,
                )

    @torch.no_grad()
    def score_all(self, images: Images) -> dict[str, Scores]:
        self.eval()
        scores: dict[str, Scores] = {}
        for form in self.forms:
            of_form = anomaly_scores(*self.embed(images, form), self._memory(form).bank, self.chunk)
            scores |= {name + SUFFIX[form]: value for name, value in of_form.items()}
        return scores

    def embed(self, images: Images, form: str) -> tuple[ShiftedEmbeddings, ShiftLogits]:
        """Embeddings [B, K, D] and own-shift logits [B, K] of `images`, averaged over the form's draws."""
        parts = [self._embed(part, form) for part in images.split(self._images_at_a_time)]
        embeddings, logits = zip(*parts, strict=True)
        return torch.cat(embeddings), torch.cat(logits)

    def _memory(self, form: str) -> MemoryBank:
        memory = self.banks[form]
        assert isinstance(memory, MemoryBank)
        return memory

    @property
    def _images_at_a_time(self) -> int:
        return max(1, self.chunk // self.views.shifts.count)

    def _embed(self, images: Images, form: str) -> tuple[ShiftedEmbeddings, ShiftLogits]:
        draws = [self.networks["feature_extractor"](views) for views in self._views(images, form)]
        embeddings = torch.stack([features.embedding for features in draws]).mean(dim=0)  # [K*B, D]
        logits = torch.stack([features.shift_logits for features in draws]).mean(dim=0)  # [K*B, K]
        K, B = self.views.shifts.count, len(images)
        by_shift = logits.view(K, B, K)
        return embeddings.view(K, B, -1).transpose(0, 1), by_shift.diagonal(dim1=0, dim2=2)

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
        with recalibrating(network):
            for images in normal:
                for part in images.split(self._images_at_a_time):
                    for views in self._views(part, form):
                        network(views)
