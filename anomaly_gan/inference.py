"""A detector in a user's own program: `from anomaly_gan import Detector`."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor

from anomaly_gan import checkpoint
from anomaly_gan.data.decode import CorruptImage
from anomaly_gan.data.inputs import ManyImages, OneImage, Read, is_path, read, read_batches, separate
from anomaly_gan.data.scan import scan
from anomaly_gan.errors import UserError
from anomaly_gan.estimator import Estimator
from anomaly_gan.explanation import Explanation, explain
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.transforms.convert import to_float


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one image."""

    index: int
    """The image's place in the input."""
    path: Path | None
    """Of its file; None where it came as something else."""
    scores: dict[str, float]
    """Every score and part, higher = more anomalous; empty where the file could not be read."""
    score: float | None
    """The one that ranks; None where the file could not be read."""
    p_value: float | None
    """How often a normal image scores as high, in (0, 1]; None without calibration."""
    anomalous: bool | None
    """Whether the score is above the threshold; None without calibration."""
    error: str | None = None
    """Why the file could not be read."""
    adjusted_p_value: float | None = None
    """Of images judged together (`together.judged_together`), in (0, 1]; None where each is judged alone."""
    map: Float[ndarray, "height width"] | None = field(default=None, compare=False, repr=False)
    """The score of each place, at the size that the detector sees; None where it was not asked for."""


