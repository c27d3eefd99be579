"""Writes an exported file, and leaves it only if it says what the detector says."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy import ndarray

from anomaly_gan import __version__
from anomaly_gan.checkpoint import Checkpoint
from anomaly_gan.durable import check_writable, prefix_beside
from anomaly_gan.errors import UserError, nearest
from anomaly_gan.export.formats import FORMATS, Outputs, Runner
from anomaly_gan.export.graph import MAP, SCORE, outputs, trace
from anomaly_gan.progress import step
from anomaly_gan.randomness import make_rng
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import RawImages

TOLERANCE = 1e-4
"""How far the file's scores may be from the detector's, as a part of the detector's mean absolute score."""

PROBES = 16
"""Images by which a file is compared with the detector."""

FORMAT = "anomaly_gan export 1"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    score: str
    """Which score the file gives."""
    threshold: Threshold | None
    """Of it; None: the file gives scores alone."""
    difference: float
    """The largest seen between the file's scores and the detector's; in units of `TOLERANCE`'s."""


def export(checkpoint: Checkpoint, format_name: str, output: Path, rate: float | None) -> Exported:
    """Write a detector to `output` as a file of a format, checked, whole or not at all; says its steps.

    Args:
        checkpoint: of the detector.
        format_name: key of `FORMATS`.
        output: the file, which ends in the format's suffix.
        rate: false positive rate of its threshold; None: see `Checkpoint.threshold`.

    Raises:
        UserError: the detector cannot be exported in that format, the rate cannot be promised, there is no
            such folder, or the file differs from the detector.
        OSError: `output` cannot be written; that is known before anything is traced.
    """
    if format_name not in FORMATS:
        raise UserError(f"format={format_name}: no such format; {nearest(format_name, list(FORMATS))}")
    kind = FORMATS[format_name]
    if output.suffix != kind.suffix or not output.parent.is_dir():
        raise UserError(
            f"output={output}: give a file whose name ends in {kind.suffix}, in a folder that exists"
        )
    check_writable(output)
    scorer = checkpoint.build()
    threshold = checkpoint.threshold(scorer.primary, rate)
    data = checkpoint.data
    scorer.check_export(format_name)
    kind.check()
    scorer.keep_primary_alone()  # a file would carry all that the scorer has
    step(f"tracing what {scorer.primary} computes")
    program = trace(scorer, threshold, data["channels"], data["image_size"])
    # Beside the output, because a file can be moved into its place at once only from the same disk.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=prefix_beside(output)) as folder:
        written = Path(folder) / output.name
        step(f"writing it as {format_name}")
        kind.write(program, metadata(checkpoint, scorer, threshold), written)
        step(f"checking the file against the detector, on {PROBES} images")
        run, _ = kind.open(written)
        difference = largest_difference(run, scorer, threshold, data["channels"], data["image_size"])
        with written.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(written, output)
    return Exported(scorer.primary, threshold, difference)


def metadata(checkpoint: Checkpoint, scorer: Scorer, threshold: Threshold | None) -> dict[str, Any]:
    """What the file says of itself; plain containers."""
    data = checkpoint.data
    return {
        "format": FORMAT,
        "version": __version__,
        "method": checkpoint.method,
        "dataset": data["dataset"],
        "normal_class": data["normal_class"],
        "image_size": data["image_size"],
        "channels": data["channels"],
        "resize": data["resize"],
        "bits": data.get("bits", 16),
        "score": scorer.primary,
        "outputs": outputs(scorer, threshold),
        "threshold": None if threshold is None else threshold.value,
        "false_positive_rate": None if threshold is None else threshold.rate,
        "held_out_scores": None if threshold is None else threshold.held_out.tolist(),
    }


def largest_difference(
    run: Runner, scorer: Scorer, threshold: Threshold | None, channels: int, image_size: int
) -> float:
    """Between the file's scores and maps and the detector's, as a part of the detector's mean absolute ones.

    By `PROBES` images, one alone and the others in a batch. What the file makes of its scores, p-values and
    decisions, must be exact.

    Raises:
        UserError: the difference is above `TOLERANCE`, or a p-value or decision is wrong.
    """
    probes = probe_images(PROBES, channels, image_size)
    parts = [run(part.numpy()) for part in (probes[:1], probes[1:])]
    found: Outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    expected = {SCORE: scorer.score(to_float(probes))}
    if scorer.scores_places:
        expected[MAP] = scorer.maps(to_float(probes))
    difference = max(_apart(found[name], values.numpy()) for name, values in expected.items())
    if not difference <= TOLERANCE:  # written so that NaN fails too
        raise UserError(
            f"the exported file's scores differ from the detector's by {difference:.1e} of a score's size, "
            f"more than {TOLERANCE:g}: nothing was written; try another version of torch, or the other format"
        )
    if threshold is not None:
        scores = found["score"].astype(np.float64)
        if not _decides(found, scores, threshold):
            raise UserError(
                "the exported file decides otherwise than the detector: nothing was written; try another "
                "version of torch or the other format"
            )
    return difference


def _apart(found: ndarray, expected: ndarray) -> float:
    """The largest difference, as a part of the mean absolute value expected."""
    return float(np.abs(found - expected).max() / np.abs(expected).mean())


def _decides(found: Outputs, scores: Float[ndarray, " n"], threshold: Threshold) -> bool:
    """Whether p-values and decisions are what `threshold` makes of these scores."""
    return np.array_equal(found["p_value"], threshold.p_values(scores)) and np.array_equal(
        found["anomalous"], threshold.anomalous(scores)
    )


def probe_images(count: int, channels: int, image_size: int) -> RawImages:
    """Images to compare by, always the same: black, white, and noise from smooth to rough by turns."""
    rng = make_rng("cpu", 0, "export probes")
    noise = [torch.zeros(1, channels, 1, 1), torch.ones(1, channels, 1, 1)]
    for index in range(count - 2):
        side = min(2 ** (1 + index % 5), image_size)
        noise.append(torch.rand(1, channels, side, side, generator=rng))
    size = (image_size, image_size)
    images = [F.interpolate(part, size, mode="bilinear", align_corners=False) for part in noise]
    return (torch.cat(images) * 255).round().to(torch.uint8)
