"""Every image file below a folder, and what else lies there that somebody may take for one."""

import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from anomaly_gan.data.decode import SUFFIXES
from anomaly_gan.data.words import is_mask_folder
from anomaly_gan.errors import UserError
from anomaly_gan.own_files import drew

NOT_TAKEN = (
    ".gif", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jxr", ".jp2", ".j2k", ".jpx", ".ico",
    ".psd", ".xcf", ".svg", ".tga", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".exr", ".hdr", ".dcm", ".dicom",
    ".raw", ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef",
    ".srw", ".3fr", ".iiq", ".rwl",
)  # fmt: skip
"""Lower-case suffixes of image files that are not read."""

MASK_OF = re.compile(r"(.+)[_-]mask", re.IGNORECASE)
"""The name, without suffix, of a mask that lies beside its picture."""


@dataclass
class Scan:
    """What lies below a folder; names are paths relative to it, with forward slashes, sorted."""

    images: list[str] = field(default_factory=list)
    """Pictures that can be learned from or scored, known by their suffix."""
    masks: list[str] = field(default_factory=list)
    """Pictures of where a defect is."""
    not_taken: Counter[str] = field(default_factory=Counter)
    """How many image files there are of each kind (suffix) that is not read."""
    own: dict[str, int] = field(default_factory=dict)
    """Folders of pictures that this program drew, and how many each holds."""
    unread: dict[str, str] = field(default_factory=dict)
    """Folders that cannot be read, and why, where these are left out."""

    def left_out(self) -> list[str]:
        """What is not used and why, for a person, in lines."""
        lines = []
        if self.masks:
            folders = dict.fromkeys(os.path.dirname(name) or "." for name in self.masks)
            lines.append(f"masks: {len(self.masks)} in {some(folders)}; never learned from, never scored")
        if self.own:
            count = sum(self.own.values())
            lines.append(f"left out: {count} pictures that anomaly-gan drew itself, in {some(self.own)}")
        if self.not_taken:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.not_taken.most_common())
            lines.append(f"left out: {kinds}: kinds of image that are not read; convert them to PNG")
        lines += [
            f"left out: {folder}: this folder cannot be read ({why})" for folder, why in self.unread.items()
        ]
        return lines


def scan(root: Path, under: str = "", apart: Collection[str] = (), all_of_it: bool = True) -> Scan:
    """Look through `root/under` and its sub-folders.

    Image files are known by their suffix, in either case. Hidden files and folders are left out. Links are
    followed, but no folder is entered twice, so a loop of links ends; twice only below two folders of
    `apart`, names in `root` whose images may be the same by links. Masks are what lies in a folder that is
    named for them, and `x_mask.png` where there is a picture `x`.

    Args:
        root: a folder.
        under: which part of it; names stay relative to `root`.
        apart: see above.
        all_of_it: whether a sub-folder that cannot be read is an error; else it is left out.

    Raises:
        UserError: a folder cannot be read.
    """
    found = Scan()
    entered: set[tuple[int, int, str]] = set()

    def walk(folder: str, above: set[str]) -> None:
        path = os.path.join(root, folder)
        status = os.stat(path)
        top = folder.split("/", 1)[0]
        itself = (status.st_dev, status.st_ino, top if top in apart else "")
        if itself in entered:
            return
        entered.add(itself)
        with os.scandir(path) as entries:
            inside = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}
        if drew(os.path.basename(os.path.abspath(path)), inside, above):
            pictures = sum(name.lower().endswith(SUFFIXES) for *_, names in os.walk(path) for name in names)
            found.own |= {folder or ".": pictures} if pictures else {}
            return
        for name, entry in inside.items():
            if name.startswith("."):
                continue
            below = f"{folder}/{name}" if folder else name
            # DirEntry.is_dir raises on a link to itself.
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                try:
                    walk(below, set(inside))
                except OSError as error:
                    if all_of_it:
                        raise
                    found.unread[below] = error.strerror or str(error)
            elif name.lower().endswith(SUFFIXES):
                found.images.append(below)
            elif name.lower().endswith(NOT_TAKEN):
                found.not_taken[os.path.splitext(name)[1].lower()] += 1

    try:
        top = Path(root, under).absolute().parent
        walk(under, set(os.listdir(top)) if os.access(top, os.R_OK) else set())
    except OSError as error:
        raise UserError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error
    masks = _masks(found.images)
    found.masks = sorted(masks)
    found.images = sorted(name for name in found.images if name not in masks)
    return found


def _masks(names: list[str]) -> set[str]:
    """Which of the image files `names` are masks."""
    stems = {name: os.path.splitext(os.path.basename(name))[0] for name in names}
    suspects = {name: match[1] for name, stem in stems.items() if (match := MASK_OF.fullmatch(stem))}
    pictures = set(stems.values()) if suspects else set()
    return {name for name in names if any(map(is_mask_folder, name.split("/")[:-1]))} | {
        name for name, picture in suspects.items() if picture in pictures
    }


def some(names: Collection[str], shown: int = 5) -> str:
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(islice(names, shown)) + more
