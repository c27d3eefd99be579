"""Where the numbers of a training go, by configuration. Each returns a Lightning logger."""

import csv as csv_files
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from anomaly_gan.results import SCORES_FILE, RunResult


def csv(folder: str) -> Logger:
    """`metrics.csv` in `<folder>/log`."""
    return CSVLogger(folder, name="", version="log", flush_logs_every_n_steps=1)


def tensorboard(folder: str) -> Logger:
    """Event files in `<folder>/tensorboard`."""
    return TensorBoardLogger(folder, name="", version="tensorboard")


def wandb(
    folder: str,
    project: str,
    name: str,
    group: str,
    job_type: str,
    mode: Literal["offline", "online"],
    run: str | None,
) -> Logger:
    """Weights & Biases, in `wandb` beside the run's folder: one for all runs of a sweep.

    Args:
        folder: of the run.
        project: in which the runs are.
        name: of the run.
        group: what runs of one sweep have in common.
        job_type: the ablation.
        mode: offline, files stay here until `wandb sync` sends them.
        run: what names a run that resumes, so that its parts become one; None: it is on its own.
    """
    more: dict[str, Any] = {} if run is None else {"id": re.sub(r"[^\w.-]", "-", f"{group}-{run}")}
    if mode == "online":
        more["resume"] = "allow"
    return WandbLogger(
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        offline=mode == "offline",
        save_dir=Path(folder).parent,
        **more,
    )


def log_result(loggers: Iterable[Logger], result: RunResult, folder: Path) -> None:
    """Give a finished run's figures to the loggers: AUROCs, distances, and how the scores are spread."""
    found = {f"test/auroc_{name}": value for name, value in (result.auroc | result.auroc_parts).items()}
    found["test/auroc_raw_pixels"] = result.auroc_raw_pixels
    if result.generator is not None:
        found |= {f"generator/{name}": value for name, value in result.generator["generated"].items()}
    numbers = {name: value for name, value in found.items() if value is not None}
    spread = _scores(folder / SCORES_FILE, result.primary)
    for logger in loggers:
        logger.log_metrics(numbers, step=result.iterations)
        if isinstance(logger, WandbLogger):
            from wandb import Histogram

            histograms = {f"scores/{name}": Histogram(values) for name, values in spread.items()}
            logger.experiment.log({**histograms, "trainer/global_step": result.iterations})
            seconds = {f"seconds/{name}": value for name, value in result.seconds.items()}
            logger.experiment.summary.update({**numbers, **seconds, "notes": "; ".join(result.notes)})
        elif isinstance(logger, TensorBoardLogger):
            for name, values in spread.items():
                logger.experiment.add_histogram(f"scores/{name}", np.array(values), result.iterations)


def _scores(path: Path, name: str) -> dict[str, list[float]]:
    """The scores of normal and of anomalous test images; empty where there are none."""
    found: dict[str, list[float]] = {}
    if path.exists():
        with path.open() as file:
            for row in csv_files.DictReader(file):
                kind = "anomalous" if row["anomalous"] == "1" else "normal"
                found.setdefault(kind, []).append(float(row[name]))
    return found


def log_pictures(loggers: Iterable[Logger], pictures: Mapping[str, Path], step: int) -> None:
    """Give the pictures to those loggers that show any."""
    for logger in loggers:
        for name, path in pictures.items():
            if isinstance(logger, WandbLogger):
                logger.log_image(f"pictures/{name}", [str(path)], step=step)
            elif isinstance(logger, TensorBoardLogger):
                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(f"pictures/{name}", pixels, step, dataformats="HWC")


def close(loggers: Iterable[Logger], failed: bool) -> None:
    """End every logger's run, so that the next run of a sweep starts one of its own."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=int(failed))
