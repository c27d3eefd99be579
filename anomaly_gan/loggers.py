"""Where the numbers of a training go, by configuration. Each returns a Lightning logger."""

from collections.abc import Iterable
from typing import Literal

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


def close(loggers: Iterable[Logger], failed: bool) -> None:
    """End every logger's run, so that the next run of a sweep starts one of its own."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=int(failed))
