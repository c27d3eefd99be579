"""A look at a folder of images before anything is trained: what is there, and what will be done about it."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from statistics import median

from PIL import Image

from anomaly_gan.data.decode import FORMATS
from anomaly_gan.data.scan import some

SIDES = (32, 48, 64)
"""Sides in pixels that are chosen from where none is asked for; larger ones cost more than they find, as a
rule."""

KINDS = {
    "1": "black and white", "L": "grey", "RGB": "RGB", "P": "palette", "LA": "grey with alpha",
    "La": "grey with alpha", "PA": "palette with alpha", "RGBA": "RGB with alpha", "RGBa": "RGB with alpha",
    "CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "Lab", "HSV": "HSV", "F": "fractions",
}  # fmt: skip
"""PIL's modes in words; those that begin with I are SIXTEEN_BIT."""

SIXTEEN_BIT = "grey with 16 bits"


@dataclass(frozen=True)
class Header:
    """What a file says of itself without being decoded."""

    digest: bytes
    """Of the whole file: the same for exact copies alone."""
    size: tuple[int, int] | None
    """Width and height, pixels; None where it is no image that can be used."""
    kind: str
    """How it holds its pixels, in words."""
    format: str
    """PIL's name of its format."""


def read_header(path: Path) -> Header:
    """Look at one file."""
    digest = b""
    try:
        if not path.is_file():  # whoever opens a pipe waits for its other end
            return Header(digest, None, "", "")
        with path.open("rb") as file:
            digest = file_digest(file, lambda: blake2b(digest_size=16)).digest()
        with Image.open(path, formats=FORMATS) as image:
            kind = SIXTEEN_BIT if image.mode.startswith("I") else KINDS.get(image.mode, image.mode)
            return Header(digest, image.size, kind, image.format or "")
    except Exception:  # decoders fed arbitrary bytes raise nearly anything
        return Header(digest, None, "", "")


@dataclass(frozen=True)
class Inspection:
    """The normal training images of a folder, and its test images where it has some."""

    train: dict[str, Header]
    test: dict[str, Header]

    @classmethod
    def of(cls, root: Path, train: Sequence[str], test: Sequence[str]) -> "Inspection":
        """Look at the files `root`/name."""
        names = [*train, *test]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            headers = dict(
                zip(names, pool.map(read_header, [root / name for name in names], chunksize=16), strict=True)
            )
        return cls({name: headers[name] for name in train}, {name: headers[name] for name in test})

    @property
    def unreadable(self) -> list[str]:
        """Files of both parts whose very beginning is no image; others may yet turn out to be damaged."""
        return [name for part in (self.train, self.test) for name in part if part[name].size is None]

    @property
    def copies(self) -> int:
        """Training images that are exact copies of others."""
        digests = [header.digest for header in self.train.values() if header.size is not None]
        return len(digests) - len(set(digests))

    @property
    def tested_copies(self) -> list[str]:
        """Test images that are exact copies of training images."""
        known = {header.digest for header in self.train.values() if header.size is not None}
        return [name for name, header in self.test.items() if header.digest in known]

    def side(self) -> int:
        """The side in pixels that images should have: see `choose_side`."""
        return choose_side([min(h.size) for h in self.train.values() if h.size is not None])

    def lines(
        self, image_size: int | None, channels: tuple[int, str], resize: str, on_corrupt: str
    ) -> list[str]:
        """All this for a person, with what will be done about it.

        Args:
            image_size: asked for; None: by rule.
            channels: of the images as they become, and why so many.
            resize: see `Folder`.
            on_corrupt: likewise.
        """
        headers = [header for header in self.train.values() if header.size is not None]
        lines = [f"{len(self.train)} normal training images, {len(self.test) or 'no'} test images"]
        if not headers:
            return lines
        sizes = sorted((header.size for header in headers if header.size), key=lambda s: (s[0] * s[1], s))
        ends = [f"{width}x{height}" for width, height in (sizes[0], sizes[len(sizes) // 2], sizes[-1])]
        side = image_size or self.side()
        why = "asked for" if image_size else "by rule, from the median short side"
        if len(set(sizes)) == 1:
            lines.append(f"size: all {ends[0]}; become {side}x{side} ({why}; data.image_size), {resize}")
        else:
            lines.append(
                f"sizes: {ends[0]} to {ends[2]}, in the middle {ends[1]}; become {side}x{side} ({why}; "
                f"data.image_size), {resize}"
            )
        lines.append(
            f"pixels: {_counted(h.kind for h in headers)}; become {'grey' if channels[0] == 1 else 'RGB'} "
            f"({channels[1]}; data.channels); "
            f"files: {_counted(h.format for h in headers)}"
        )
        if self.copies:
            lines.append(
                f"exact copies: {self.copies}; learned from as they are, but never held out beside a copy "
                "that is learned from"
            )
        if self.tested_copies:
            lines.append(
                f"test images that are copies of training images: {some(self.tested_copies)}; they look more "
                "normal than they should: take them out of either part"
            )
        if self.unreadable:
            what = (
                "left out" if on_corrupt == "skip" else "the training will stop: data.on_corrupt=skip goes on"
            )
            lines.append(f"cannot be read: {some(self.unreadable)}; {what}")
        return lines


def choose_side(short_sides: Sequence[int]) -> int:
    """The smallest of `SIDES` not below the median of the images' shorter sides, else the largest."""
    middle = median(short_sides) if short_sides else SIDES[-1]
    return next((side for side in SIDES if side >= middle), SIDES[-1])


def _counted(words: Iterable[str]) -> str:
    counts = Counter(words)
    return ", ".join(f"{count} {word}" for word, count in counts.most_common())
