"""Fashion-MNIST (Xiao et al., 2017): grey 28x28 images of clothes."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch.nn.functional import pad

from anomaly_gan.data.downloads import one_at_a_time
from anomaly_gan.data.image_set import ImageSet, in_memory
from anomaly_gan.data.module import OneClassData
from anomaly_gan.errors import UserError

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Images and labels of each split; each may be there gzipped (.gz)."""


class FashionMNIST(OneClassData):
    """60,000 + 10,000 images of 10 classes, padded with black to 32x32.

    Args:
        root: folder that holds FashionMNIST/raw (torchvision's layout), or the files themselves.
        download: fetch missing files with torchvision.
        **shared: see OneClassData.
    """

    name = "fashion_mnist"
    image_size = 32
    channels = 1
    resize = "pad"
    class_names = (
        "t_shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle_boot",
    )

    def __init__(self, *, root: str | Path, download: bool = False, **shared: Any):
        super().__init__(**shared)
        self.root = Path(root).expanduser()
        self.download = download

    def prepare_data(self) -> None:
        """Download, if that is asked for and needed."""
        if not self.download:
            return
        try:
            with one_at_a_time(self.root, "FashionMNIST"):  # others see no half of a file
                if not all(self._find(name) for names in FILES.values() for name in names):
                    torchvision.datasets.FashionMNIST(self.root, download=True)
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"Fashion-MNIST cannot be downloaded to {self.root} ({reason})") from error

    def discover(self) -> None:
        """Download here too, for a user without a Trainer."""
        self.prepare_data()

    def load_train(self, normal_index: int) -> ImageSet:
        """The training images of one class."""
        garments = self._load("train")
        return garments.subset((garments.labels == normal_index).nonzero()[:, 0])

    def load_test(self) -> ImageSet:
        """The test images of all classes."""
        return self._load("test")

    def _load(self, split: str) -> ImageSet:
        images, labels = (torch.from_numpy(self._read(name)) for name in FILES[split])
        margin = (self.image_size - images.shape[-1]) // 2
        padded = pad(images[:, None], (margin,) * 4)  # [N, 1, 28, 28] -> [N, 1, 32, 32]
        return in_memory(padded, labels.long(), split, torch.arange(len(labels)))

    def _find(self, name: str) -> Path | None:
        folders = (self.root / "FashionMNIST" / "raw", self.root)
        candidates = (folder / file for folder in folders for file in (name, f"{name}.gz"))
        return next((path for path in candidates if path.is_file()), None)

    def _read(self, name: str) -> np.ndarray:
        path = self._find(name)
        if path is None:
            missing = [f"{name}[.gz]" for names in FILES.values() for name in names if not self._find(name)]
            raise UserError(
                f"Fashion-MNIST lacks {', '.join(missing)} in {self.root}/FashionMNIST/raw (or {self.root}): "
                "fetch them with data.download=true, or install Debian's dataset-fashion-mnist and set "
                "data.root to its files"
            )
        try:
            return read_idx(path)
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise UserError(
                f"{path} is damaged ({error}): remove it and fetch it again with data.download=true"
            ) from error


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes, gzipped or not (LeCun's MNIST page; dimensions are big-endian).

    Raises:
        ValueError: its size does not fit its header.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError("not an IDX file of bytes")
    end = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:end], ">i4")
    values = np.frombuffer(content, np.uint8, offset=end)
    return values.reshape(shape).copy()
