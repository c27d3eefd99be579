"""Scores of a whole test set, and what they are worth."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy import ndarray
from torch.utils.data import DataLoader

from anomaly_gan.batches import FloatBatches
from anomaly_gan.data.image_set import Batch, ImageSet
from anomaly_gan.data.module import OneClassData
from anomaly_gan.distributed import agreed, gather_unknown, rank, world_size
from anomaly_gan.errors import UserError
from anomaly_gan.metrics.auroc import auroc
from anomaly_gan.metrics.localisation import Localisation
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Calibration
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import Scores

MAPS_AT_A_TIME = 64
"""Pictures whose maps are in memory at a time."""

SCORED_ALONE = 8
"""Held-out images that are scored once more, each alone."""

TIE, LEAST_TIE = 4.0, 1e-6
"""Scores are equal where they differ by no more than so many times what one image's scores differed by, or
than this part of the largest score: some ten units in the last place of a float32."""


@dataclass(frozen=True)
class Scored:
    """Every score and part of every image of a split, in its order."""

    what: Literal["test", "held-out"]
    images: ImageSet
    scores: dict[str, Float[ndarray, " n"]]
    labels: Int64[ndarray, " n"]
    anomalous: Bool[ndarray, " n"]
    seconds: float

    def aurocs(self) -> dict[str, float | None]:
        """AUROC in [0, 1] by score and part; None where normal or anomalous images are lacking."""
        return {name: auroc(values, self.anomalous) for name, values in self.scores.items()}


def fit_scorer(scorer: Scorer, data: OneClassData) -> None:
    """Let `scorer` take what it needs from the normal training images."""
    loader = data.bank_loader(rank(), world_size())
    scorer.fit(FloatBatches(loader, scorer.device, "reading normal images"))


def score_test_set(scorer: Scorer, data: OneClassData) -> Scored | None:
    """Score the test part of `data`, each process a part of it; None where it has none.

    Raises:
        UserError: a score is not a number.
    """
    if data.test is None:
        return None
    return _score(scorer, data, "test", data.test, data.test_loader(rank(), world_size()))


def score_held_out(scorer: Scorer, data: OneClassData) -> Scored | None:
    """Score the normal images that were held out, each process a part of them; None where none were.

    Raises:
        UserError: a score is not a number.
    """
    held_out = data.calibration
    if not len(held_out):
        return None
    if len(held_out) < world_size():  # every process scores all of them
        return _score(scorer, data, "held-out", held_out, data.calibration_loader(), gather=False)
    return _score(scorer, data, "held-out", held_out, data.calibration_loader(rank(), world_size()))


def calibrate(scorer: Scorer, held_out: Scored) -> Calibration:
    """The calibration by held-out images, such that one image has one decision, wherever it is asked for.

    Alone, or in a batch of another size, an image's score is not quite the same: sums are taken in another
    order. The held-out image that is the threshold would then lie above it or not by chance. So some of them
    are scored again, alone, and every held-out score counts as higher by a multiple of the largest difference
    seen: what lies so near is a tie, which only makes false alarms rarer.
    """
    count = min(SCORED_ALONE, len(held_out.images))
    rows = [row * len(held_out.images) // count for row in range(count)]
    alone = [scorer.scores(to_float(held_out.images[[row]].images.to(scorer.device))) for row in rows]
    raised_by = {}
    for name, scores in held_out.scores.items():
        seen = np.abs(scores[rows] - _as_array(torch.cat([one[name] for one in alone]))).max()
        raised_by[name] = float(max(TIE * seen, LEAST_TIE * np.abs(scores).max()))
    raised = {name: scores + raised_by[name] for name, scores in held_out.scores.items()}
    return Calibration.of(raised, raised_by)


def localise(scorer: Scorer, data: OneClassData, scored: Scored) -> dict[str, float | int] | None:
    """How well scores of places find what masks show: see `Localisation.result`.

    Counted are the normal test images and those anomalous ones that have a mask. None from a scorer of whole
    images, and where there are no masks.
    """
    if not scorer.scores_places:
        return None
    names, anomalous = scored.images.names, scored.anomalous
    if all(data.mask(name) is None for name, bad in zip(names, anomalous, strict=True) if bad):
        return None
    counts = Localisation(scorer.lowest, float(scored.scores[scorer.primary].max()))
    clean = torch.zeros(data.image_size, data.image_size, dtype=torch.bool)
    for start in range(0, len(names), MAPS_AT_A_TIME):
        rows = range(start, min(start + MAPS_AT_A_TIME, len(names)))
        masks = {row: data.mask(names[row]) if anomalous[row] else clean for row in rows}
        some = {row: mask for row, mask in masks.items() if mask is not None}
        if not some:
            continue
        maps = scorer.maps(to_float(scored.images[[*some]].images.to(scorer.device))).cpu().numpy()
        for mask, found in zip(some.values(), maps, strict=True):
            counts.add(found, mask.numpy())
    return counts.result()


def _score(
    scorer: Scorer,
    data: OneClassData,
    what: Literal["test", "held-out"],
    images: ImageSet,
    loader: DataLoader[Batch],
    gather: bool = True,
) -> Scored:
    """Score `images`; `loader` brings this process's part of them, or all where nothing is to gather."""
    start = time.perf_counter()
    batches = FloatBatches(loader, scorer.device, f"scoring {what} images")
    scored = [scorer.scores(batch) for batch in batches]
    scores = {}
    for name in scored[0]:
        values = torch.cat([batch[name] for batch in scored])
        scores[name] = _as_array(gather_unknown(values) if gather else values)
    check_finite(scores)
    labels = images.labels.numpy()
    return Scored(
        what=what,
        images=images,
        scores=scores,
        labels=labels,
        anomalous=labels != data.normal_index,
        seconds=time.perf_counter() - start,
    )


def _as_array(values: Scores) -> Float[ndarray, " n"]:
    """In float64, which holds a float32 exactly."""
    return values.cpu().numpy().astype(np.float64)


def check_finite(scores: Mapping[str, Float[ndarray, " n"]]) -> None:
    """A loss looks at the weights before its step: what the last step broke is first seen here.

    Args:
        scores: of the same images in every process; the first one's verdict is everyone's.

    Raises:
        UserError: one is not a number, or infinite.
    """
    if not agreed(all(bool(np.isfinite(values).all()) for values in scores.values())):
        raise UserError(
            "the detector's scores are not numbers: its training diverged; train with a lower "
            "optimizer.learning_rate"
        )


def why_no_auroc(data: OneClassData) -> str | None:
    """Why an AUROC cannot be computed on `data`; None if it can."""
    if data.test is None:
        return "there is no test set"
    anomalous = int((data.test.labels != data.normal_index).sum())
    if anomalous == 0:
        return "the test set has no anomalous images"
    if anomalous == len(data.test):
        return "the test set has no normal images"
    return None
