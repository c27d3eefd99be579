"""What the folders above an image file say of it."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from anomaly_gan.data.scan import some
from anomaly_gan.data.words import ANOMALOUS, NORMAL, plain
from anomaly_gan.errors import UserError

PLACES_TOLD = 8
"""Sub-folders that a line names."""


class Place(NamedTuple):
    """What the folders above a file say of it."""

    path: str
    """The folder whose name decides, relative to the root."""
    label: str
    """Its name; "" where there is no folder below the root, or below that of the split."""
    normal: bool | None
    """Whether it is a word for normal images or for others; None: it is neither."""

    @property
    def key(self) -> str:
        """The same for folders that mean the same class: all words for normal, and either case."""
        return NORMAL_KEY if self.normal else self.label.casefold()


NORMAL_KEY = "normal/"
"""A slash is in no folder's name."""

Placed = dict[str, Place]
"""By name of the file."""


def placed_in(names: Iterable[str], below: str, root: Path) -> Placed:
    """The files below the folder `below` of the root ("": the root itself), each with its place."""
    prefix = f"{below}/" if below else ""
    places: dict[str, Place] = {}
    placed = {}
    for name in names:
        if name.startswith(prefix):
            folder = os.path.dirname(name)
            if folder not in places:
                places[folder] = place_of(folder[len(prefix) :], below, root)
            placed[name] = places[folder]
    return placed


def place_of(folder: str, below: str, root: Path) -> Place:
    """What `folder`, a path below the folder `below`, says of the files in it."""
    parts = folder.split("/") if folder else []
    normal, anomalous = ([part for part in parts if plain(part) in words] for words in (NORMAL, ANOMALOUS))
    if normal and anomalous:
        raise UserError(
            f"{root / below / folder} is named for normal images ({normal[0]}) and for others "
            f"({anomalous[0]}): rename one of the folders"
        )
    if not parts:
        return Place(below or ".", "", None)
    label = (normal or anomalous or parts)[0]
    path = "/".join(parts[: parts.index(label) + 1])
    return Place(
        f"{below}/{path}" if below else path, label, True if normal else False if anomalous else None
    )


def counted(places: Iterable[Place]) -> str:
    """The folders that decide, each with how many files it decides for, in one line."""
    counts = Counter(place.path for place in places)
    return some([f"{path} ({count})" for path, count in counts.items()], PLACES_TOLD)
