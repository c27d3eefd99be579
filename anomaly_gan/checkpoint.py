"""A trained detector in one file: weights, bank, and the configuration that rebuilds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anomaly_gan.config import build_a
from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.safe_load import safe_load, safe_save

METHOD_PARTS = ("methods", "networks", "transforms", "optimizers")
"""The parts of the package that a method's configuration may name."""

FORMAT = "anomaly_gan detector 1"

CONTENT: dict[str, dict[str, type]] = {
    "config": {"data": dict, "method": dict, "ablation": dict, "seed": int},
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

    def build(self) -> AnomalyDetector:
        """The detector, on the CPU, in evaluation mode, ready to score.

        Raises:
            UserError: the weights do not fit the configuration.
        """
        detector = build_method(self.config["method"], self.data)
        try:
            detector.load_state_dict(self.state_dict)
        except RuntimeError as mismatch:
            raise UserError(
                f"{self.path}: its weights do not fit its configuration: damaged, or of another version"
            ) from mismatch
        return detector.eval()


def build_method(config: Mapping[str, Any], data: Mapping[str, Any]) -> AnomalyDetector:
    """The untrained method that `config` describes, for the data set described by `data`."""
    return build_a(
        AnomalyDetector,
        config,
        "method",
        METHOD_PARTS,
        image_size=data["image_size"],
        channels=data["channels"],
        total_iterations=data["iterations"],
    )


def save(path: Path, detector: AnomalyDetector, config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Write a detector file at `path`, whole or not at all; `config` and `data` are plain containers."""
    content = {
        "format": FORMAT,
        "config": dict(config),
        "data": dict(data),
        "state_dict": {name: value.detach().cpu() for name, value in detector.state_dict().items()},
    }
    safe_save(path, content)


def read(path: str | Path) -> Checkpoint:
    """Read a detector file, or the one in a run's folder. Nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it is something else.
    """
    path = Path(str(path)).expanduser()
    if path.is_dir():
        path = path / "detector.ckpt"
    if not path.is_file():
        raise UserError(f"checkpoint={path}: no such file; give a run's folder or its detector.ckpt")
    content = safe_load(
        path, f"checkpoint={path}: damaged, or not a checkpoint at all; give a run's detector.ckpt"
    )
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"checkpoint={path}: not a detector of this package; give a run's detector.ckpt")
    lacking = _lacking(content)
    if lacking:
        raise UserError(f"checkpoint={path}: damaged: {lacking} is missing; give another detector.ckpt")
    return Checkpoint(path, content["config"], content["data"], content["state_dict"])


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
    return None
