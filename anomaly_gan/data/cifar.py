"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in torchvision's layout: 32x32 RGB, 50,000 + 10,000 images."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
import torchvision

from anomaly_gan.data.downloads import one_at_a_time
from anomaly_gan.data.image_set import ImageSet, in_memory
from anomaly_gan.data.module import OneClassData
from anomaly_gan.errors import UserError, nearest
from anomaly_gan.types import Labels


class CIFAR10(OneClassData):
    """Ten classes.

    Args:
        root: folder that holds (or will hold) torchvision's cifar-10-batches-py.
        download: fetch missing files with torchvision.
        **shared: see OneClassData.
    """

    name = "cifar10"
    image_size = 32
    channels = 3
    class_names: tuple[str, ...] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    source: ClassVar[type[torchvision.datasets.CIFAR10]] = torchvision.datasets.CIFAR10

    def __init__(self, *, root: str | Path, download: bool = False, **shared: Any):
        super().__init__(**shared)
        self.root = Path(root).expanduser()
        self.download = download

    def prepare_data(self) -> None:
        """Download, if that is asked for."""
        if self.download and not self._is_set_up:
            self._open("train")

    def load_train(self, normal_index: int) -> ImageSet:
        """The training images of one class."""
        return self._load("train", normal_index)

    def load_test(self) -> ImageSet:
        """The test images of all classes."""
        return self._load("test", None)

    def _load(self, split: str, wanted: int | None) -> ImageSet:
        source = self._open(split)
        labels = self._labels(source)
        rows = torch.arange(len(labels)) if wanted is None else (labels == wanted).nonzero()[:, 0]
        images = torch.from_numpy(source.data)[rows].permute(0, 3, 1, 2).contiguous()  # from [N, H, W, C]
        return in_memory(images, labels[rows], split, rows)

    def _labels(self, source: torchvision.datasets.CIFAR10) -> Labels:
        """Class index of each image."""
        return torch.tensor(source.targets, dtype=torch.int64)

    def _open(self, split: str) -> torchvision.datasets.CIFAR10:
        one = one_at_a_time(self.root, self.source.base_folder) if self.download else nullcontext()
        try:
            with one:
                return self.source(self.root, train=split == "train", download=self.download)
        except (RuntimeError, OSError) as error:
            files = [file for file, _ in (*self.source.train_list, *self.source.test_list)]
            expected = ", ".join([*files, str(self.source.meta["filename"])])
            reason = " ".join(str(error).split()) if self.download else "missing or damaged"
            remedy = "check the network" if self.download else "fetch them with data.download=true"
            raise UserError(
                f"{self.name} needs {expected} in {self.root / self.source.base_folder} ({reason}): {remedy}"
                f"{self.alternative}"
            ) from error

    alternative: ClassVar[str] = ", or use data=cifar10_jpeg, the same images as JPEG files"
    """What else can be done where the files are missing."""


class CIFAR100(CIFAR10):
    """Twenty superclasses of five classes each.

    Args:
        superclass_map: "coarse", the files' own superclasses; or "csi", those of CSI's released code, which a
            misplaced class shifts by one in 13 of the 20 and on which published figures probably stand.
            Results on it are labelled cifar100-csi where no other name is given.
        **shared: see CIFAR10.
    """

    name = "cifar100"
    class_names = (
        "aquatic_mammals",
        "fish",
        "flowers",
        "food_containers",
        "fruit_and_vegetables",
        "household_electrical_devices",
        "household_furniture",
        "insects",
        "large_carnivores",
        "large_man-made_outdoor_things",
        "large_natural_outdoor_scenes",
        "large_omnivores_and_herbivores",
        "medium_mammals",
        "non-insect_invertebrates",
        "people",
        "reptiles",
        "small_mammals",
        "trees",
        "vehicles_1",
        "vehicles_2",
    )
    source = torchvision.datasets.CIFAR100
    alternative = ""

    def __init__(self, *, superclass_map: str = "coarse", **shared: Any):
        super().__init__(**shared)
        self.superclass_map = superclass_map
        if superclass_map != "coarse" and self.name == CIFAR100.name:
            self.name = f"{self.name}-{superclass_map}"

    def discover(self) -> None:
        """Check the name of the map."""
        if self.superclass_map not in SUPERCLASSES:
            raise UserError(
                f"unknown data.superclass_map={self.superclass_map}: "
                f"{nearest(self.superclass_map, tuple(SUPERCLASSES))}"
            )

    def _labels(self, source: torchvision.datasets.CIFAR10) -> Labels:
        superclass_of = torch.empty(100, dtype=torch.int64)
        for index, fine in enumerate(SUPERCLASSES[self.superclass_map]):
            superclass_of[list(fine)] = index
        return superclass_of[super()._labels(source)]


COARSE = (
    (4, 30, 55, 72, 95),
    (1, 32, 67, 73, 91),
    (54, 62, 70, 82, 92),
    (9, 10, 16, 28, 61),
    (0, 51, 53, 57, 83),
    (22, 39, 40, 86, 87),
    (5, 20, 25, 84, 94),
    (6, 7, 14, 18, 24),
    (3, 42, 43, 88, 97),
    (12, 17, 37, 68, 76),
    (23, 33, 49, 60, 71),
    (15, 19, 21, 31, 38),
    (34, 63, 64, 66, 75),
    (26, 45, 77, 79, 99),
    (2, 11, 35, 46, 98),
    (27, 29, 44, 78, 93),
    (36, 50, 65, 74, 80),
    (47, 52, 56, 59, 96),
    (8, 13, 48, 58, 90),
    (41, 69, 81, 85, 89),
)
"""Classes (indices in torchvision's alphabetical order) of each superclass."""


def _as_csi(fine: int) -> int:
    """CSI's list has keyboard (39) at 25, and so 25..38 one place late."""
    if fine == 39:
        return 25
    return fine + 1 if 25 <= fine <= 38 else fine


SUPERCLASSES = {"coarse": COARSE, "csi": tuple(tuple(map(_as_csi, fine)) for fine in COARSE)}
"""Name of a map -> its superclasses."""
