"""anomaly-gan train."""

import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from anomaly_gan import runs
from anomaly_gan.allocator import keep_memory
from anomaly_gan.callbacks.learning_curve import LearningCurve
from anomaly_gan.callbacks.loss_history import LossHistory
from anomaly_gan.callbacks.training_checkpoint import (
    FOLDER,
    LAST,
    WholeFiles,
    newest,
    next_iteration,
    read,
)
from anomaly_gan.checkpoint import build_method
from anomaly_gan.cli.installed import program
from anomaly_gan.cli.sizes import check_minutes, choose_sizes, images_in_time
from anomaly_gan.cli.sweep import sync_command
from anomaly_gan.config import build_a
from anomaly_gan.data.module import OneClassData
from anomaly_gan.device import choose_precision
from anomaly_gan.distributed import leave
from anomaly_gan.durable import remove_partial
from anomaly_gan.errors import UserError
from anomaly_gan.launch import in_processes, started_outside
from anomaly_gan.lifetime import Stopped, alone_in, end_with_parent
from anomaly_gan.loggers import close, log_pictures, log_result
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.methods.phased import PhasedDetector
from anomaly_gan.metrics.generator import feature_network
from anomaly_gan.progress import is_first_process
from anomaly_gan.reporting.report import write_page
from anomaly_gan.results import RESULT_FILE, RunResult, write_atomically
from anomaly_gan.scoring.calibration import check_rate
from anomaly_gan.strategies import SharedBatch

AUTO = "auto"
"""`resume=auto`: go on from the checkpoint in the run's own folder, if there is one."""


def main(config: DictConfig, folder: Path) -> int:
    """Train as `config` says, into `folder`."""
    end_with_parent()
    choices = choose_sizes(config)
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
            raise Stopped(stopped.number, _how_to_go_on(plain, folder)) from None


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
    check_minutes(plain["schedule"]["minutes"], prod(started_by) if started_by else processes)
    if processes > 1:
        # Before so many are started.
        build_a(OneClassData, plain["data"], "data", ("data",)).check_processes(processes)
        in_processes(train, (plain, folder), processes)
    elif train(plain, folder) is None:
        return 0  # the first process speaks for all
    where = _conclude(folder)
    name = program()
    print(
        "next:\n"
        f"{sync_command(folder.parent)}"
        f"  {name} predict checkpoint={where} inputs=IMAGE_OR_FOLDER\n"
        f"  {name} evaluate checkpoint={where} primary=paper\n"
        f"  {name} train data=folder data.root=FOLDER_OF_GOOD_IMAGES budget=10min"
    )
    return 0


def _conclude(folder: Path) -> Path:
    """Write the page of a finished run and say what was found; the folder as it is reached from here."""
    write_page(folder)
    where = Path(os.path.relpath(folder))
    print(runs.summary(RunResult.read(folder), where))
    return where


def _how_to_go_on(config: dict[str, Any], folder: Path) -> str:
    """What to say of a training that was ended."""
    last = folder / FOLDER / LAST
    if not last.is_file():
        return " before anything was kept to go on from"
    if config["resume"] == AUTO:
        return "; the same command goes on from where it was"
    return f"; the same command with resume={os.path.relpath(last)} goes on from where it was"


