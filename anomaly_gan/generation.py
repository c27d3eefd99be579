"""What a detector's generator makes: pictures of it, and how near it comes to real images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from anomaly_gan.batches import FloatBatches
from anomaly_gan.data.image_set import ImageSet
from anomaly_gan.data.module import OneClassData
from anomaly_gan.metrics.generator import FeatureNetwork, generator_quality
from anomaly_gan.progress import track
from anomaly_gan.reporting import figures
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.geometry import resized
from anomaly_gan.types import Images

AT_A_TIME = 512
"""Synthetic images made for a measurement: which ones they are hangs on no setting."""

SHOWN = 64
"""Synthetic images in a picture."""

PAIRS = 10
"""Inliers, and as many outliers, shown beside their reconstructions."""


def quality(scorer: Scorer, data: OneClassData, network: FeatureNetwork) -> dict[str, Any]:
    """How near synthetic images come to real ones, as `generator_quality` says it.

    As many synthetic images as there are training images of the class, against these; beside it the floor:
    the class's test images against them.

    Args:
        scorer: one that generates.
        data: set up.
        network: whose features are compared.
    """
    network.to(scorer.device)
    test = _of_normal_class(data)
    test_batches = None
    if test is not None:
        rows = _slices(len(test), data)
        test_batches = track(
            (_floats(test, part, scorer) for part in rows), "reading test images", len(rows), "batches"
        )
    return generator_quality(
        network,
        track(
            _synthetic(scorer, len(data.train), data),
            "looking at synthetic images",
            -(-len(data.train) // AT_A_TIME),
            "batches",
        ),
        FloatBatches(data.bank_loader(), scorer.device, "reading normal images"),
        test_batches,
    )


def draw_generator(folder: Path, scorer: Scorer, data: OneClassData) -> dict[str, Path]:
    """Draw what `scorer` makes into `folder`; the files by what they show.

    Always the same latents, and the same images.
    """
    pictures = {"synthetic": folder / "synthetic.png"}
    title = f"{data.name}, normal: {data.class_names[data.normal_index]}"
    synthetic = scorer.generate(SHOWN, "pictures").cpu().numpy()
    figures.save(figures.grid(synthetic, f"{title}: synthetic images"), pictures["synthetic"])
    if scorer.reconstructs:
        pictures["reconstructions"] = folder / "reconstructions.png"
        panels = {"normal training images": data.train.subset(range(min(PAIRS, len(data.train))))}
        if data.test is not None:
            is_normal = data.test.labels == data.normal_index
            normal, anomalous = is_normal.nonzero().flatten(), (~is_normal).nonzero().flatten()
            panels["normal test images"] = data.test.subset(normal[:PAIRS])
            # Folders come class by class: some of each.
            shown = min(PAIRS, len(anomalous))
            spread = torch.arange(shown) * len(anomalous) // max(1, shown)
            panels["anomalous test images"] = data.test.subset(anomalous[spread])
        pairs = {}
        for name, images in panels.items():
            if len(images):
                real = _floats(images, range(len(images)), scorer)
                pairs[name] = (real.cpu().numpy(), scorer.reconstruct(real).cpu().numpy())
        figure = figures.reconstructions(pairs, f"{title}\nabove the image, below what the model makes of it")
        figures.save(figure, pictures["reconstructions"])
    return pictures


def _of_normal_class(data: OneClassData) -> ImageSet | None:
    if data.test is None:
        return None
    rows = (data.test.labels == data.normal_index).nonzero().flatten()
    return data.test.subset(rows) if len(rows) else None


def _slices(count: int, data: OneClassData) -> list[range]:
    size = data.evaluation_batch_size
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def _floats(images: ImageSet, rows: range, scorer: Scorer) -> Images:
    return to_float(images[rows].images.to(scorer.device))


def _synthetic(scorer: Scorer, count: int, data: OneClassData) -> Iterator[Images]:
    for start in range(0, count, AT_A_TIME):
        images = scorer.generate(min(AT_A_TIME, count - start), "quality", start)
        for part in images.split(data.evaluation_batch_size):
            # Features depend on the size: both sides of a comparison have the data's.
            yield resized(part, data.image_size)
