"""Where the numbers of a training go, by configuration. Each returns a Lightning logger."""

from collections.abc import Iterable, Mapping
from csv import DictReader
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from anomaly_gan.results import write_csv


class Rows(ExperimentWriter):
    """The rows of `metrics.csv`; Lightning's own forgets those of the process that this one goes on from.

    Args:
        log_dir: its folder.
        start_iteration: rows up to there are kept; what a killed process logged beyond comes again.
    """

    def __init__(self, log_dir: str, start_iteration: int):
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        whole = path.read_text().rpartition("\n")[0].splitlines()  # a kill may cut the last row short
        rows = [row for row in DictReader(whole) if int(row["step"]) <= start_iteration and not _of_end(row)]
        self.metrics_keys = list(rows[0]) if rows else []
        self._replace(rows)

    def _check_log_dir_exists(self) -> None:
        """Lightning's removes the file."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with Path(self.metrics_file_path).open(newline="") as file:
            self._replace(list(DictReader(file)))

    def _replace(self, rows: list[dict[str, str]]) -> None:
        columns = {key: [row.get(key, "") for row in rows] for key in self.metrics_keys}
        write_csv(Path(self.metrics_file_path), columns)


def _of_end(row: dict[str, str]) -> bool:
    """Whether a row is of the test set: a run that resumes scores it, once more if need be."""
    return any(value for key, value in row.items() if key.startswith("test/"))


class Csv(CSVLogger):
    """Goes on with `metrics.csv` where a run resumes."""

    def __init__(self, folder: str, start_iteration: int):
        super().__init__(folder, name="", version="log", flush_logs_every_n_steps=1)
        self.start_iteration = start_iteration

    @property
    @rank_zero_experiment
    def experiment(self) -> Rows:
        if self._experiment is None:
            self._experiment = Rows(self.log_dir, self.start_iteration)
        return self._experiment  # type: ignore[return-value]


def csv(folder: str, start_iteration: int) -> Logger:
    """`metrics.csv` in `<folder>/log`."""
    return Csv(folder, start_iteration)


def tensorboard(folder: str, start_iteration: int) -> Logger:
    """Event files in `<folder>/tensorboard`; of a run that resumes one more, which hides what comes again."""
    purge_step = start_iteration + 1 if start_iteration else None
    return TensorBoardLogger(folder, name="", version="tensorboard", purge_step=purge_step)


def wandb(
    folder: str,
    start_iteration: int,
    project: str,
    name: str,
    group: str | None,
    job_type: str,
    mode: Literal["offline", "online"],
) -> Logger:
    """Weights & Biases; offline, files stay in `<folder>/wandb` until `wandb sync` sends them.

    A run that resumes is one more there, and its tag says so.
    """
    return WandbLogger(
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        offline=mode == "offline",
        save_dir=folder,
        tags=[f"from iteration {start_iteration}"] if start_iteration else None,
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
