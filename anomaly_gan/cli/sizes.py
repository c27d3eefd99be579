"""How large a training is where nobody says: by the device, or by the minutes that it may take."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from anomaly_gan.build import build_method
from anomaly_gan.cli.trainer import speed_up
from anomaly_gan.data.module import OneClassData
from anomaly_gan.errors import UserError
from anomaly_gan.metrics.generator import FeatureNetwork
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.training.captured import WARM_UP
from anomaly_gan.transforms.convert import to_float

WIDTH = {"cpu": 16, "gpu": 64}
"""Of a method's first stage; 64 is every paper's."""

MINUTES_OF = ("run", "training")
"""What `schedule.minutes` may be the time of: all of a run, or its training alone."""

PICTURES_SECONDS = 6.0
"""What drawing and writing take at the end of a run."""

SAMPLE = 64
"""Images scored to see how fast scoring is."""


def choose_sizes(config: DictConfig, given: Sequence[str] = ()) -> list[str]:
    """Fill in width and number of images where they are null, by the device; a line for each choice.

    Args:
        config: of a training; it is changed.
        given: the overrides of the command line. A number of passes given there goes before the rule, and
            before a number of images that a group says.

    Raises:
        UserError: two lengths are given there.
    """
    gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device, schedule = "gpu" if gpu else "cpu", config.schedule
    lines = []
    lengths = [key for key in ("minutes", "passes", "total_images") if _is_given(f"schedule.{key}", given)]
    if len(lengths) > 1:
        asked = " and ".join(f"schedule.{key}={schedule[key]}" for key in lengths)
        raise UserError(f"{asked}: two lengths; give one of them")
    if lengths == ["passes"]:
        schedule.total_images = None
    if config.width is None:
        config.width = WIDTH[device]
        said: Any = OmegaConf.to_container(config)
        if "${width}" in str([said["method"], said["scoring"]]):
            lines.append(f"width={config.width}: by rule, on a {device.upper()}")
    if schedule.total_images is None:
        schedule.total_images = schedule.on_cpu if device == "cpu" and lengths != ["passes"] else None
        if schedule.total_images is None and schedule.passes is None:
            schedule.total_images = schedule.on_gpu
        if schedule.minutes is None and schedule.total_images is None:
            lines.append(f"schedule.passes={schedule.passes}: the length of the training")
        elif schedule.minutes is None:
            lines.append(f"schedule.total_images={schedule.total_images}: by rule, on a {device.upper()}")
    return lines


def _is_given(key: str, given: Sequence[str]) -> bool:
    return any(word.startswith(f"{key}=") and word != f"{key}=null" for word in given)


def check_minutes(schedule: Mapping[str, Any], processes: int) -> None:
    """Refuse a time that is none.

    Raises:
        UserError: it is no number above zero, it is not said of what, or several processes are to train;
            or `at_most` is no number of images.
    """
    minutes, whole = schedule["minutes"], schedule["minutes_of"]
    if whole not in MINUTES_OF:
        raise UserError(f"schedule.minutes_of={whole}: valid: {', '.join(MINUTES_OF)}")
    at_most = schedule["at_most"]
    if at_most is not None and (isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 1):
        raise UserError(f"schedule.at_most={at_most}: give a number of images, or null")
    if minutes is None:
        return
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes < float("inf"):
        raise UserError(f"schedule.minutes={minutes}: give a number above 0")
    if processes > 1:
        raise UserError(
            f"schedule.minutes={minutes:g}: for one process, not {processes}; give schedule.total_images"
        )


def images_in_time(
    config: dict[str, Any],
    data: OneClassData,
    network: FeatureNetwork | None,
    make_trainer: Callable[..., pl.Trainer],
    started: float,
) -> int:
    """How many images a training can draw so that it, or all of the run, ends after `schedule.minutes`.

    Some iterations of a detector that is then thrown away, and the scoring of some images, are timed; the
    number is rounded to two digits, so that it can be given by hand to repeat the run. It is
    `schedule.at_most` at the most.

    Args:
        config: the run's, with trainer, method, callbacks.
        data: set up; its `total_images` is left as it was.
        network: that will compare synthetic images to real ones; None: they are not compared.
        make_trainer: from the group `trainer`, with further arguments.
        started: when the run began, by `time.perf_counter`.

    Raises:
        UserError: what comes beside the training alone takes longer.
    """
    curve = config["callbacks"].get("learning_curve", {}).get("at_iterations", [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a detector that has hardly learned anything
        an_iteration, scorer = _time_iterations(config, data, make_trainer)
        beside = 0.0
        if config["schedule"]["minutes_of"] == "run":
            beside = (1 + len(curve)) * _time_scoring(scorer, data) + PICTURES_SECONDS
            if network is not None:
                beside += _time_generator(scorer, data, network)
            beside += time.perf_counter() - started
    left = 60 * config["schedule"]["minutes"] - beside
    iterations = _two_digits(left / an_iteration)
    if iterations < 1:
        raise UserError(
            f"schedule.minutes={config['schedule']['minutes']:g}: what comes beside the training takes "
            f"{beside / 60:.1f} minutes here, a step {an_iteration:.2g} s; give more"
        )
    images, at_most = iterations * data.batch_size, config["schedule"]["at_most"]
    return images if at_most is None else min(images, at_most)


def _two_digits(value: float) -> int:
    """Rounded down to two significant digits, a whole number of at least 0."""
    if value < 1:
        return 0
    unit = 10 ** max(0, len(str(int(value))) - 2)
    return int(value) // unit * unit


class _Clock(pl.Callback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def _time_iterations(
    config: dict[str, Any], data: OneClassData, make_trainer: Callable[..., pl.Trainer]
) -> tuple[float, Scorer]:
    """Seconds of an iteration, the mean over all phases and stages, and the scorer of what was so trained."""
    asked = build_method(config, data.describe())
    periods = [max(phase.every for phase in stage.phases) for stage in asked.plan]
    clock = _Clock()
    trainer = make_trainer(config["trainer"], callbacks=[clock], logger=False)
    warm_up, timed = 2, max(5, *periods)
    device = trainer.strategy.root_device
    if device.type == "cuda":  # phases are recorded at first, and iterations short
        warm_up, timed = (WARM_UP + 2) * max(periods), -(-100 // max(periods)) * max(periods)
    total, data.total_images = data.total_images, len(periods) * (warm_up + timed) * data.batch_size
    try:
        method = build_method(config, data.describe())
        method.phase_settings = {
            name: settings.from_the_start() for name, settings in method.phase_settings.items()
        }
        method.timetable = replace(method.timetable, shares=[1.0] * len(periods))
        speed_up(method, config["trainer"], device, trainer.world_size)
        trainer.fit(method, datamodule=data)
    finally:
        data.total_images = total
    method.to(device)
    last = [(stage + 1) * (warm_up + timed) - 1 for stage in range(len(periods))]
    seconds = [(clock.ends[at] - clock.ends[at - timed]) / timed for at in last]
    shares = asked.timetable.shares
    return sum(map(prod, zip(seconds, shares, strict=True))) / sum(shares), method.scorer


@torch.no_grad()
def _time_scoring(scorer: Scorer, data: OneClassData) -> float:
    """Seconds to fit the scorer, and to score held-out and test images."""
    images = to_float(data.train[range(min(SAMPLE, len(data.train)))].images.to(scorer.device))
    start = time.perf_counter()
    scorer.fit([images])
    fitted = time.perf_counter()
    scorer.scores(images)
    scored = time.perf_counter()
    tested = len(data.calibration) + (0 if data.test is None else len(data.test))
    return ((fitted - start) * len(data.train) + (scored - fitted) * tested) / len(images)


def _time_generator(scorer: Scorer, data: OneClassData, network: FeatureNetwork) -> float:
    """Seconds to compare synthetic images to real ones."""
    network.to(scorer.device)
    start = time.perf_counter()
    network(scorer.generate(SAMPLE, "timing"))
    normal = 0 if data.test is None else int((data.test.labels == data.normal_index).sum())
    return (time.perf_counter() - start) * (2 * len(data.train) + normal) / SAMPLE
