"""The page of a prediction: what was decided, and the pictures to look at, in one file without a network.

Names of files come from anybody: the template escapes them, and the script sets them only as text.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from anomaly_gan.metrics.rates import AtRate
from anomaly_gan.names import printable
from anomaly_gan.reporting import wording
from anomaly_gan.reporting.pictures import LARGEST, Picture
from anomaly_gan.reporting.template import as_json, asset, environment

BUDGET = 15_000_000
"""Bytes that all pictures together may take of the page."""


@dataclass(frozen=True)
class Layer:
    """A map of scores over a picture."""

    image: str
    """WebP in base64, with transparency."""
    place: tuple[float, float, float, float]
    """Left, top, width and height, in shares of the picture's."""


@dataclass(frozen=True)
class Card:
    """One image of the page."""

    file: str
    score: float
    p_value: float | None
    """None without calibration."""
    adjusted_p_value: float | None
    """None where each image is judged alone."""
    anomalous: bool | None
    """None without calibration."""
    scores: Mapping[str, float]
    """Every score and part."""
    at_random: bool
    """Whether it was drawn from the images below the most anomalous ones."""
    picture: Picture | None
    """None where the file is not there any more."""
    layer: Layer | None
    """None of a method that looks at whole images."""
    explanation: str | None
    """A picture of why, WebP in base64; None where none was asked for."""


@dataclass(frozen=True)
class Predicted:
    """What the page says beside its pictures."""

    scored: int
    called: int
    """How many of them are called anomalous."""
    unread: int
    """How many files could not be read."""
    first_unread: Sequence[str]
    """Why the first of them could not."""
    headline: str
    """What was decided."""
    promise: str
    """What that is worth."""
    held_out: int | None
    """How many images the p-values count; None without calibration."""
    others: int
    """How many images that were scored are not among the most anomalous, of which the first are shown."""
    table: str
    """The name of the file with all images."""
    thresholds: Sequence[AtRate]
    """Empty without labels."""
    curve: str | None
    """A picture of these, WebP in base64."""
    inner: Mapping[str, Any]
    """The detector's inner parts, by name."""
    made: str
    """When, and by what."""


def page(predicted: Predicted, cards: Sequence[Card]) -> str:
    """The whole page."""
    names = shown_names([card.file for card in cards])
    data = [
        {
            "file": card.file,
            "score": card.score,
            "p_value": card.p_value,
            "adjusted_p_value": card.adjusted_p_value,
            "decision": _decision(card.anomalous),
            "scores": dict(card.scores),
            "width": card.picture and card.picture.width,
            "height": card.picture and card.picture.height,
        }
        for card in cards
    ]
    return (
        environment()
        .get_template("predicted.html")
        .render(
            predicted=predicted,
            cards=list(zip(cards, names, strict=True)),
            shown_called=sum(card.anomalous is True for card in cards),
            at_random=sum(card.at_random for card in cards),
            maps=any(card.layer is not None for card in cards),
            largest=LARGEST,
            data=as_json(data),
            css=asset("report.css") + asset("predicted.css"),
            js=asset("predicted.js"),
            words=wording,
            decision=_decision,
            printable=printable,
        )
    )


def shown_names(files: Sequence[str]) -> list[tuple[str, str]]:
    """The folder and the name of each file as the page shows them.

    Folders are left out where no name is there twice; else what all have in common is.
    """
    paths = [PurePath(file) for file in files]
    counted = Counter(path.name for path in paths)
    if all(count == 1 for count in counted.values()):
        return [("", printable(path.name)) for path in paths]
    try:
        common = os.path.commonpath([path.parent for path in paths])
    except ValueError:  # some are absolute, or on another drive
        common = ""
    folders = [os.path.relpath(path.parent, common) if common else str(path.parent) for path in paths]
    return [
        ("" if folder == "." else printable(f"{folder}/"), printable(path.name))
        for folder, path in zip(folders, paths, strict=True)
    ]


def _decision(anomalous: bool | None) -> str:
    """A decision in a word."""
    return {None: "", True: "defective", False: "good"}[anomalous]
