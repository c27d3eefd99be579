"""One split of a data set, fetched a batch at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from anomaly_gan.randomness import make_rng
from anomaly_gan.types import Labels, RawImages


class Batch(NamedTuple):
    """Images with their classes, as they are stored."""

    images: RawImages
    labels: Labels
    """Class index of each image."""
    index: Labels  # type: ignore[assignment]  # a field hides tuple.index
    """Position of each image in its ImageSet."""


class MemoryReader:
    """Images held as one tensor, on any device."""

    streamed = False

    def __init__(self, images: RawImages):
        self.images = images

    def __call__(self, rows: Labels) -> RawImages:
        """Pick `rows` by tensor indexing: no Python per image."""
        if self.images.is_cuda:  # the host goes on while the row numbers travel
            rows = rows.pin_memory().to(self.images.device, non_blocking=True)
        return self.images[rows]

    def digest(self, row: int) -> bytes:
        """Of the pixels of one image: the same for exact copies alone."""
        return blake2b(self.images[row].cpu().numpy().tobytes(), digest_size=16).digest()


class FileReader:
    """Images decoded from files each time they are asked for.

    Args:
        paths: one file per row.
        decode: file -> uint8 [C, H, W], the same size for every file; must pickle, for loader workers.
    """

    streamed = True

    def __init__(self, paths: list[Path], decode: Callable[[Path], UInt8[Tensor, "channels height width"]]):
        self.paths, self.decode = paths, decode

    def __call__(self, rows: Labels) -> RawImages:
        """Decode the files of `rows`.

        Raises:
            CorruptImage: a file cannot be decoded.
        """
        return torch.stack([self.decode(self.paths[row]) for row in rows.tolist()])

    def digest(self, row: int) -> bytes:
        """Of the file of one image: the same for exact copies alone."""
        return blake2b(self.paths[row].read_bytes(), digest_size=16).digest()


Reader = MemoryReader | FileReader
"""Fetches images by row. `streamed` ones read files, and gain from running in loader workers."""


class ImageSet(Dataset[Batch]):
    """One split: images, classes and names.

    Args:
        reader: where the images come from.
        labels: class index of each image, [N].
        names: name of each image: a file path relative to the root, or "train/00012".
        rows: the reader's row of each image, [N]; all rows in order if None.
    """

    def __init__(self, reader: Reader, labels: Labels, names: list[str], rows: Labels | None = None):
        self.reader, self.labels, self.names = reader, labels, names
        self.rows = torch.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        """The images at `indices`, fetched at once."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return Batch(self.reader(self.rows[index]), self.labels[index], index)

    @property
    def streamed(self) -> bool:
        """Whether images are read from files at each access."""
        return self.reader.streamed

    @property
    def bytes(self) -> int:
        """What the images take where they lie in memory."""
        return 0 if isinstance(self.reader, FileReader) else self.reader.images.nbytes

    def move_to(self, device: torch.device) -> None:
        """Hold images that lie in memory on `device`; subsets share them."""
        if isinstance(self.reader, MemoryReader):
            self.reader.images = self.reader.images.to(device)

    @property
    def identity(self) -> dict[str, Any]:
        """How many images there are, and a digest of their names in their order."""
        names = "\0".join(self.names).encode(errors="surrogateescape")
        return {"count": len(self), "names": blake2b(names, digest_size=16).hexdigest()}

    def first_copies(self) -> Labels:
        """For each image the index of the first one that is exactly like it, often its own, [N]."""
        first: dict[bytes, int] = {}
        with ThreadPoolExecutor() as pool:
            digests = pool.map(self.reader.digest, self.rows.tolist())
            copies = [first.setdefault(digest, index) for index, digest in enumerate(digests)]
        return torch.tensor(copies, dtype=torch.int64)

    def subset(self, indices: Sequence[int] | Labels) -> "ImageSet":
        """The images at `indices`, as a set of its own; pixels are shared, not copied."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        names = [self.names[i] for i in index.tolist()]
        return ImageSet(self.reader, self.labels[index], names, self.rows[index])

    def evenly(self, limit: int | None) -> "ImageSet":
        """At most `limit` of the images, evenly spread: sorted classes stay in proportion; None: all."""
        if limit is None or len(self) <= limit:
            return self
        return self.subset(torch.arange(limit) * len(self) // limit)

    def drawn(self, limit: int | None, seed: int) -> "ImageSet":
        """At most `limit` of the images, drawn, in their order; a larger limit adds to them; None: all."""
        if limit is None or len(self) <= limit:
            return self
        order = torch.randperm(len(self), generator=make_rng("cpu", seed, "train_limit"))
        return self.subset(order[:limit].sort().values)


def in_memory(images: RawImages, labels: Labels, split: str, rows: Labels) -> ImageSet:
    """An ImageSet held in memory whose images are named by split and row of their source: "train/00012"."""
    return ImageSet(MemoryReader(images), labels, [f"{split}/{row:05d}" for row in rows.tolist()])
