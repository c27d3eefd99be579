"""What the steps at the end of a run hand to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly_gan.data.module import OneClassData
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.evaluation import Scored
from anomaly_gan.results import Interval
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Calibration, Threshold, check_rate

DETECTOR_FILE = "detector.ckpt"
FIGURES_FOLDER = "figures"


@dataclass(frozen=True)
class Run:
    """A trained detector, and what its results belong to."""

    folder: Path
    """It exists; everything goes there."""
    scorer: Scorer
    """Trained."""
    data: OneClassData
    """Set up."""
    config: Mapping[str, Any]
    """The run's whole configuration, resolved, in plain containers."""

    @property
    def method(self) -> str:
        """The name of the method."""
        return str(self.config["method"]["name"])

    @property
    def rate_asked(self) -> float:
        """The false positive rate that the configuration asks for, in (0, 1).

        Raises:
            UserError: it is no such number.
        """
        return check_rate(self.config["threshold"]["false_positive_rate"])

    @property
    def pictures(self) -> Path:
        """The folder for pictures."""
        return self.folder / FIGURES_FOLDER

    @property
    def title(self) -> str:
        """The title of a picture: data set and normal class."""
        return f"{self.data.name}, normal: {self.data.class_names[self.data.normal_index]}"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training leaves beside the detector."""

    iterations: int
    """How long the whole training was, in batches."""
    iterations_here: int = 0
    """How many batches "train" in `seconds` stands for: fewer where a run was resumed."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long things took ("train", "curve", "pictures")."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    """AUROCs on the way, as `RunResult.curve`."""
    losses: Sequence[dict[str, int | float]] = ()
    """Of each phase on the way, for the picture of them."""
    notes: Sequence[str] = ()
    """What the training warned of."""


@dataclass(frozen=True)
class Fitted:
    """What a detector has beside its weights when it is ready to score."""

    calibration: Calibration | None = None
    """None where no images were held out."""
    held_out: Scored | None = None
    """The held-out images; None where there are none, and where the calibration comes from a file."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long it took ("fit_scorer", "calibrate")."""
    notes: Sequence[str] = ()
    """What was warned of."""
    normal: NormalImages | None = None
    """What it learned from, of a detector from a file that has it."""


@dataclass(frozen=True)
class Tested:
    """What a detector says of the test images."""

    names: Sequence[str]
    """The names of all scores and parts; they are known without test images, too."""
    scored: Scored | None = None
    """None where there is no test set."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long it took ("score", "raw_pixels")."""


@dataclass(frozen=True)
class Measured:
    """How good a detector is."""

    aurocs: Mapping[str, float | None]
    """By score and part, in [0, 1]; None where they cannot be computed."""
    intervals: Mapping[str, Interval | None]
    """Of each AUROC."""
    generator: dict[str, Any] | None
    """As `RunResult.generator`."""
    validation: dict[str, Any] | None
    """As `RunResult.validation`."""
    localisation: dict[str, Any] | None
    """As `RunResult.localisation`."""
    seconds: Mapping[str, float]
    """How long it took ("generator", "localise")."""


@dataclass(frozen=True)
class Found:
    """All that was found of a detector."""

    fitted: Fitted
    threshold: Threshold | None
    """Of the primary score; None without calibration."""
    tested: Tested
    measured: Measured
    shown: Scored | None
    """The images for pictures: those of the test, else those held out; None where there are neither."""
    unexplained: str | None
    """Why none of these is explained, as a note; None where some are, and where there are none."""
