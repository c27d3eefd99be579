"""anomaly-gan train."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from anomaly_gan import runs
from anomaly_gan.allocator import keep_memory
from anomaly_gan.build import build_method
from anomaly_gan.callbacks.learning_curve import LearningCurve
from anomaly_gan.callbacks.loss_history import LossHistory
from anomaly_gan.cli.installed import program
from anomaly_gan.cli.resume import AUTO, checkpoint_to_resume, how_to_go_on, images_timed_before
from anomaly_gan.cli.sizes import check_minutes, choose_sizes, images_in_time
from anomaly_gan.cli.sweep import sync_command
from anomaly_gan.cli.trainer import fit, make_trainer, speed_up
from anomaly_gan.config import build_a
from anomaly_gan.data.module import OneClassData
from anomaly_gan.device import choose_precision
from anomaly_gan.distributed import leave
from anomaly_gan.durable import remove_partial
from anomaly_gan.errors import UserError
from anomaly_gan.launch import in_processes, started_outside
from anomaly_gan.lifetime import Stopped, alone_in, end_with_parent
from anomaly_gan.loggers import close, log_pictures, log_result
from anomaly_gan.methods.base import Method
from anomaly_gan.metrics.generator import feature_network
from anomaly_gan.own_process import tell_folder
from anomaly_gan.progress import is_first_process
from anomaly_gan.reporting.report import write_page
from anomaly_gan.results import RESULT_FILE, RunResult, write_atomically
from anomaly_gan.scoring.calibration import check_rate


def main(config: DictConfig, folder: Path) -> int:
    """Train as `config` says, into `folder`."""
    end_with_parent()
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []  # a program may call
    choices = choose_sizes(config, given)
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    # Of several processes of one run, the first speaks for all.
    first = is_first_process()
    alone = plain["resume"] == AUTO and first
    with alone_in(folder) if alone else nullcontext():
        if alone:
            remove_partial(folder)
        if first:
            print("".join(f"{line}\n" for line in choices), end="")
        try:
            return _run(plain, folder)
        except Stopped as stopped:
            raise Stopped(stopped.number, how_to_go_on(plain, folder)) from None


def _run(plain: dict[str, Any], folder: Path) -> int:
    if plain["resume"] == AUTO and (folder / RESULT_FILE).exists():
        print("finished before:")
        _conclude(folder)
        return 0
    started_by, processes = started_outside(), 1
    if started_by is not None:
        plain["trainer"] |= dict(zip(("devices", "num_nodes"), started_by, strict=True))
    else:
        processes = make_trainer(plain["trainer"], logger=False).world_size
    check_minutes(plain["schedule"], prod(started_by) if started_by else processes)
    if processes > 1:
        # Before so many are started.
        build_a(OneClassData, plain["data"], "data", ("data",)).check_processes(processes)
        in_processes(train, (plain, folder), processes)
    else:
        result = train(plain, folder)
        leave()
        if result is None:
            return 0  # the first process speaks for all
    where = _conclude(folder)
    name = program()
    print(
        "next:\n"
        f"{sync_command(folder.parent)}"
        f"  {name} predict checkpoint={where} inputs=IMAGE_OR_FOLDER\n"
        f"  {name} evaluate checkpoint={where}\n"
        f"  {name} train data=folder data.root=FOLDER_OF_GOOD_IMAGES budget=10min"
    )
    return 0


def _conclude(folder: Path) -> Path:
    """Write the page of a finished run and say what was found; the folder as it is reached from here."""
    write_page(folder)
    where = Path(os.path.relpath(folder))
    print(runs.summary(RunResult.read(folder), where))
    tell_folder(folder)
    return where


def train(config: dict[str, Any], folder: Path) -> RunResult | None:
    """Train a detector and finish its run; of several processes that do so, the first gets the result.

    Args:
        config: a whole training configuration (conf/train.yaml), resolved, in plain containers.
        folder: where the run is kept; of several processes, the first one's counts.

    Raises:
        UserError: something in the configuration or the data cannot be used; nothing is written then.
    """
    started = time.perf_counter()
    keep_memory()
    config = config | {"trainer": dict(config["trainer"])}
    config["trainer"]["precision"] = choose_precision(
        config["trainer"]["precision"], config["trainer"]["accelerator"]
    )
    check_rate(config["threshold"]["false_positive_rate"])
    config, data = _set_up_data(config)
    method = _new_method(config, data)
    if method.learns and data.batch_size < method.least_batch:
        raise UserError(
            f"batch_size={data.batch_size}: method={config['method']['name']} learns from "
            f"{method.least_batch} images or more at a time; set a larger one, or give more images"
        )
    # A file that cannot be used is refused now, not after the training.
    network = feature_network(**config["generator_metrics"]) if method.scorer.generates else None
    if config["schedule"]["minutes"] is not None and method.learns:
        data.total_images = images_timed_before(config, folder) or images_in_time(
            config, data, network, make_trainer, started
        )
        config = _with_images(config, data.total_images)
        method = _new_method(config, data)
    method.save_hyperparameters(config, logger=False)  # a checkpoint says what it belongs to
    resume = checkpoint_to_resume(config, data, folder)
    callbacks, trainer = _equip(config, folder, data)
    root = trainer.strategy.root_device
    data.check_processes(trainer.world_size)
    data.move_to(root)
    config = config | {"trainer": speed_up(method, config["trainer"], root, trainer.world_size)}
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(config))
    failed = True
    try:
        for logger in trainer.loggers:
            logger.log_hyperparams(config)
        training = _left(callbacks, fit(trainer, method, data, resume), method, data)
        run = runs.Run(folder, method.to(root).scorer, data, config)
        log = partial(_log, trainer.loggers, folder)
        result = runs.finish(run, training, feature_network=network, log=log)
        failed = False
    finally:
        close(trainer.loggers, failed)
    return result


def _set_up_data(config: dict[str, Any]) -> tuple[dict[str, Any], OneClassData]:
    """The data, loaded, and the configuration with what was chosen by rule; what is found is said."""
    data = build_a(OneClassData, config["data"], "data", ("data",))
    if is_first_process():
        for line in data.preview():
            print(line)
    data.setup()
    if is_first_process() and data.batch_size < config["data"]["batch_size"]:
        print(f"batch_size={data.batch_size}: by rule, all images that are trained on")
    by_rule = {"image_size", "channels", "batch_size", "total_images"} & config["data"].keys()
    return config | {"data": config["data"] | {name: getattr(data, name) for name in by_rule}}, data


def _equip(config: dict[str, Any], folder: Path, data: OneClassData) -> tuple[dict[str, Any], pl.Trainer]:
    """The callbacks, by their names in the configuration, and a trainer that has them and the loggers."""
    callbacks: dict[str, Any] = {
        name: build_a(pl.Callback, callback, f"callbacks.{name}", ("callbacks",))
        for name, callback in _block(config, "callbacks").items()
    }
    told = {"folder": str(folder), "start_iteration": data.start_iteration}
    loggers = [
        build_a(Logger, logger, f"logger.{name}", ("loggers",), **told)
        for name, logger in _block(config, "logger").items()
    ]
    more = {"default_root_dir": folder, "callbacks": list(callbacks.values()), "logger": loggers}
    return callbacks, make_trainer(config["trainer"], **more)


def _left(callbacks: dict[str, Any], elapsed: float, method: Method, data: OneClassData) -> runs.Training:
    """What a training of `elapsed` seconds leaves beside the detector."""
    # A callback can be taken out by configuration (~callbacks.health).
    curve = callbacks.get("learning_curve") or LearningCurve()
    losses = callbacks.get("loss_history") or LossHistory()
    aside = {"curve": curve.seconds}
    if "pictures" in callbacks:
        aside["pictures"] = callbacks["pictures"].seconds
    return runs.Training(
        iterations=data.iterations if method.learns else 0,
        iterations_here=data.iterations - data.start_iteration if method.learns else 0,
        seconds={"train": elapsed - sum(aside.values())} | aside,
        curve=curve.points,
        losses=losses.points,
        notes=[*_skipped(method), *(callbacks["health"].notes if "health" in callbacks else [])],
    )


def _new_method(config: dict[str, Any], data: OneClassData) -> Method:
    pl.seed_everything(config["seed"], verbose=False)  # of the initial weights
    return build_method(config, data.describe())


def _with_images(config: dict[str, Any], total_images: int) -> dict[str, Any]:
    """`config` with that many images to draw, in place of a time: a run that can be repeated."""
    whole = {"run": "in all", "training": "of training"}[config["schedule"]["minutes_of"]]
    at_most = config["schedule"]["at_most"]
    why = "the most (schedule.at_most), within" if total_images == at_most else "by timing, for"
    print(f"schedule.total_images={total_images}: {why} {config['schedule']['minutes']:g} minutes {whole}")
    timed_for = config["schedule"]["minutes"]
    schedule = config["schedule"] | {"total_images": total_images, "minutes": None, "timed_for": timed_for}
    return config | {"schedule": schedule, "data": config["data"] | {"total_images": total_images}}


def _log(loggers: Sequence[Logger], folder: Path, result: RunResult) -> None:
    """Give the loggers what the end of a run has brought."""
    log_result(loggers, result, folder)
    pictures = {path.stem: path for path in sorted((folder / runs.FIGURES_FOLDER).glob("*.png"))}
    log_pictures(loggers, pictures, result.iterations)


def _block(config: dict[str, Any], key: str) -> dict[str, Any]:
    """A part of the configuration that holds objects by name.

    Raises:
        UserError: it holds something else.
    """
    if not isinstance(config[key], dict):
        raise UserError(f"{key}={config[key]}: expected a block of settings")
    return config[key]


def _skipped(method: Method) -> list[str]:
    return [
        f"{count} steps of phase {phase!r} left out: their loss or gradient was not finite"
        for phase, count in method.skipped.items()
    ]
