"""How good a detector is as far as normal images alone can tell.

There are no anomalies to choose settings by, and choosing by test labels would be cheating. Inliers do
allow this: images pieced together from held-out ones have their colours and textures, but nobody would call
them normal. A detector that does not rank them above held-out inliers has not learned what the class looks
like. Being an AUROC, it compares trainings whose losses have other scales (temperatures, weights). It is a
stand-in: how far it follows the real AUROC is measured in docs/search.md. The held-out images that calibrate
are others: what was chosen by an image scores it a little too low for a threshold.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Generator

from anomaly_gan.data.module import OneClassData
from anomaly_gan.metrics.auroc import auroc
from anomaly_gan.progress import track
from anomaly_gan.randomness import make_rng
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.drawing import NUMBERS, Drawn
from anomaly_gan.transforms.unseen_defects import KINDS as DEFECTS
from anomaly_gan.types import Images, Scores

ROUNDS = 4
"""How many pieced-together images of each kind are made of one inlier."""

LARGEST_PART = 2**29
"""Bytes of images as floats of which others are made at a time; that takes some times as much."""

ORDERS = ((1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0), (1, 2, 3, 0), (2, 0, 3, 1), (3, 0, 1, 2))
"""Orders of four quadrants in which none keeps its place."""


def validate(scorer: Scorer, data: OneClassData, seed: int) -> dict[str, Any]:
    """AUROC, in [0, 1], of the ranking score: validation inliers against what nobody would call normal.

    Returns:
        `auroc`, against images pieced together from inliers, the mean over two kinds; `defects`, against
        inliers with a small defect, the mean over kinds that no method learns from; `by_kind`; `inliers`
        and `pieced`, how many there were.
    """
    rng = make_rng("cpu", seed, "validation")

    def scored(images: Images) -> Iterator[Scores]:
        return (scorer.score(part.to(scorer.device)) for part in images.split(data.evaluation_batch_size))

    loader = data.validation_loader()
    batches = track(loader, "reading validation images", len(loader), "batches")
    images = torch.cat([batch.images.cpu() for batch in batches])
    # Parts of nearly one size, so that none is too small to mix its images.
    parts = images.tensor_split(-(-4 * images.nbytes // LARGEST_PART))
    normal = torch.cat([score for part in parts for score in scored(to_float(part))])
    by_kind = {}
    for kind, make in KINDS.items():
        rounds = range(1 if kind in DEFECTS else ROUNDS)
        scores = [s for _ in rounds for part in parts for s in scored(make(to_float(part), rng))]
        both = torch.cat([normal, *scores]).cpu().numpy().astype(np.float64)
        by_kind[kind] = auroc(both, np.arange(len(both)) >= len(normal))
    return {
        "auroc": _mean(by_kind[kind] for kind in PIECED),
        "defects": _mean(by_kind[kind] for kind in DEFECTS),
        "by_kind": by_kind,
        "inliers": len(images),
        "pieced": ROUNDS * len(images),
    }


def shuffled(images: Images, rng: Generator) -> Images:
    """Each image with its quadrants in another order, none in its place."""
    height, width = (size // 2 for size in images.shape[-2:])
    quadrants = [images[:, :, y : y + height, x : x + width] for y in (0, height) for x in (0, width)]
    parts = torch.stack(quadrants, 1)  # [B, 4, C, H/2, W/2]
    drawn = torch.randint(len(ORDERS), (len(images),), generator=rng)
    order = torch.tensor(ORDERS)[drawn]
    a, b, c, d = parts[torch.arange(len(images))[:, None], order].unbind(1)
    made = images.clone()  # an odd last row or column stays
    made[:, :, : 2 * height, : 2 * width] = torch.cat([torch.cat([a, b], -1), torch.cat([c, d], -1)], -2)
    return made


def mixed(images: Images, rng: Generator) -> Images:
    """Each image with a rectangle of another one in its place: a quarter to a half of the area."""
    made = images.clone()
    height, width = images.shape[-2:]
    shift = int(torch.randint(1, len(images), (1,), generator=rng))
    for row, image in enumerate(made):
        area, stretch, top, left = torch.rand(4, generator=rng).tolist()
        side = (0.25 + 0.25 * area) ** 0.5
        ratio = 2 ** (stretch - 0.5)
        tall = min(height, round(height * side * ratio))
        wide = min(width, round(width * side / ratio))
        y, x = round(top * (height - tall)), round(left * (width - wide))
        other = images[(row + shift) % len(images)]
        image[:, y : y + tall, x : x + wide] = other[:, y : y + tall, x : x + wide]
    return made


def defective(make: Callable[[Images, Drawn], Images]) -> Callable[[Images, Generator], Images]:
    """Each image with one small defect of a kind."""
    return lambda images, rng: make(images, Drawn(torch.rand(len(images), NUMBERS, generator=rng))).clamp(
        0, 1
    )


def _mean(values: Iterable[float | None]) -> float:
    """Of those that there are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


PIECED = {"shuffled": shuffled, "mixed": mixed}
KINDS = PIECED | {name: defective(make) for name, make in DEFECTS.items()}