class Detector(Estimator):
    """Learns what is normal from images and scores others, in the manner of scikit-learn's outlier detectors.

    Wherever images are asked for, these will do, alone or in any sequence, mixed: paths of files; what a file
    holds, as bytes; PIL images; numpy arrays [H, W], [H, W, C] or [N, H, W, C]; torch tensors [C, H, W] or
    [N, C, H, W]. Arrays and tensors hold uint8, or floats in [0, 1] (rounded to 8 bits); C is 1, 3, or 4 with
    alpha. Every one goes the way of a file: any size and mode becomes the detector's, and the array of a
    file's pixels gets the file's score, to the bit. An iterator may yield the same array or PIL image again
    with other pixels: each is read in the moment it is drawn. Only paths and bytes are read ahead, by
    threads.

    Several threads may use one detector at once, and get what one would. A process that was forked after
    torch had worked with several threads waits forever: start processes by "spawn" or "forkserver", or call
    `torch.set_num_threads(1)` in it first.

    Examples:
        >>> from anomaly_gan import Detector
        >>> detector = Detector.load(run)                # a run's folder, or its detector.ckpt
        >>> detector.score([path, path]).shape           # higher = more anomalous
        (2,)
        >>> detector.predict(path).tolist() in ([1], [-1])   # scikit-learn's: +1 normal, -1 anomalous
        True
        >>> for found in detector.examine([path, "nowhere.png"]):
        ...     print(found.index, found.p_value, found.error)  # doctest: +ELLIPSIS
        0 ... None
        1 None nowhere.png: not a readable image (no such file)
        >>> Detector(method="padim", seed=1, data__calibration_fraction=0.2)   # to be trained, by fit(images)
        Detector(device='cpu', method='padim', seed=1, data__calibration_fraction=0.2)

    Args:
        scorer: trained and fitted; None, as `data`, of a detector that is to be trained by `fit`.
        data: how its images were read (`OneClassData.describe()`).
        threshold: of the primary score; None without calibration.
        normal: the images that it learned from, for explanations.
        device: where it scores; a GPU computes in float32 from then on, not in TF32. Where it
            learns is a setting: `trainer="cpu"`.
        method: what `fit` trains, as `method=` of the command line.
        budget: how much it may take, as `budget=` of the command line: "10min", "fast".
        **settings: further ones of the command line, two underscores for each dot, and `verbose`; see
            `anomaly_gan.train`.

    Attributes:
        result_: what the training found (`RunResult`), of a detector that `fit` has trained; `result_.folder`
            is the folder of its run, from which `load` gets the same detector.
    """

    @property
    def primary(self) -> str:
        """The score that ranks."""
        return self.scorer.primary

    @cached_property
    def score_names(self) -> list[str]:
        """The names of all scores and parts."""
        blank = torch.zeros(1, self.form["channels"], *[self.form["image_size"]] * 2, device=self.device)
        return list(self.scorer.scores(blank))

    @property
    def offset_(self) -> float:
        """scikit-learn's: `decision_function` = `score_samples` - `offset_`; minus the threshold.

        Raises:
            UserError: the detector has no calibration.
        """
        return -self._needed_threshold().value

    def score(self, images: ManyImages, batch_size: int = 256) -> Float[ndarray, " n"]:
        """The anomaly score of each image, [n]: higher = more anomalous.

        Args:
            images: see the class.
            batch_size: images scored at a time.

        Raises:
            UserError: an image cannot be read.
        """
        scores = []
        for batch in self._batches(images, batch_size):
            for _, image in batch:
                if isinstance(image, CorruptImage):
                    raise image
            scores.append(
                self._scores([image for _, image in batch if isinstance(image, Tensor)])[self.primary]
            )
        return np.concatenate(scores) if scores else np.empty(0)

    def score_samples(self, images: ManyImages, batch_size: int = 256) -> Float[ndarray, " n"]:
        """scikit-learn's: minus `score`, so that higher = more normal."""
        return -self.score(images, batch_size)

    def decision_function(self, images: ManyImages, batch_size: int = 256) -> Float[ndarray, " n"]:
        """scikit-learn's: threshold - score; negative = anomalous.

        Raises:
            UserError: an image cannot be read, or the detector has no calibration.
        """
        return self._needed_threshold().value - self.score(images, batch_size)

    def predict(self, images: ManyImages, batch_size: int = 256) -> Int64[ndarray, " n"]:
        """scikit-learn's: +1 for a normal image, -1 for an anomalous one, [n].

        Raises:
            UserError: an image cannot be read, or the detector has no calibration.
        """
        threshold = self._needed_threshold()
        return np.where(threshold.anomalous(self.score(images, batch_size)), -1, 1)

    def fit_predict(self, images: ManyImages, y: object = None) -> Int64[ndarray, " n"]:
        """scikit-learn's: `fit`, then `predict` of the same images; an iterator must be a list for that.

        Of a folder, those are all images in it, in the order of their names. Nothing is promised of these:
        most of them were learned from.
        """
        root = Path(images).expanduser() if is_path(images) else None
        if root is None or not root.is_dir():
            return self.fit(images).predict(images)
        names = scan(root).images
        return self.fit(images).predict([root / name for name in names])

    def examine(self, images: ManyImages, batch_size: int = 256, maps: bool = False) -> Iterator[Prediction]:
        """All that can be said of each image, in order, as it is known; a file that cannot be read says so
        itself.

        Files are read ahead by threads, a few batches at most: any number of images takes the same memory.
        What an iterator raises comes after the predictions of all that it yielded before.

        Args:
            images: see the class; an iterator is drawn from as images are needed.
            batch_size: images scored at a time.
            maps: whether predictions have a map, too; scoring then takes twice as long.

        Raises:
            UserError: something other than a file cannot be taken for an image; or maps are asked for of a
                method that looks at whole images.
        """
        if maps and not self.scorer.scores_places:
            raise UserError("maps=True: this method looks at whole images; explain() says where it looks")
        index = 0
        for batch in self._batches(images, batch_size):
            tensors = [image for _, image in batch if isinstance(image, Tensor)]
            rows = self._examined(tensors)
            shown = self._maps(tensors) if maps else repeat(None)
            for given, image in batch:
                path = Path(given) if is_path(given) else None
                if isinstance(image, CorruptImage):
                    yield Prediction(index, path, {}, None, None, None, str(image))
                else:
                    yield Prediction(index, path, *next(rows), map=next(shown))
                index += 1

    def explain(self, image: OneImage, neighbours: int = 5) -> Explanation:
        """Why one image has its score; costs as much as scoring 81 images, 2 of a method that scores places.

        Examples:
            >>> why = detector.explain(path)
            >>> why.heat.shape == why.picture.shape[:2]   # where the score comes from
            True
            >>> why.neighbours[0].name.startswith("train/")  # the most similar normal training image
            True

        Args:
            image: one of what the class accepts.
            neighbours: how many normal images to name.

        Raises:
            UserError: it cannot be read.
        """
        one, pixels = self._one(image, "explain")
        name = os.fspath(one) if is_path(one) else "image"
        (explanation,) = explain(self.scorer, pixels, [name], self.threshold, self.normal, neighbours)
        return explanation

    def score_map(self, image: OneImage) -> Float[ndarray, "height width"]:
        """The score of each place of one image, at the size that the detector sees; the largest is `score`.

        Raises:
            UserError: the image cannot be read, or the method looks at whole images (explain() is for all).
        """
        _, pixels = self._one(image, "score_map")
        return next(self._maps([*pixels]))

    def _one(self, image: OneImage, asked: str) -> tuple[Any, Tensor]:
        """What was given as a single image, and its pixels, [1, C, H, W]."""
        one, *others = separate(image)
        if others:
            raise UserError(f"{asked} takes one image, not {1 + len(others)}; call it for each")
        return one, read(one, **self.form)[None].to(self.device)

    def _examined(
        self, images: list[Tensor]
    ) -> Iterator[tuple[dict[str, float], float, float | None, bool | None]]:
        """scores, score, p_value and anomalous of each image."""
        if not images:
            return
        scores = self._scores(images)
        primary = scores[self.primary]
        p_values, anomalous = [None] * len(images), [None] * len(images)
        if self.threshold is not None:
            p_values = self.threshold.p_values(primary).tolist()
            anomalous = self.threshold.anomalous(primary).tolist()
        for row in range(len(images)):
            of_row = {name: float(values[row]) for name, values in scores.items()}
            yield of_row, of_row[self.primary], p_values[row], anomalous[row]

    def _batches(self, images: ManyImages, batch_size: int) -> Iterator[list[tuple[Any, Read]]]:
        check_batch_size(batch_size)
        return read_batches(images, batch_size, **self.form)

    def _scores(self, images: list[Tensor]) -> dict[str, Float[ndarray, " n"]]:
        """Every score and part; float64, which holds a float32 exactly."""
        batch = to_float(torch.stack(images).to(self.device))
        return {
            name: values.cpu().numpy().astype(np.float64)
            for name, values in self.scorer.scores(batch).items()
        }

    def _maps(self, images: list[Tensor]) -> Iterator[Float[ndarray, "height width"]]:
        """The score of each place of each image."""
        if images:
            found = self.scorer.maps(to_float(torch.stack(images).to(self.device)))
            yield from found.cpu().numpy().astype(np.float64)

    def _needed_threshold(self) -> Threshold:
        if self.threshold is None:
            raise UserError(
                f"the detector has {checkpoint.NO_CALIBRATION}; score() and examine() work without"
            )
        return self.threshold


def check_batch_size(batch_size: Any) -> int:
    """`batch_size`, where it is one.

    Raises:
        UserError: it is no whole number of at least 1.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"batch_size={batch_size}: expected a whole number of at least 1")
    return batch_size
