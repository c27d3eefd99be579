"""How large a training is where nobody says: by the device, or by the minutes that it may take."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from anomaly_gan.checkpoint import build_method
from anomaly_gan.data.module import OneClassData
from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.metrics.generator import FeatureNetwork
from anomaly_gan.transforms.convert import to_float

BY_DEVICE = {"width": {"cpu": 16, "gpu": 64}, "schedule.total_images": {"cpu": 30_000, "gpu": 400_000}}
"""On a GPU budget=paper's; on a CPU what takes minutes to half an hour."""

PICTURES_SECONDS = 6.0
"""What drawing and writing take at the end of a run."""

SAMPLE = 64
"""Images scored to see how fast scoring is."""


def choose_sizes(config: DictConfig) -> list[str]:
    """Fill in width and number of images where they are null, by the device; a line for each choice."""
    gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = "gpu" if gpu else "cpu"
    lines = []
    if config.width is None:
        config.width = BY_DEVICE["width"][device]
        lines.append(f"width={config.width}: by rule, on a {device.upper()}")
    if config.schedule.total_images is None:
        config.schedule.total_images = BY_DEVICE["schedule.total_images"][device]
        if config.schedule.minutes is None:
            lines.append(
                f"schedule.total_images={config.schedule.total_images}: by rule, on a {device.upper()}"
            )
    return lines


def check_minutes(minutes: Any, processes: int) -> None:
    """Refuse a time that is none.

    Raises:
        UserError: it is no number above zero, or several processes are to train.
    """
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
    """How many images a training can draw so that all of the run ends after `schedule.minutes`.

    Some iterations of a detector that is then thrown away, and the scoring of some images, are timed; the
    number is rounded to two digits, so that it can be given by hand to repeat the run.

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
        an_iteration, detector = _time_iterations(config, data, make_trainer)
        overhead = (1 + len(curve)) * _time_scoring(detector, data) + PICTURES_SECONDS
        if network is not None:
            overhead += _time_generator(detector, data, network)
    spent = time.perf_counter() - started
    left = 60 * config["schedule"]["minutes"] - spent - overhead
    iterations = _two_digits(left / an_iteration)
    if iterations < 1:
        raise UserError(
            f"schedule.minutes={config['schedule']['minutes']:g}: reading, timing and scoring alone take "
            f"{(spent + overhead) / 60:.1f} minutes here; give more"
        )
    return iterations * data.batch_size


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
) -> tuple[float, AnomalyDetector]:
    """Seconds of an iteration, the mean over all lines of Algorithm 1, and the detector so trained."""
    warm_up, timed = 2, max(5, config["method"]["every"])
    total, data.total_images = data.total_images, (warm_up + timed) * data.batch_size
    try:
        detector = build_method(config["method"], data.describe())
        clock = _Clock()
        trainer = make_trainer(config["trainer"], callbacks=[clock], logger=False)
        trainer.fit(detector, data.train_dataloader())
    finally:
        data.total_images = total
    detector.to(trainer.strategy.root_device)
    return (clock.ends[-1] - clock.ends[warm_up - 1]) / timed, detector


@torch.no_grad()
def _time_scoring(detector: AnomalyDetector, data: OneClassData) -> float:
    """Seconds to fit the scorer, and to score held-out and test images."""
    images = to_float(data.train[range(min(SAMPLE, len(data.train)))].images.to(detector.device))
    start = time.perf_counter()
    detector.fit_scorer([images])
    fitted = time.perf_counter()
    detector.score_all(images)
    scored = time.perf_counter()
    tested = len(data.calibration) + (0 if data.test is None else len(data.test))
    return ((fitted - start) * len(data.train) + (scored - fitted) * tested) / len(images)


def _time_generator(detector: AnomalyDetector, data: OneClassData, network: FeatureNetwork) -> float:
    """Seconds to compare synthetic images to real ones."""
    network.to(detector.device)
    start = time.perf_counter()
    network(detector.generate(SAMPLE, "timing"))
    normal = 0 if data.test is None else int((data.test.labels == data.normal_index).sum())
    return (time.perf_counter() - start) * (2 * len(data.train) + normal) / SAMPLE
