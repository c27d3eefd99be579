"""The page of a prediction: its pictures are read anew, for the scoring keeps none."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomaly_gan import __version__, checkpoint
from anomaly_gan.cli.decided import in_words
from anomaly_gan.cli.tally import Tally, tables
from anomaly_gan.data import decode
from anomaly_gan.data.inputs import read_ahead
from anomaly_gan.inference import Detector, Prediction
from anomaly_gan.metrics.rates import AtRate
from anomaly_gan.progress import track
from anomaly_gan.reporting.pictures import Picture, embed, heat
from anomaly_gan.reporting.predicted import BUDGET, Card, Layer, Predicted, page
from anomaly_gan.reporting.variants import flat
from anomaly_gan.results import write_atomically
from anomaly_gan.transforms.convert import to_float

AT_A_TIME = 8
"""Pictures that are read ahead and whose maps are computed together."""


@dataclass(frozen=True)
class Beside:
    """What the page has beside the pictures themselves."""

    checkpoint: str
    """Of the detector."""
    fdr: float | None
    """The false discovery rate by which images were judged together; None: each alone."""
    explained: Sequence[Path]
    """Pictures of why the most anomalous images are so, in their order."""
    thresholds: Sequence[AtRate]
    """Empty without labels."""
    curve: Path | None
    """A picture of these."""


def write_page(path: Path, found: Tally, pictures: int, detector: Detector, beside: Beside) -> None:
    """Write the page, whole or not at all.

    Args:
        path: of the file.
        found: what was predicted.
        pictures: how many of the most anomalous images are shown.
        detector: that scored them.
        beside: what else is said.
    """
    top = found.top[:pictures]
    shown = [*top, *found.others]
    seen = track(_seen(shown, detector), "making the page", len(shown), "pictures")
    explained = embed(beside.explained[:pictures], BUDGET // 4)
    cards = []
    for rank, (prediction, (picture, layer)) in enumerate(zip(shown, seen, strict=True)):
        why = explained[rank] if rank < len(explained) else None
        cards.append(_card(prediction, rank >= len(top), picture, layer, why))
    headline, promise = in_words(found, detector, beside.fdr)
    curves = [] if beside.curve is None else embed([beside.curve], BUDGET // 20)
    predicted = Predicted(
        scored=found.scored,
        called=found.anomalous,
        unread=found.unread,
        first_unread=found.first_unread,
        headline=headline,
        promise=promise,
        held_out=None if detector.threshold is None else len(detector.threshold.held_out),
        others=found.below,
        table=tables(path.with_suffix(""))[0].name,
        thresholds=beside.thresholds,
        curve=next(iter(curves), None),
        inner=_inner(detector, beside.checkpoint),
        made=f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())} by anomaly-gan {__version__}",
    )
    write_atomically(path, page(predicted, cards))


def _seen(shown: Sequence[Prediction], detector: Detector) -> Iterator[tuple[Picture | None, Layer | None]]:
    """The picture of each prediction, and the map of its scores where the method has one."""
    share = BUDGET // max(1, len(shown))
    side, resize, bits = (detector.form[key] for key in ("image_size", "resize", "bits"))

    def look(prediction: Prediction) -> tuple[Picture, Tensor] | None:
        assert prediction.path is not None
        try:
            image = decode.picture(prediction.path, bits)
            return Picture.of(image, share), decode.to_tensor(image, **detector.form)
        except decode.CorruptImage:
            return None  # changed or taken away since

    for batch in read_ahead(shown, look, AT_A_TIME):
        tensors = [made[1] for _, made in batch if made is not None]
        maps: Iterator[Any] = iter(())
        if tensors and detector.scorer.scores_places:
            images = to_float(torch.stack(tensors).to(detector.device))
            maps = iter(detector.scorer.maps(images).double().cpu().numpy())
        for _, made in batch:
            if made is None:
                yield None, None
                continue
            picture, scores = made[0], next(maps, None)
            place = decode.place_in_picture((picture.width, picture.height), side, resize)
            line = None if detector.threshold is None else detector.threshold.value
            yield picture, None if scores is None else Layer(heat(scores, line), place)


def _card(
    prediction: Prediction, at_random: bool, picture: Picture | None, layer: Layer | None, why: str | None
) -> Card:
    assert prediction.score is not None
    return Card(
        file=str(prediction.path),
        score=prediction.score,
        p_value=prediction.p_value,
        adjusted_p_value=prediction.adjusted_p_value,
        anomalous=prediction.anomalous,
        scores={name: value for name, value in prediction.scores.items() if math.isfinite(value)},
        at_random=at_random,
        picture=picture,
        layer=layer,
        explanation=why,
    )


def _inner(detector: Detector, path: str) -> dict[str, Any]:
    """The detector's inner parts, by name."""
    file = checkpoint.read(path)
    side, channels, resize = (detector.form[key] for key in ("image_size", "channels", "resize"))
    inner = {
        "detector": str(file.path),
        "method": file.method,
        "score that ranks": detector.primary,
        "pictures as it sees them": f"{side} x {side} pixels, {channels} channels, {resize}",
    }
    if detector.threshold is not None:
        inner["threshold: score above"] = f"{detector.threshold.value:.6g}"
    return inner | {f"scoring.{name}": value for name, value in flat(file.config["scoring"]).items()}
