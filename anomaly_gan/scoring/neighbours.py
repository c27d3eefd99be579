"""The scores of the paper and of CSI: nearest normal images in the features of F, under every shift."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from anomaly_gan.distributed import average_, gather_unknown, world_size
from anomaly_gan.errors import UserError
from anomaly_gan.networks.modes import batch_norms, recalibrating
from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.scoring.base import Attribution, Neighbours
from anomaly_gan.scoring.embedding import Embedded, embed
from anomaly_gan.scoring.features import FeatureScorer
from anomaly_gan.scoring.hellinger import roots, squared_distance
from anomaly_gan.scoring.memory import REMEMBERED, MemoryBank, check_features_are_remembered
from anomaly_gan.scoring.scores import (
    PARTS,
    SMALLEST_MEAN_SHIFT_LOGIT,
    Bank,
    anomaly_scores,
    contributions,
    make_bank,
    most_similar,
)
from anomaly_gan.scoring.whitened import (
    Whitening,
    described,
    distance,
    nearest_rows,
    typical_distance,
    whitened,
    whitening,
)
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.shifts import Views
from anomaly_gan.transforms.views import ScoringDraw
from anomaly_gan.types import ImageBatches, Images, Latents, RawImages, Scores

SUFFIX = {"plain": "", "ensemble": "_ens"}
"""What the names of a form's scores end in."""

HELLINGER, WHITENED = "hellinger", "whitened"
"""The scores of F's features, before both heads."""

OF_ALL_FORMS = "_all"
"""What the name of the mean over the forms of such a score ends in."""

BANK_ROWS = 4
"""Rows of the bank compared at a time, for each view that goes through F at a time: a row is small."""


