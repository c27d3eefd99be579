"""Which image files a folder holds, and which class each belongs to."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from anomaly_gan.data.decode import SUFFIXES
from anomaly_gan.errors import UserError

GOOD = "good"
"""Class of normal images where the folders do not say otherwise (MVTec AD's name)."""


class Files(NamedTuple):
    """Image files of one split, sorted by path."""

    names: list[str]
    """Paths relative to the root, with forward slashes."""
    classes: list[str]
    """Class of each file."""


class Tree(NamedTuple):
    """A folder of images, read."""

    class_names: tuple[str, ...]
    """ "good" first, the others sorted."""
    train: Files
    test: Files | None


def find_images(root: Path, under: str = "") -> list[str]:
    """Image files in `root/under` and its sub-folders: paths relative to `root`, sorted.

    Known by their suffix, in either case. Hidden files and folders are left out. Links are followed, but no
    folder is entered twice, so a loop of links ends.

    Raises:
        UserError: a folder cannot be read.
    """
    entered: set[tuple[int, int]] = set()

    def walk(folder: str) -> Iterator[str]:
        path = os.path.join(root, folder)
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(path) as entries:
            visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        for entry in visible:
            name = f"{folder}/{entry.name}" if folder else entry.name
            # DirEntry.is_dir raises on a link to itself.
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                yield from walk(name)
            elif entry.name.lower().endswith(SUFFIXES):
                yield name

    try:
        return sorted(walk(under))
    except OSError as error:
        raise UserError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error


def read_tree(root: Path) -> Tree:
    """Recognise the layout of `root`.

    - `train/<class>/*` and `test/<class>/*`: classes by folder, at any depth below it. MVTec AD's layout is
      this one with "good" alone in train.
    - images directly in `train`: all of class "good"; `test/<class>/*` as above.
    - neither `train` nor `test`: every image is "good" and there is no test split.

    Raises:
        UserError: there are no images, or it is unclear what class they have.
    """
    if not (root / "train").is_dir():
        if (root / "test").is_dir():
            raise UserError(
                f"{root} has a test folder but no train folder: put normal images in {root}/train"
            )
        images = find_images(root)
        if not images:
            raise UserError(f"no images in {root}: it holds {contents(root)}; {EXPECTED}")
        return Tree((GOOD,), Files(images, [GOOD] * len(images)), None)

    train = read_split(root, "train")
    if not train.names:
        raise UserError(f"no images in {root}/train: it holds {contents(root / 'train')}; {EXPECTED}")
    if set(train.classes) == {""}:
        train = Files(train.names, [GOOD] * len(train.names))
    elif "" in train.classes:
        raise UserError(
            f"{root}/train holds both images and folders of images, so the images' class is unclear: "
            "move them into a folder"
        )
    test = read_split(root, "test") if (root / "test").is_dir() else Files([], [])
    if "" in test.classes:
        raise UserError(
            f"{root}/test holds images outside of any class folder: "
            f"move them into {root}/test/{GOOD} or {root}/test/<defect>"
        )
    class_names = sorted({*train.classes, *test.classes}, key=lambda name: (name != GOOD, name))
    return Tree(tuple(class_names), train, test if test.names else None)


def read_split(root: Path, split: str) -> Files:
    """The images of `root/split`; the class of each is the folder just below, "" for those directly in it."""
    names = find_images(root, split)
    below = [name[len(split) + 1 :] for name in names]
    return Files(names, [name.split("/", 1)[0] if "/" in name else "" for name in below])


def contents(folder: Path, shown: int = 8) -> str:
    """What lies in `folder`, for an error message."""
    entries = sorted(
        f"{entry.name}/" if os.path.isdir(entry.path) else entry.name
        for entry in os.scandir(folder)
        if not entry.name.startswith(".")
    )
    if not entries:
        return "nothing"
    more = f" and {len(entries) - shown} more" if len(entries) > shown else ""
    return ", ".join(entries[:shown]) + more


EXPECTED = (
    f"expected {'/'.join(suffix[1:] for suffix in SUFFIXES)} files in train/<class>/ and test/<class>/, "
    f"in train/{GOOD}/ and test/{{{GOOD},<defect>}}/, or normal images alone in any folders"
)
