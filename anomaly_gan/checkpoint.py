"""A trained detector in one file: its scorer's tensors, and the configuration that rebuilds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anomaly_gan import before, released
from anomaly_gan.build import build_scorer
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.errors import UserError
from anomaly_gan.safe_load import safe_load, safe_save
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Calibration, Threshold, check_rate

NO_CALIBRATION = (
    "no calibration: no normal images were held out; train anew with data.calibration_fraction=0.1"
)

FORMAT = "anomaly_gan detector 2"
FORMAT_BEFORE = "anomaly_gan detector 1"

CONTENT: dict[str, dict[str, type]] = {
    "config": {"data": dict, "method": dict, "scoring": dict, "seed": int},
    "data": {
        "dataset": str,
        "normal_class": str,
        "class_names": list,
        "image_size": int,
        "channels": int,
        "resize": str,
        "iterations": int,
    },
    "state_dict": {},
}
"""What a detector file has beside its format, and of which kind."""


@dataclass(frozen=True)
class Checkpoint:
    """What a detector file says, before anything is built from it."""

    path: Path
    config: dict[str, Any]
    """The resolved configuration of the run that wrote it."""
    data: dict[str, Any]
    """`OneClassData.describe()`: dataset, normal class, image size, channels."""
    state_dict: dict[str, torch.Tensor]
    calibration: Calibration | None = None
    """Scores of the normal images that were held out; None where none were, or in a file from before."""
    normal: NormalImages | None = None
    """The images it learned from, to be shown; None in a file from before."""

    @property
    def method(self) -> str:
        """The name of the method that it was trained by."""
        return str(self.config["method"].get("name"))

    def build(self) -> Scorer:
        """The scorer, on the CPU, in evaluation mode, ready to score.

        Raises:
            UserError: the weights do not fit the configuration.
        """
        scorer = build_scorer(self.config, self.data)
        try:
            scorer.load_state_dict(self.state_dict)
        except RuntimeError as mismatch:
            raise UserError(
                f"{self.path}: its weights do not fit its configuration: damaged, or of another version"
            ) from mismatch
        return scorer.eval()

    @property
    def false_positive_rate(self) -> float:
        """What the run that wrote it asked for."""
        return check_rate(self.config.get("threshold", {}).get("false_positive_rate", 0.01))

    def threshold(self, score: str, rate: float | None) -> Threshold | None:
        """The threshold of `score` for a false positive rate.

        Args:
            score: its name.
            rate: None for the run's own, or the smallest that can be promised where that one cannot be; then
                there is no threshold where no images were held out.

        Raises:
            UserError: `rate` cannot be promised, or no images were held out.
        """
        if self.calibration is None:
            if rate is None:
                return None
            raise UserError(f"threshold.false_positive_rate={rate:g}: {self.path} has {NO_CALIBRATION}")
        if rate is None:
            return self.calibration.threshold(score, self.calibration.possible_rate(self.false_positive_rate))
        return self.calibration.threshold(score, check_rate(rate))


def save(
    path: Path,
    scorer: Scorer,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    calibration: Calibration | None,
    normal: NormalImages,
) -> None:
    """Write a detector file at `path`, whole or not at all; `config` and `data` are plain containers."""
    held_out = calibration or Calibration({})
    content = {
        "format": FORMAT,
        "config": dict(config),
        "data": dict(data),
        "state_dict": {name: value.detach().cpu() for name, value in scorer.state_dict().items()},
        "calibration": {name: torch.from_numpy(scores) for name, scores in held_out.scores.items()},
        "raised_by": dict(held_out.raised_by),
        "normal": {"names": normal.names, "thumbnails": normal.thumbnails},
    }
    safe_save(path, content)


def read(path: str | Path) -> Checkpoint:
    """Read a detector file, the one in a run's folder, or the one of a name (`released`).

    Nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it is something else.
    """
    if not str(path):
        raise UserError("checkpoint= is empty: give a run's folder or its detector.ckpt")
    given, path = str(path), Path(str(path)).expanduser()
    if path.is_dir():
        path = path / "detector.ckpt"
    elif not path.exists():
        path = released.named(given) or path
    if not path.is_file():
        raise UserError(
            f"checkpoint={path}: no such file; give a run's folder or its detector.ckpt"
            f"{released.where_names_are_sought(given)}"
        )
    content = safe_load(
        path, f"checkpoint={path}: damaged, or not a checkpoint at all; give a run's detector.ckpt"
    )
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, FORMAT_BEFORE):
        raise UserError(f"checkpoint={path}: not a detector of this package; give a run's detector.ckpt")
    if content["format"] == FORMAT_BEFORE:
        try:
            content = _today(content)
        except (AttributeError, LookupError, TypeError, ValueError) as other:
            raise UserError(f"checkpoint={path}: damaged; give another detector.ckpt") from other
    lacking = _lacking(content)
    if lacking:
        raise UserError(f"checkpoint={path}: damaged: {lacking} is missing; give another detector.ckpt")
    held_out = content.get("calibration")  # absent in files from before it was kept
    scores = {name: values.numpy() for name, values in (held_out or {}).items()}
    calibration = Calibration.of(scores, content.get("raised_by")) if scores else None
    normal = NormalImages(**content["normal"]) if "normal" in content else None
    return Checkpoint(path, content["config"], content["data"], content["state_dict"], calibration, normal)


def _today(content: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier version wrote, in today's form; parts that are damaged stay as they are."""
    config, state_dict = content.get("config"), content.get("state_dict")
    translated = dict(content)
    if isinstance(config, dict) and isinstance(config.get("method"), dict):
        translated["config"] = before.today(config)
    if isinstance(state_dict, dict):
        translated["state_dict"] = before.state_today(state_dict)
    return translated


def _lacking(content: Mapping[str, Any]) -> str | None:
    """Which part of a detector file is not there, or is of another kind than `save` writes."""
    for part, kinds in CONTENT.items():
        if not isinstance(content.get(part), dict):
            return part
        for key, kind in kinds.items():
            if not isinstance(content[part].get(key), kind):
                return f"{part}.{key}"
    if not all(isinstance(value, torch.Tensor) for value in content["state_dict"].values()):
        return "a tensor of state_dict"
    held_out = content.get("calibration", {})
    if not isinstance(held_out, dict) or not all(_is_scores(scores) for scores in held_out.values()):
        return "scores of calibration"
    if len({len(scores) for scores in held_out.values()}) > 1:
        return "part of calibration"
    raised_by = content.get("raised_by", {})
    if not isinstance(raised_by, dict) or not all(isinstance(value, float) for value in raised_by.values()):
        return "part of calibration"
    if "normal" in content and not _are_normal_images(content["normal"], content["data"]["channels"]):
        return "part of normal"
    return None


def _are_normal_images(value: Any, channels: int) -> bool:
    """Whether `value` is what `save` keeps of the training images."""
    if not isinstance(value, dict) or value.keys() != {"names", "thumbnails"}:
        return False
    names, thumbnails = value["names"], value["thumbnails"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return False
    if thumbnails is None:
        return True
    if not isinstance(thumbnails, torch.Tensor) or thumbnails.dtype != torch.uint8 or thumbnails.ndim != 4:
        return False
    return thumbnails.shape[:2] == (len(names), channels)


def _is_scores(value: Any) -> bool:
    """Whether `value` is what `save` keeps of a score: numbers in a row."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
        return False
    return value.ndim == 1 and len(value) > 0 and bool(value.isfinite().all())
