"""Any folder of image files: a benchmark's class folders, MVTec AD's layout, or normal images alone."""

import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from anomaly_gan.data.decode import MODES, RESIZERS, CorruptImage, decode, highest_value
from anomaly_gan.data.image_set import FileReader, ImageSet, MemoryReader, Reader
from anomaly_gan.data.inspection import SIXTEEN_BIT, Inspection
from anomaly_gan.data.masks import masks_of, read_mask
from anomaly_gan.data.module import OneClassData
from anomaly_gan.data.scan import some
from anomaly_gan.data.split import likely_group
from anomaly_gan.data.tree import EXPECTED, Files, Tree, contents, read_tree
from anomaly_gan.data.words import ANOMALOUS, plain
from anomaly_gan.errors import UserError, nearest
from anomaly_gan.progress import track
from anomaly_gan.types import Labels

log = logging.getLogger(__name__)

LOOKED_AT = 32
"""Training images whose pixels are looked at where nobody says what they hold."""


class Folder(OneClassData):
    """Images in a folder tree; see `tree.read_tree` for the layouts.

    Every file is decoded once at setup, on all cores: kept, if the split fits in memory, else only verified
    (the loaders' workers decode it again whenever it is used).

    Args:
        root: the folder.
        normal_class: name or index of the class that is normal; None: what the layout says.
        image_size: side of the images after resizing, pixels; None: by `inspection.choose_side`.
        name: label of results; the folder's own name if None.
        channels: 1 or 3; None means 1 if 32 training images, evenly spread, are grey, else 3.
        resize: "stretch", "crop" or "pad"; see `decode.to_tensor`.
        bits: how many bits of a 16-bit file its camera uses, 9 to 16; see `decode.to_tensor`.
        on_corrupt: "raise" or "skip" (leave out, count and list in `skipped`).
        memory_limit_gib: largest split to keep decoded in memory, GiB.
        split_file: a CSV file that says what is learned from and what is tested, see `split_file.placed_by`;
            None: the folders say it.
        group: regular expression for the part of a path that images of one object have in common (shots
            of one tile, frames of one film): held out together or not at all. None: each is on its own.
        **shared: see OneClassData.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        normal_class: int | str | None = None,
        image_size: int | None = 64,
        name: str | None = None,
        channels: int | None = None,
        resize: str = "stretch",
        bits: int = 16,
        on_corrupt: str = "raise",
        memory_limit_gib: float | int = 4.0,
        split_file: str | None = None,
        group: str | None = None,
        **shared: Any,
    ):
        if not str(root):
            raise UserError("data.root= is empty: give a folder")
        self.root = Path(root).expanduser()
        super().__init__(name=name or self.root.resolve().name, normal_class=0, **shared)
        self.requested_class = normal_class
        self.requested_image_size = image_size
        self.requested_channels = channels
        self.resize = resize
        self.bits = bits
        self.on_corrupt = on_corrupt
        self.memory_limit_gib = memory_limit_gib
        self.split_file = Path(split_file).expanduser() if split_file else None
        self.group = group

    def discover(self) -> None:
        """Read the tree; settle class names and channels."""
        if self.resize not in RESIZERS:
            raise UserError(f"unknown data.resize={self.resize}: {nearest(self.resize, tuple(RESIZERS))}")
        if self.on_corrupt not in ("raise", "skip"):
            raise UserError(
                f"unknown data.on_corrupt={self.on_corrupt}: {nearest(self.on_corrupt, ('raise', 'skip'))}"
            )
        if self.requested_channels not in (None, *MODES):
            raise UserError(f"data.channels={self.requested_channels} must be 1, 3 or null")
        if not 9 <= self.bits <= 16:
            raise UserError(f"data.bits={self.bits} must be from 9 to 16")
        if self.requested_image_size is not None and self.requested_image_size < 1:
            raise UserError(f"data.image_size={self.requested_image_size} must be at least 1")
        if not self.root.is_dir():
            raise UserError(self.missing_root())
        self.tree = self.read_tree()
        self.class_names = self.tree.class_names
        self.normal_class = self.tree.normal
        self.notes = list(self.tree.left_out)
        self.image_size = self.requested_image_size or self.inspection.side()
        self.channels = self.requested_channels or self._guess_channels()

    @cached_property
    def inspection(self) -> Inspection:
        """A look at the normal training images and all test images, once the tree is read."""
        tested = self.tree.test.names if self.tree.test else []
        return Inspection.of(self.root, self._names_of(self.tree.normal), tested)

    def _names_of(self, normal: str) -> list[str]:
        return [name for name, label in zip(*self.tree.train, strict=True) if label == normal]

    def preview(self) -> list[str]:
        """What is in the folder, and what will be done about it."""
        self.discover()
        lines = self.inspection.lines(
            image_size=self.requested_image_size,
            channels=(self.channels, "asked for" if self.requested_channels else self._by_rule()),
            resize=self.resize,
            on_corrupt=self.on_corrupt,
        )
        dark = self._darkness()
        return [lines[0], *self.tree.told, *lines[1:], *([dark] if dark else [])]

    def _by_rule(self) -> str:
        normal, looked_at = len(self.inspection.train), len(self.looked_at)
        return "by rule" if looked_at == normal else f"by rule, from {looked_at} of them"

    def _darkness(self) -> str | None:
        """What to say of 16-bit images that would become nearly black."""
        names = [name for name in self.looked_at if self.inspection.train[name].kind == SIXTEEN_BIT]
        highest = max((highest_value(self.root / name) for name in names), default=0)
        if not 0 < highest < 2**self.bits / 8:
            return None
        fitting = next(bits for bits in (10, 12, 14) if highest < 2**bits)
        if fitting >= self.bits:  # dark pictures of a camera that is told
            return None
        return (
            f"nearly black: the highest of {len(names)} 16-bit images' values is {highest:g} of "
            f"{2**self.bits - 1}, which is white: data.bits={fitting} makes {2**fitting - 1} white"
        )

    def held_together(self, images: ImageSet, first: Labels) -> Labels:
        """Copies, and images of one object; copies of which are in two objects make these one."""
        if self.group is None:
            if (likely := likely_group(images.names)) is not None:
                self.notes.append(
                    "file names look like several pictures of an object each: then those held out are too "
                    "much like those learned from, and the threshold is too low for new objects; "
                    f"data.group='{likely}' keeps each object's pictures on one side"
                )
            return first
        found = [self._object(name) for name in images.names]
        index = {key: row for row, key in reversed([*enumerate(found)])}
        rows = np.arange(len(found))
        links = [first.numpy(), np.array([index[key] for key in found])]
        ends = np.concatenate([rows, rows]), np.concatenate(links)
        graph = coo_array((np.ones(2 * len(rows)), ends), shape=(len(rows), len(rows)))
        return torch.from_numpy(connected_components(graph, directed=False)[1]).long()

    def _object(self, name: str) -> str:
        try:
            match = re.search(str(self.group), name)
        except re.error as wrong:
            raise UserError(f"data.group={self.group}: no regular expression: {wrong}") from wrong
        if match is None:
            raise UserError(
                f"data.group={self.group} is nowhere in {name}; give what all paths below data.root have"
            )
        return match[0]

    def missing_root(self) -> str:
        """The message where there is no `root`."""
        parent = next(folder for folder in self.root.absolute().parents if folder.is_dir())
        return (
            f"data.root={self.root} is not a folder ({parent} holds {contents(parent)}); "
            f"set data.root to a folder of images: {EXPECTED}"
        )

    def read_tree(self) -> Tree:
        """Which files there are, and their classes."""
        return read_tree(self.root, self.requested_class, self.split_file)

    def can_be_normal(self) -> list[str]:
        """The classes that have training images and no name for something bad."""
        return [
            name
            for name in self.class_names
            if name in set(self.tree.train.classes) and plain(name) not in ANOMALOUS
        ]

    def load_train(self, normal_index: int) -> ImageSet:
        """The training images of one class."""
        normal = self.class_names[normal_index]
        names = self._names_of(normal)
        return self._load(Files(names, [normal] * len(names)), "train")

    def load_test(self) -> ImageSet | None:
        """The test images of all classes."""
        return None if self.tree.test is None else self._load(self.tree.test, "test")

    def mask(self, name: str) -> Bool[Tensor, "height width"] | None:
        if name not in self._masks:
            return None
        try:
            return read_mask(self.root / self._masks[name], self.image_size, self.resize)
        except CorruptImage as unread:  # a run that has come so far is not lost for a figure
            if f"not measured: {unread}" not in self.notes:
                self.notes.append(f"not measured: {unread}")
            return None

    @cached_property
    def _masks(self) -> dict[str, str]:
        return masks_of(self.tree.test.names if self.tree.test else [], self.tree.masks)

    def _load(self, files: Files, split: str) -> ImageSet:
        """Decode every file; those that cannot be are left out or raised."""
        paths = [self.root / name for name in files.names]
        reader_decode = partial(
            decode,
            image_size=self.image_size,
            channels=self.channels,
            resize=self.resize,
            bits=self.bits,
        )
        shape = (len(paths), self.channels, self.image_size, self.image_size)
        fits = torch.Size(shape).numel() <= self.memory_limit_gib * 2**30
        images = torch.empty(shape if fits else (0,), dtype=torch.uint8)
        errors: dict[int, CorruptImage] = {}

        def decode_rows(rows: range) -> range:
            for row in rows:
                try:
                    image = reader_decode(paths[row])
                except CorruptImage as error:
                    errors[row] = error
                else:
                    if fits:
                        images[row] = image
            return rows

        threads = os.cpu_count() or 1
        # A task of several files, because small ones decode in less time than a task takes to hand over.
        step = max(1, min(64, len(paths) // (8 * threads)))
        tasks = [range(start, min(start + step, len(paths))) for start in range(0, len(paths), step)]
        verb = "decoding" if fits else "verifying"
        pool = ThreadPoolExecutor(threads)
        try:
            done = chain.from_iterable(pool.map(decode_rows, tasks))
            for _ in track(done, f"{verb} {split} images", len(paths), "images"):
                pass
        finally:
            pool.shutdown(cancel_futures=True)  # who ends the command waits for no other file

        index_of = {name: index for index, name in enumerate(self.class_names)}
        labels = torch.tensor([index_of[label] for label in files.classes], dtype=torch.int64)
        reader: Reader = MemoryReader(images) if fits else FileReader(paths, reader_decode)
        loaded = ImageSet(reader, labels, files.names)
        if errors:
            self._leave_out(
                [errors[row] for row in sorted(errors)], [files.names[row] for row in sorted(errors)]
            )
            loaded = loaded.subset([row for row in range(len(paths)) if row not in errors])
        return loaded

    def _leave_out(self, errors: list[CorruptImage], names: list[str]) -> None:
        others = f"; so are {some(names[1:])}" if len(names) > 1 else ""
        if self.on_corrupt == "raise":
            raise CorruptImage(f"{errors[0]}{others}: repair or remove, or set data.on_corrupt=skip")
        self.skipped += names
        log.warning("%s: left out %d files that cannot be read: %s", self.name, len(names), some(names))

    @property
    def looked_at(self) -> list[str]:
        """Names of at most LOOKED_AT normal training images, evenly spread, whose pixels rules go by."""
        names = self._names_of(self.tree.normal)
        return names[:: -(-len(names) // LOOKED_AT)]

    def _guess_channels(self) -> int:
        """1 if the images looked at hold nothing but grey, else 3."""

        def colourful(name: str) -> bool:
            try:
                red, green, blue = decode(self.root / name, self.image_size, 3, self.resize, self.bits)
            except CorruptImage:  # _load deals with it
                return False
            return not (torch.equal(red, green) and torch.equal(green, blue))

        return 3 if any(colourful(name) for name in self.looked_at) else 1
