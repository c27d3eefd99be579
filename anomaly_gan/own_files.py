"""Folders of pictures that this program drew itself: not to be learned from or scored by mistake."""

from collections.abc import Container
from pathlib import Path

MARK = ".drawn_by_anomaly_gan"
"""File in each such folder. Who wants to use the pictures after all takes it away."""

SAID = "The pictures in this folder were drawn by anomaly-gan. Trainings and predictions leave them out.\n"

BEFORE_MARKS = ("figures", {"config.yaml", "result.json"})
"""A folder of this name, in one that holds these files, is of a run from before there were marks."""


def mark(folder: Path) -> None:
    """Say in `folder`, which exists, that its pictures are this program's."""
    path = folder / MARK
    if not path.exists():
        path.write_text(SAID)


def drew(folder: str, files: Container[str], files_above: Container[str]) -> bool:
    """Whether this program drew the pictures in a folder.

    Args:
        folder: its name.
        files: names of what it holds.
        files_above: names of what the folder above holds.
    """
    name, beside = BEFORE_MARKS
    return MARK in files or (folder == name and all(file in files_above for file in beside))
