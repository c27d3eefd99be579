"""anomaly-gan evaluate."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan import checkpoint, runs
from anomaly_gan.allocator import keep_memory
from anomaly_gan.config import build_a
from anomaly_gan.data.module import OneClassData
from anomaly_gan.data.split import class_index
from anomaly_gan.device import choose
from anomaly_gan.errors import UserError
from anomaly_gan.metrics.generator import feature_network
from anomaly_gan.precision import keep_float32
from anomaly_gan.reporting.report import write_page
from anomaly_gan.scoring.calibration import check_rate


def main(config: DictConfig, folder: Path) -> int:
    """Evaluate as `config` (conf/evaluate.yaml) says, into `folder`."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    keep_memory()
    file = checkpoint.read(plain["checkpoint"])
    _same_class(plain["normal_class"], file)
    data_config = _data_config(plain, file)
    asked = plain["threshold"]["false_positive_rate"]
    rate = file.false_positive_rate if asked is None else check_rate(asked)
    data = build_a(OneClassData, data_config, "data", ("data",))
    data.setup()
    _same_data(data, file)
    trained_with = file.config | {"data": data_config, "threshold": {"false_positive_rate": rate}}
    if plain["primary"] is not None:
        trained_with = trained_with | {"scoring": _ranked_by(plain["primary"], file)}
    scorer = replace(file, config=trained_with).build()
    if asked is not None:
        file.threshold(scorer.primary, rate)  # what cannot be promised is refused
    scorer.to(choose(plain["device"]))
    keep_float32()
    network = feature_network(**plain["generator_metrics"]) if scorer.generates else None
    folder.mkdir(parents=True, exist_ok=True)
    result = runs.finish(
        runs.Run(folder, scorer, data, trained_with),
        runs.Training(iterations=file.data["iterations"]),
        fitted=runs.Fitted(file.calibration, normal=file.normal),
        feature_network=network,
    )
    assert result is not None  # there is one process
    write_page(folder)
    print(runs.summary(result, Path(os.path.relpath(folder))))
    return 0


def _ranked_by(primary: Any, file: checkpoint.Checkpoint) -> dict[str, Any]:
    """The file's settings of scoring, with another score that ranks."""
    scoring: dict[str, Any] = file.config["scoring"]
    if "primary" not in scoring:
        raise UserError(f"primary={primary}: {file.method} has one score alone; leave primary out")
    return scoring | {"primary": primary}


def _data_config(plain: dict[str, Any], file: checkpoint.Checkpoint) -> dict[str, Any]:
    """The data set asked for, else the one the detector was trained on, with its normal class."""
    if "data" not in plain:
        return file.config["data"]
    of_training = ("calibration_fraction", "validation_fraction", "seed", "limit", "train_limit")
    older = {"validation_fraction": 0, "train_limit": None}  # what files lack from before these could be set
    same = {key: file.config["data"].get(key, older.get(key)) for key in of_training}
    for by_rule in ("image_size", "channels"):
        if plain["data"].get(by_rule, "its own") is None:
            same[by_rule] = file.data[by_rule]
    return plain["data"] | same | {"normal_class": file.data["normal_class"]}


def _same_class(normal_class: Any, file: checkpoint.Checkpoint) -> None:
    """Refuse another normal class than the one that the detector has learned."""
    learned, names = file.data["normal_class"], tuple(file.data["class_names"])
    if normal_class is not None and names[class_index(normal_class, names, file.data["dataset"])] != learned:
        raise UserError(
            f"normal_class={normal_class}: checkpoint={file.path} was trained with normal_class {learned!r}; "
            "leave normal_class out, or train anew"
        )


def _same_data(data: OneClassData, file: checkpoint.Checkpoint) -> None:
    """Refuse data that the detector was not trained on: its figures would mean nothing."""
    now = data.describe()
    learned = {"bits": 16} | file.data  # which were not kept when they could not be chosen
    for key in ("dataset", "normal_class", "class_names", "image_size", "channels", "resize", "bits"):
        if now[key] != learned[key]:
            raise UserError(
                f"checkpoint={file.path}: trained with {key} {learned[key]!r}, but the data has "
                f"{now[key]!r}; choose the data it was trained on, or train anew"
            )
