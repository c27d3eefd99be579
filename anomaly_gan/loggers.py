"""Where the numbers of a training go, by configuration. Each returns a Lightning logger."""

import re
from collections.abc import Iterable, Mapping
from csv import DictReader
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from anomaly_gan.errors import UserError
from anomaly_gan.own_files import mark
from anomaly_gan.results import SCORES_FILE, RunResult, csv_row, write_csv


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

    def save(self) -> None:
        """Append what was logged; Lightning's own ends lines otherwise than `csv_row`."""
        if self.metrics:
            rows = [{key: str(value) for key, value in row.items()} for row in self.metrics]
            if self._record_new_keys():
                self._rewrite_with_new_header(self.metrics_keys)
            with Path(self.metrics_file_path).open("a", newline="") as file:
                file.writelines(csv_row(row.get(key) for key in self.metrics_keys) for row in rows)
            self.metrics = []

    def _check_log_dir_exists(self) -> None:
        """Lightning's removes the file."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        rows: list[dict[str, str]] = []
        if Path(self.metrics_file_path).is_file():
            with Path(self.metrics_file_path).open(newline="") as file:
                rows = list(DictReader(file))
        self._replace(rows)

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
    """Event files in `<folder>/tensorboard`; of a run that resumes one more, which hides what comes again.

    Raises:
        UserError: TensorBoard is not installed.
    """
    _check_installed("tensorboard")
    purge_step = start_iteration + 1 if start_iteration else None
    return TensorBoardLogger(folder, name="", version="tensorboard", purge_step=purge_step)


def wandb(
    folder: str,
    start_iteration: int,
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
        start_iteration: where it goes on; a tag says so.
        project: in which the runs are.
        name: of the run.
        group: what runs of one sweep have in common.
        job_type: the method.
        mode: offline, files stay here until `wandb sync` sends them.
        run: what names a run that resumes, so that its parts become one; None: it is on its own.

    Raises:
        UserError: wandb is not installed.
    """
    _check_installed("wandb")
    pictures = Path(folder).parent / "wandb"
    pictures.mkdir(parents=True, exist_ok=True)
    mark(pictures)
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
        tags=[f"from iteration {start_iteration}"] if start_iteration else None,
        **more,
    )


def _check_installed(name: str) -> None:
    """Refuse a logger whose package, an extra of the same name, is not here."""
    if find_spec(name) is None:
        raise UserError(f"logger={name}: {name} is not installed; pip install 'anomaly-gan[{name}]'")


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
        with path.open(newline="") as file:
            for row in DictReader(file):
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
