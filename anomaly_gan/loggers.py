"""Where the numbers of a training go, by configuration. Each returns a Lightning logger."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger


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
    group: str | None,
    job_type: str,
    mode: Literal["offline", "online"],
) -> Logger:
    """Weights & Biases; offline, files stay in `<folder>/wandb` until `wandb sync` sends them."""
    return WandbLogger(
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        offline=mode == "offline",
        save_dir=folder,
    )


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
