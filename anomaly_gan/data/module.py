"""A data set as a one-class problem."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from anomaly_gan.data.decode import to_tensor
from anomaly_gan.data.image_set import Batch, ImageSet
from anomaly_gan.data.sampling import IterationBatches
from anomaly_gan.data.split import check_fractions, class_index, hold_out
from anomaly_gan.errors import UserError
from anomaly_gan.sharding import Shard
from anomaly_gan.types import Labels

LARGEST_BATCH = 2**30
"""Bytes of a batch of images that are looked at, as floats, whatever their number."""


class OneClassData(LightningDataModule, ABC):
    """One class is normal: its training images are learned from, all classes are tested on.

    A subclass sets `name`, `image_size`, `channels`, `class_names` (and `resize`, unless images are to be
    stretched), as class attributes or in `discover`, and loads the two splits.

    Every loader yields `Batch`es of uint8 images, by one mechanism whether these lie in memory, on a device
    or in files. Under several processes the Trainer must leave the loaders alone
    (`use_distributed_sampler=False`): the training loader gives each process its shard of every batch, the
    others give it the batches that it asks for.

    Args:
        normal_class: name of the normal class, else its index.
        batch_size: training images per iteration, over all processes together; all of them where there are
            fewer.
        total_images: training images of the whole run, repeats counted; None: as `passes` says.
        passes: how often each normal image is seen, on average, where `total_images` is None.
        calibration_fraction: part of the normal training images that is held out for thresholds, in [0, 1).
        validation_fraction: another part, held out for `validation.validate`, in [0, 1).
        evaluation_batch_size: images per batch of every other loader; fewer of very large ones.
        workers: loader processes for images that are read from files; those in memory need none.
        seed: of the held-out part and of the batches.
        limit: use at most this many images of each split, evenly spread over it, for a try-out; None: all.
        train_limit: learn from at most this many of the normal images that are not held out, drawn by the
            seed; a larger number adds to a smaller one's images; None: all.
        name: label of results, if not the data set's own.

    Attributes:
        name: label of results.
        image_size: side of the square images, pixels.
        channels: 1 or 3.
        class_names: one per class index.
        resize, bits: how other images become that size, and 8 bits deep; see `decode.to_tensor`.
        total_images: training images of the whole run (after `setup`, as all that follow).
        normal_index: index of the normal class.
        train: normal images to learn from.
        calibration: normal images held out for thresholds; may be empty.
        validation: normal images held out to choose by; may be empty.
        test: images of all classes, or None.
        skipped: names of files left out because they cannot be read.
        notes: what a person should know of the images.
        start_iteration: first iteration of `train_dataloader`, for a run that resumes.
    """

    name: str
    image_size: int
    channels: int
    class_names: tuple[str, ...]
    resize: str = "stretch"
    bits: int = 16
    normal_index: int
    total_images: int
    train: ImageSet
    calibration: ImageSet
    validation: ImageSet
    test: ImageSet | None

    def __init__(
        self,
        *,
        normal_class: int | str,
        batch_size: int,
        total_images: int | None,
        passes: float | int | None = None,
        calibration_fraction: float | int = 0.1,
        validation_fraction: float | int = 0.0,
        evaluation_batch_size: int = 512,
        workers: int = 0,
        seed: int = 0,
        limit: int | None = None,
        train_limit: int | None = None,
        name: str | None = None,
    ):
        super().__init__()
        if name is not None:
            self.name = name
        self.normal_class = normal_class
        self.batch_size = batch_size
        self._asked_images, self.passes = total_images, passes
        self.calibration_fraction, self.validation_fraction = calibration_fraction, validation_fraction
        self.evaluation_batch_size = evaluation_batch_size
        self.workers = workers
        self.seed = seed
        self.limit, self.train_limit = limit, train_limit
        self.start_iteration = 0
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self._is_set_up = False

    @abstractmethod
    def load_train(self, normal_index: int) -> ImageSet:
        """The training images of one class, before any is held out."""

    @abstractmethod
    def load_test(self) -> ImageSet | None:
        """The test images of all classes; labels are class indices. None if there is no test split."""

    def discover(self) -> None:
        """Set those attributes that only the files tell. A hook, called before anything is loaded."""

    def preview(self) -> list[str]:
        """What a person should see of the data before anything is loaded, in lines. A hook.

        Raises:
            UserError: the files cannot be used.
        """
        return []

    def setup(self, stage: str | None = None) -> None:
        """Load everything; a second call does nothing.

        Raises:
            UserError: an argument or the files cannot be used.
        """
        if self._is_set_up:
            return
        self._check_numbers()
        self.discover()
        self.normal_index = class_index(self.normal_class, self.class_names, self.name)
        self.normal_class = self.class_names[self.normal_index]
        inliers = self.load_train(self.normal_index).evenly(self.limit)
        learned, self.calibration, self.validation = self._hold_out(inliers)
        self.train = learned.drawn(self.train_limit, self.seed)
        if self.batch_size > len(self.train):
            self.batch_size = len(self.train)
            self.notes.append(f"batch_size={self.batch_size}: by rule, there are no more training images")
        self.total_images = self._asked_images or math.ceil((self.passes or 0) * len(self.train))
        test = self.load_test()
        self.test = test.evenly(self.limit) if test is not None and len(test) else None
        self._is_set_up = True

    def _check_numbers(self) -> None:
        check_fractions(self.calibration_fraction, self.validation_fraction)
        if not 0 <= self.seed < 2**32:  # what numpy takes
            raise UserError(f"seed={self.seed} must be at least 0 and below {2**32}")
        if self.workers < 0:
            raise UserError(f"data.workers={self.workers} must be at least 0")
        for key, value in (
            ("batch_size", self.batch_size),
            ("total_images", self._asked_images),
            ("evaluation_batch_size", self.evaluation_batch_size),
        ):
            if value is not None and value < 1:
                raise UserError(f"{key}={value} must be at least 1")
        if self._asked_images is None and (self.passes is None or not 0 < self.passes < math.inf):
            raise UserError(f"schedule.passes={self.passes}: give a number above 0, or schedule.total_images")
        for key, value in (("limit", self.limit), ("train_limit", self.train_limit)):
            if value is not None and value < 2:
                raise UserError(f"data.{key}={value} must be at least 2, or null for all images")

    def _hold_out(self, inliers: ImageSet) -> tuple[ImageSet, ImageSet, ImageSet]:
        """Training, calibration and validation images, each in their natural order."""
        count = len(inliers)
        if count < 2:
            raise UserError(
                f"class {self.normal_class} of {self.name} has {count} training image(s), 2 are needed: "
                "add images or choose another normal_class"
            )
        if self.calibration_fraction == self.validation_fraction == 0:
            return inliers, inliers.subset([]), inliers.subset([])
        first = inliers.first_copies()
        group = self.held_together(inliers, first)
        split = hold_out(first, group, self.calibration_fraction, self.validation_fraction, self.seed)
        if split.copies:
            self.notes.append(
                f"{split.copies} of {count} normal images are exact copies of others; "
                f"{split.left_out} of them, copies of held-out images, are left out"
            )
        if count > 2 and len(group.unique()) == 1 < len(first.unique()):
            raise UserError(
                f"data.group: all {count} normal images are of one object, so none can be held out: give a "
                "part of the path that differs between objects, or null"
            )
        if self.validation_fraction and len(split.validating) < 2:
            raise UserError(
                f"data.validation_fraction={self.validation_fraction}: {len(split.validating)} of {count} "
                "normal images, 2 are needed: hold a larger part out, or 0 for none"
            )
        objects = len(group[split.calibrating].unique())
        if objects < len(split.calibrating):
            share = len(split.calibrating) / len(first.unique())
            self.notes.append(
                f"{len(split.calibrating)} held-out images ({share:.0%} of all, data.calibration_fraction="
                f"{self.calibration_fraction:g}) are of {objects} objects: where objects differ by "
                f"more than images of one, rely on no rate of false alarms below 1 in {objects + 1}"
            )
        trained_on = inliers.subset(split.trained_on)
        return trained_on, inliers.subset(split.calibrating), inliers.subset(split.validating)

    def held_together(self, images: ImageSet, first: Labels) -> Labels:
        """For each image the index of one that must lie on the same side of the threshold, [N]. A hook.

        Args:
            images: normal ones.
            first: for each of them the first that is exactly like it.
        """
        return first

    @property
    def iterations(self) -> int:
        """Length of the run, in batches."""
        return -(-self.total_images // self.batch_size)

    def train_dataloader(self) -> DataLoader[Batch]:
        """The batches of the run from `start_iteration` on; under a Trainer, this process's shard of each.

        Raises:
            UserError: a batch has fewer images than there are processes.
        """
        process, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        self.check_processes(processes)
        batches = IterationBatches(
            len(self.train),
            self.batch_size,
            self.iterations,
            self.seed,
            start=self.start_iteration,
            process=process,
            processes=processes,
        )
        return self._loader(self.train, batches)

    def check_processes(self, processes: int) -> None:
        """Raises UserError where a batch, or what is scored, cannot be shared between so many processes."""
        if self.batch_size < processes:
            raise UserError(
                f"batch_size={self.batch_size} cannot be shared between {processes} processes: "
                f"set batch_size to {processes} or more, or trainer.devices to {self.batch_size} or less"
            )
        if self._is_set_up:
            for images in (self.calibration, self.test or self.train):
                _check_shared(images, processes)

    def bank_loader(self, process: int = 0, processes: int = 1) -> DataLoader[Batch]:
        """The training images in order, each once; of several processes, one's part of them."""
        return self._in_order(self.train, process, processes)

    def calibration_loader(self, process: int = 0, processes: int = 1) -> DataLoader[Batch]:
        """The calibration images in order, if there are any; of several processes, one's part of them."""
        return self._in_order(self.calibration, process, processes)

    def validation_loader(self) -> DataLoader[Batch]:
        """The validation images in order, if there are any."""
        return self._in_order(self.validation)

    def test_loader(self, process: int = 0, processes: int = 1) -> DataLoader[Batch]:
        """The test images in order; of several processes, one's part of them.

        Raises:
            UserError: there is no test split, or it has fewer images than there are processes.
        """
        if self.test is None:
            raise UserError(f"{self.name} has no test images; add a test split to evaluate on")
        return self._in_order(self.test, process, processes)

    def _in_order(self, images: ImageSet, process: int = 0, processes: int = 1) -> DataLoader[Batch]:
        _check_shared(images, processes)
        # Whole batches for each process; smaller ones where there would be too few: each image is seen once.
        fit_in = LARGEST_BATCH // (4 * self.channels * self.image_size**2)
        size = max(1, min(self.evaluation_batch_size, len(images) // processes, fit_in))
        batches = list(BatchSampler(range(len(images)), size, drop_last=False))
        shard = Shard(len(batches), process, processes)
        return self._loader(images, batches[shard.first : shard.first + shard.rows])

    def _loader(self, images: ImageSet, batches: Iterable[list[int]]) -> DataLoader[Batch]:
        # To the loader a batch is one item; workers need not persist, for it is passed through once.
        workers = self.workers if images.streamed else 0
        return DataLoader(images, batch_size=None, sampler=batches, num_workers=workers)

    def state_dict(self) -> dict[str, Any]:
        """Which images are trained on and held out, for the checkpoints of a training."""
        return {part: getattr(self, part).identity for part in ("train", "calibration", "validation")}

    def check_same_images(self, checkpoint: Mapping[str, Any], source: str, remedy: str) -> None:
        """Raises UserError where a training's checkpoint, called `source`, is of images of other names."""
        for part, before in checkpoint.get(type(self).__qualname__, {}).items():
            now = getattr(self, part).identity
            if before != now:
                raise UserError(
                    f"{source}: its {before['count']} images of {part} were not these {now['count']}; give "
                    f"the same images, or {remedy}"
                )

    def mask(self, name: str) -> Bool[Tensor, "height width"] | None:
        """Where in the test image `name` a defect is; None where nobody says so."""
        return None

    def can_be_normal(self) -> list[str]:
        """The classes that have training images, after `discover`; of a benchmark all."""
        return list(self.class_names)

    def move_to(self, device: torch.device) -> None:
        """Keep images that lie in memory on a GPU, where they take at most half of what is free there."""
        if device.type != "cuda":
            return
        sets = [images for images in (self.train, self.test) if images is not None and not images.streamed]
        if sum(images.bytes for images in sets) <= torch.cuda.mem_get_info(device)[0] // 2:
            for images in sets:
                images.move_to(device)

    def to_raw(self, image: Image.Image) -> UInt8[Tensor, "channels height width"]:
        """A PIL image of any mode and size as the images of this data set are: uint8 [C, H, W]."""
        return to_tensor(image, self.image_size, self.channels, self.resize, self.bits)

    def describe(self) -> dict[str, Any]:
        """What this data set is, in plain values, for results and checkpoints; after `setup`."""
        tested = 0 if self.test is None else len(self.test)
        normal = 0 if self.test is None else int((self.test.labels == self.normal_index).sum())
        return {
            "dataset": self.name,
            "normal_class": self.normal_class,
            "class_names": list(self.class_names),
            "image_size": self.image_size,
            "channels": self.channels,
            "resize": self.resize,
            "bits": self.bits,
            "iterations": self.iterations,
            "counts": {
                "train": len(self.train),
                "calibration": len(self.calibration),
                "validation": len(self.validation),
                "test": tested,
                "test_normal": normal,
                "test_anomalous": tested - normal,
                "skipped": len(self.skipped),
            },
        }


def _check_shared(images: ImageSet, processes: int) -> None:
    if 0 < len(images) < processes > 1:
        raise UserError(f"{processes} processes for {len(images)} images: choose fewer trainer.devices")