def make_trainer(config: Mapping[str, Any], **more: Any) -> pl.Trainer:
    """The Trainer of a group `trainer`.

    Raises:
        UserError: it cannot be used here.
    """
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # A cluster's login node has it; said here, in fit, and by each Trainer anew.
    warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used")
    if "SLURM_NTASKS" in os.environ and started_outside() is None:
        more = {"plugins": [LightningEnvironment()]} | more  # a job of one task, whose processes are ours
    settings = dict(config)
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    for ours in ("compile", "cuda_graphs"):
        del settings[ours]
    try:
        trainer = pl.Trainer(
            **settings,
            **more,
            max_epochs=1,  # one pass over a loader that has as many batches as the training
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        if trainer.world_size > 1 and "strategy" not in more:
            return make_trainer(config, **more, strategy=SharedBatch())
        trainer.strategy.checkpoint_io = WholeFiles()
        # Of Lightning's handlers of signals, one speaks to other processes in the middle of whatever they do.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as wrong:
        raise UserError(f"trainer: {wrong}") from wrong
    return trainer


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
    data = build_a(OneClassData, config["data"], "data", ("data",))
    if is_first_process():
        for line in data.preview():
            print(line)
    data.setup()
    if is_first_process() and data.batch_size < config["data"]["batch_size"]:
        print(f"batch_size={data.batch_size}: by rule, all images that are trained on")
    for name in {"image_size", "channels", "batch_size"} & config["data"].keys():
        config["data"] = config["data"] | {name: getattr(data, name)}  # as it was chosen
    detector = _new_detector(config, data)
    # A file that cannot be used is refused now, not after the training.
    network = feature_network(**config["generator_metrics"]) if detector.generates else None
    if config["schedule"]["minutes"] is not None:
        data.total_images = _timed_before(config, folder) or images_in_time(
            config, data, network, make_trainer, started
        )
        config = _with_images(config, data.total_images)
        detector = _new_detector(config, data)
    detector.save_hyperparameters(config, logger=False)  # a checkpoint says what it belongs to
    resume = _checkpoint_to_resume(config, data, folder)
    callbacks: dict[str, Any] = {
        name: build_a(pl.Callback, callback, f"callbacks.{name}", ("callbacks",))
        for name, callback in _block(config, "callbacks").items()
    }
    told = {"folder": str(folder), "start_iteration": data.start_iteration}
    loggers = {
        name: build_a(Logger, logger, f"logger.{name}", ("loggers",), **told)
        for name, logger in _block(config, "logger").items()
    }
    trainer = make_trainer(
        config["trainer"],
        default_root_dir=folder,
        callbacks=list(callbacks.values()),
        logger=list(loggers.values()),
    )
    data.check_processes(trainer.world_size)
    data.move_to(trainer.strategy.root_device)
    assert isinstance(detector, PhasedDetector)
    if config["trainer"]["compile"]:
        detector.compile_networks()
    if config["trainer"]["cuda_graphs"]:
        if trainer.strategy.root_device.type != "cuda" or trainer.world_size > 1:
            raise UserError("trainer.cuda_graphs=true: for a run on one GPU; leave it out here")
        detector.capture_phases()
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(config))
    failed = True
    try:
        for logger in trainer.loggers:
            logger.log_hyperparams(config)
        start = time.perf_counter()
        with warnings.catch_warnings():
            # Images in memory need no loader processes.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            # It is: the loader starts at `data.start_iteration`.
            warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
            # Lightning's own use of torch, nothing of ours.
            warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
            # A run that was killed while it scored has nothing left to train.
            warnings.filterwarnings("ignore", ".*Total length of `DataLoader` across ranks is zero.*")
            trainer.fit(detector, datamodule=data, ckpt_path=resume, weights_only=True)
        elapsed = time.perf_counter() - start
        # A callback can be taken out by configuration (~callbacks.health).
        curve = callbacks.get("learning_curve") or LearningCurve()
        losses = callbacks.get("loss_history") or LossHistory()
        aside = {"curve": curve.seconds}
        if "pictures" in callbacks:
            aside["pictures"] = callbacks["pictures"].seconds
        seconds = {"train": elapsed - sum(aside.values())} | aside
        detector.to(trainer.strategy.root_device)
        result = runs.finish(
            runs.Run(folder, detector, data, config),
            runs.Training(
                iterations=data.iterations,
                iterations_here=data.iterations - data.start_iteration,
                seconds=seconds,
                curve=curve.points,
                losses=losses.points,
                notes=[*_skipped(detector), *(callbacks["health"].notes if "health" in callbacks else [])],
            ),
            feature_network=network,
            log=partial(_log, trainer.loggers, folder),
        )
        failed = False
    finally:
        close(trainer.loggers, failed)
    leave()
    return result


def _new_detector(config: dict[str, Any], data: OneClassData) -> AnomalyDetector:
    pl.seed_everything(config["seed"], verbose=False)  # of the initial weights
    return build_method(config["method"], data.describe())


def _timed_before(config: dict[str, Any], folder: Path) -> int | None:
    """How many images the process that this one goes on from found that it had time for."""
    if config["resume"] is None:
        return None
    run = folder if config["resume"] == AUTO else Path(str(config["resume"])).expanduser().parent.parent
    settings = run / "config.yaml"
    if not settings.is_file():
        return None
    return int(OmegaConf.load(settings).schedule.total_images)


def _with_images(config: dict[str, Any], total_images: int) -> dict[str, Any]:
    """`config` with that many images to draw, in place of a time: a run that can be repeated."""
    print(
        f"schedule.total_images={total_images}: by timing, for "
        f"{config['schedule']['minutes']:g} minutes in all"
    )
    schedule = config["schedule"] | {"total_images": total_images, "minutes": None}
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


def _skipped(detector: PhasedDetector) -> list[str]:
    return [
        f"{count} steps of line {phase!r} left out: their loss or gradient was not finite"
        for phase, count in detector.skipped.items()
    ]


def _checkpoint_to_resume(config: dict[str, Any], data: OneClassData, folder: Path) -> Path | None:
    """The checkpoint that `config` names, or with `resume=auto` the one in `folder`, if it is there.

    `data` is told to start where it ends.

    Raises:
        UserError: there is none, it is damaged, or its run had other settings.
    """
    if config["resume"] is None:
        return None
    path = Path(str(config["resume"])).expanduser()
    if config["resume"] == AUTO:
        found = newest(folder)
        if found is None:
            return None
        path = found
    if not path.is_file():
        raise UserError(f"resume={path}: no such file; give the checkpoints/last.ckpt in the folder of a run")
    state = read(path)
    before = state["hyper_parameters"]
    for part in ("data", "method", "trainer"):
        for key in config[part]:
            if before[part].get(key) != config[part][key]:
                raise UserError(
                    f"resume={path}: its run had {part}.{key}={before[part].get(key)}, this one has "
                    f"{config[part][key]}; give the same settings"
                )
    data.start_iteration = next_iteration(state)
    if data.start_iteration >= data.iterations and config["resume"] != AUTO:
        raise UserError(f"resume={path}: its run had finished its {data.iterations} iterations; evaluate it")
    return path
