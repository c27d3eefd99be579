"""The files that `inputs=` means: images, folders of them and lists."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from anomaly_gan.data.scan import scan
from anomaly_gan.errors import UserError
from anomaly_gan.names import printable

LIST = ".txt"
"""How the name of a list of files ends, in either case."""


def files(given: Any) -> tuple[int, Iterable[Path]]:
    """How many files the path `given` means, and these: itself, the images in a folder, the lines of a list.

    Raises:
        UserError: it means none.
    """
    path = Path(os.path.expanduser(str(given)))
    if path.is_dir():
        found = scan(path)
        left_out = found.left_out()
        if not found.images:
            raise UserError("; ".join([f"inputs={path}: no images in this folder", *left_out]))
        for line in left_out:
            print(printable(f"{path}: {line}"))
        return len(found.images), (path / name for name in found.images)
    if not path.exists():
        raise UserError(f"inputs={path}: no such file or folder")
    if path.suffix.lower() == LIST and path.is_file():
        return _count_listed(path), listed(path)
    return 1, [path]


def listed(path: Path) -> Iterator[Path]:
    """The files that a list names, one a line, as they are asked for; empty lines name none."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            name = line.removesuffix("\n").removesuffix("\r")
            if name.strip():
                yield Path(name)


def _count_listed(path: Path) -> int:
    """How many files a list names.

    Raises:
        UserError: it names none, or none that is there, as where it was made in another folder.
    """
    count, first, there = 0, Path(), False
    for file in listed(path):
        first = first if count else file
        there = there or os.path.exists(file)
        count += 1
    if not count:
        raise UserError(f"inputs={path}: it names no file; give one path a line")
    if not there:
        raise UserError(
            f"inputs={path}: none of the {count} files that it names is there, the first is "
            f"{printable(str(first))}; paths in a list count from the current folder"
        )
    return count