class NearestNeighbours(FeatureScorer):
    """F, a bank of the normal images' embeddings, and G and E where they were trained.

    Scores come in two forms: from the shifted image alone (eq. 11's M: `paper`, `csi` and their parts), and,
    where `ensemble` > 0, from embeddings averaged over that many draws of T (M_ens: `paper_ens`, ...). Where
    a distance of F's features ranks, it does so as the mean over both: `hellinger_all`, `whitened_all`.

    Args:
        seed: of the ensemble's draws.
        primary: which score ranks; that of the ensemble where it runs, of `hellinger` and `whitened` the mean
            over both. These two need a bank of their own, which is made where they rank.
        ensemble: R, draws of T a score averages over; 0 for none.
        chunk: views that go through F, and a quarter of the bank rows that are compared, at a time;
            sets the memory.
        recalibrate_batch_norm: re-estimate F's running statistics on the bank's images, seen as the primary
            score sees them, before the bank is made.
        of_features: see `FeatureScorer`.
    """

    def __init__(
        self,
        *,
        seed: int,
        primary: Literal["paper", "csi", "hellinger", "whitened"],
        ensemble: int,
        chunk: int,
        recalibrate_batch_norm: bool,
        **of_features: Any,
    ):
        for key, value, smallest in (
            ("scoring.ensemble", ensemble, 0),
            ("scoring.chunk", chunk, 1),
        ):
            if value < smallest:
                raise UserError(f"{key}={value} must be at least {smallest}")
        super().__init__(**of_features)
        self.seed = seed
        self.forms: tuple[str, ...] = ("plain", "ensemble") if ensemble > 0 else ("plain",)
        self.banks = nn.ModuleDict({form: MemoryBank() for form in self.forms})
        self.of_features = primary if primary in REMEMBERED else None
        self.primary = primary + SUFFIX[self.forms[-1]]
        if self.of_features:
            self.register_load_state_dict_post_hook(check_features_are_remembered)
            if len(self.forms) > 1:
                self.primary = primary + OF_ALL_FORMS
        self.parts = tuple(part + SUFFIX[form] for form in self.forms for part in PARTS)
        # Drawn here once: neither a chunk of images nor an export's trace has to draw them again.
        drawn = [self.views.scoring_draw(draw, seed) for draw in range(ensemble)]
        self.draws: Sequence[ScoringDraw] = nn.ModuleList(drawn)  # type: ignore[assignment]
        self.chunk = chunk
        self.recalibrate_batch_norm = recalibrate_batch_norm

    @torch.no_grad()
    def fit(self, normal: ImageBatches) -> None:
        """Fill the banks; F's running statistics are re-estimated before, where that is asked for.

        Warns:
            UserWarning: a shift's mean logit over the bank is too small to divide by.
        """
        if self.recalibrate_batch_norm:
            self._recalibrate(normal)
        self.eval()
        for form in self.forms:
            needed = 4 if self.of_features else 2  # features are many
            embedded = [self.embed(images, form)[:needed] for images in normal]
            rows = [gather_unknown(torch.cat(parts)) for parts in zip(*embedded, strict=True)]
            bank = make_bank(*rows[:2])
            self._memory(form).fill(bank._replace(**self._remembered(*rows[2:])))
            weak = (bank.mean_logit < SMALLEST_MEAN_SHIFT_LOGIT).nonzero().flatten().tolist()
            if weak:
                warnings.warn(
                    f"the shift head is not yet sure of shifts {weak} on normal images (mean logit below "
                    f"{SMALLEST_MEAN_SHIFT_LOGIT}): their weight in the csi score is capped; train longer",
                    stacklevel=2,
                )

    @torch.inference_mode()
    def scores(self, images: Images) -> dict[str, Scores]:
        self.eval()
        found: dict[str, Scores] = {}
        rows = BANK_ROWS * self.chunk
        for form in self.forms:
            seen, bank = self.embed(images, form), self._memory(form).bank
            of_form = anomaly_scores(seen.embeddings, seen.logits, bank, rows)
            of_form |= {name: far.mean(dim=1) for name, far in by_features(seen, bank, rows).items()}
            found |= {name + SUFFIX[form]: value for name, value in of_form.items()}
        if self.of_features and len(self.forms) > 1:
            of_forms = [found[self.of_features + SUFFIX[form]] for form in self.forms]
            found[self.primary] = torch.stack(of_forms).mean(dim=0)
        return found

    def _remembered(self, *features: Tensor) -> dict[str, Tensor]:
        """The fields of a bank that the score of features needs, of the normal images' features, if any."""
        if self.of_features == HELLINGER:
            _, penultimate = features
            return {"roots": roots(penultimate)}
        if self.of_features == WHITENED:
            normal = described(*features)
            by = whitening(normal)
            return {"whitened": whitened(normal, by)} | by._asdict()
        return {}

    def forward(self, images: RawImages) -> Scores:
        """The same without the loops over parts of the batch and of the bank: the primary score of [B].

        Memory beyond that of F: some 12 bytes for each pair of an image and a row of the bank.
        """
        seen, embedded = to_float(images), {}
        for form in self.primary_forms:
            with self.autocast(self.device):
                embedded[form] = embed(self.network, self._draws(seen, form), self.views.shifts.count)
        bank = self._memory(self.forms[-1]).bank
        if self.of_features:  # nothing that is left over: the file would not be read again
            of_forms = [
                by_features(seen, self._memory(form).bank, len(bank.unit))[self.of_features].mean(dim=1)
                for form, seen in embedded.items()
            ]
            return torch.stack(of_forms).mean(dim=0)
        ((form, of_form),) = embedded.items()
        scores = anomaly_scores(of_form.embeddings, of_form.logits, bank, len(bank.unit))
        return scores[self.primary.removesuffix(SUFFIX[form])]

    def check_export(self, format_name: str) -> None:
        super().check_export(format_name)
        blurs = any(draw.blurs for draw in self.draws)
        if format_name == "onnx" and blurs and self.views.scoring_augment.blurs(self.image_size):
            raise UserError(
                "format=onnx: the exporter cannot write views that are blurred each in its way; format=torch "
                "can, or train with method.views.augment.blur=false"
            )

    @torch.inference_mode()
    def attribution(self, images: Images, neighbours: int) -> Attribution:
        self.eval()
        if self.of_features:
            return self._attribution_of_features(images, neighbours)
        form = self.forms[-1]
        bank, chunk = self._memory(form).bank, BANK_ROWS * self.chunk
        embeddings, logits, *_ = self.embed(images, form)
        found = contributions(embeddings, logits, bank, chunk)
        name = self.primary.removesuffix(SUFFIX[form])
        parts = ("contrastive", "shift") if name == "csi" else (name,)
        # Of an image as near to another as can be, with the mean length and the mean logits of the bank.
        shifts = len(bank.mean_norm)
        normal = -bank.mean_norm if name == "paper" else torch.full_like(bank.mean_norm, -1 / shifts)
        count = min(neighbours, len(bank.unit))
        return Attribution(
            {part: found[part] for part in parts},
            dict.fromkeys(parts, normal),
            Neighbours(*most_similar(embeddings, bank.unit, count, chunk), "cosine"),
        )

    def _attribution_of_features(self, images: Images, neighbours: int) -> Attribution:
        assert self.of_features
        chunk, per_shift = BANK_ROWS * self.chunk, []
        queries, rows = [], []  # of all forms
        for form in self.forms:
            seen, bank = self.embed(images, form), self._memory(form).bank
            per_shift.append(by_features(seen, bank, chunk)[self.of_features])
            queries.append(compared(seen, bank)[self.of_features])
            rows.append(getattr(bank, REMEMBERED[self.of_features]))
        each = torch.stack(per_shift).mean(dim=0) / self.views.shifts.count
        query, of_normal = torch.cat(queries, dim=1), torch.cat(rows, dim=1)
        count = min(neighbours, len(of_normal))
        if self.of_features == HELLINGER:
            typical = torch.zeros_like(each[0])
            nearest = Neighbours(*most_similar(query, of_normal, count, chunk), "overlap")
        else:
            typical = (
                typical_distance(of_normal).unflatten(0, (len(rows), -1)).mean(dim=0)
                / self.views.shifts.count
            )
            nearest = Neighbours(*nearest_rows(query, of_normal, count), "distance")
        return Attribution({self.of_features: each}, {self.of_features: typical}, nearest)

    @property
    def primary_forms(self) -> tuple[str, ...]:
        """The forms that the primary score is made of."""
        return self.forms if self.of_features else self.forms[-1:]

    def keep_primary_alone(self) -> None:
        self.forms = self.primary_forms
        self.banks = nn.ModuleDict({form: self.banks[form] for form in self.forms})
        self.synthesis.fill(None, None, None)

    @property
    def generates(self) -> bool:
        return self.synthesis.generator is not None

    @property
    def reconstructs(self) -> bool:
        return self.synthesis.encoder is not None

    def draw_latents(self, count: int, *purpose: int | str) -> Latents:
        """`count` draws of N(0, I), [count, L], the same for the same seed and purpose on every device."""
        rng = RowRng(make_rng("cpu", self.seed, *purpose))
        return rng.normal(count, self.synthesis.family.latent_size).to(self.device)

    @torch.no_grad()
    def generate(self, count: int, *purpose: int | str) -> Images:
        self.eval()
        return self.synthesis.generate(self.draw_latents(count, *purpose), self.chunk)

    @torch.no_grad()
    def reconstruct(self, images: Images) -> Images:
        self.eval()
        return self.synthesis.reconstruct(images)

    def embed(self, images: Images, form: str) -> Embedded:
        """What F says of `images`, averaged over the form's draws."""
        shifts = self.views.shifts.count
        with self.autocast(self.device):
            parts = [
                embed(self.network, self._draws(part, form), shifts)
                for part in images.split(self._images_at_a_time)
            ]
        return Embedded(*map(torch.cat, zip(*parts, strict=True)))

    def _memory(self, form: str) -> MemoryBank:
        memory = self.banks[form]
        assert isinstance(memory, MemoryBank)
        return memory

    @property
    def _images_at_a_time(self) -> int:
        return max(1, self.chunk // self.views.shifts.count)

    def _draws(self, images: Images, form: str) -> Iterator[Views]:
        """The views of images in each draw of a form."""
        if form == "plain":
            yield self.views.plain(images)
        else:
            for draw in self.draws:
                yield self.views.drawn(images, draw)

    def _recalibrate(self, normal: ImageBatches) -> None:
        """Set F's running statistics to their averages over the images as the primary score sees them."""
        form = self.forms[-1]
        seen = torch.zeros(1, device=self.device)
        with recalibrating(self.network), self.autocast(self.device):
            for images in normal:
                seen += len(images)
                for part in images.split(self._images_at_a_time):
                    for views in self._draws(part, form):
                        self.network(views)
        if world_size() > 1:  # each process counts for as many images as it has seen
            share = seen * world_size() / gather_unknown(seen).sum()
            names = ("running_mean", "running_var")
            statistics = [norm.get_buffer(name) for norm in batch_norms(self.network) for name in names]
            for buffer in statistics:
                buffer *= share
            average_(statistics)


def compared(seen: Embedded, bank: Bank) -> dict[str, Tensor]:
    """What is compared with the bank's features, by the scores that it has features for. [B, K, P or C]"""
    found = {}
    if bank.roots is not None:
        found[HELLINGER] = roots(seen.penultimate)
    if bank.whitened is not None:
        by = Whitening(*(getattr(bank, field) for field in Whitening._fields))
        found[WHITENED] = whitened(described(seen.middle, seen.penultimate), by)
    return found


def by_features(seen: Embedded, bank: Bank, chunk: int) -> dict[str, Tensor]:
    """How far the features are from the nearest normal image's, by the same scores and by shift. [B, K]"""
    measures = {HELLINGER: squared_distance, WHITENED: distance}
    return {
        name: measures[name](queries, getattr(bank, REMEMBERED[name]), chunk)
        for name, queries in compared(seen, bank).items()
    }
