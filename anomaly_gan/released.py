"""Detectors by name: files that somebody has put into folders named by an environment variable.

Nothing is fetched: a name means a file that is already there.
"""

import os
import re
from pathlib import Path

FOLDERS = "ANOMALY_GAN_DETECTORS"
"""The environment variable: folders with detectors, NAME.ckpt each, separated as those of PATH are."""

NAME = re.compile(r"[\w-]+", re.ASCII)


def named(given: str) -> Path | None:
    """The file of the detector called `given`, in the first folder that has it; None where there is none."""
    if not NAME.fullmatch(given):
        return None
    folders = [Path(folder).expanduser() for folder in _folders()]
    return next((file for folder in folders if (file := folder / f"{given}.ckpt").is_file()), None)


def where_names_are_sought(given: str) -> str:
    """What to say of a name that was not found; "" of what cannot be one."""
    if not NAME.fullmatch(given):
        return ""
    folders = _folders()
    sought = f"in {os.pathsep.join(folders)}" if folders else "for it names no folder"
    return f"; nor is there a detector of this name by {FOLDERS}, {sought}"


def _folders() -> list[str]:
    return [folder for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]
