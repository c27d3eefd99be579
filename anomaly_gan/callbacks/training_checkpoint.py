"""The state of a training, to go on from after a kill."""

import math
import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from anomaly_gan.callbacks.game_health import GameHealth
from anomaly_gan.distributed import agreed
from anomaly_gan.errors import UserError
from anomaly_gan.methods.phased import PhasedDetector
from anomaly_gan.safe_load import safe_load


class TrainingCheckpoint(pl.Callback):
    """Keeps `checkpoints/last.ckpt` in the run's folder (the trainer's `default_root_dir`).

    First when terms are first logged, so that a short run has one too.

    Not Lightning's ModelCheckpoint: under manual optimisation that one knows no interval of time (2.6.6), and
    its interval of steps counts the steps of all optimizers.

    Args:
        every_minutes: how much work a kill may cost.
    """

    def __init__(self, every_minutes: float):
        self.every_minutes = every_minutes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = -math.inf

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, PhasedDetector)
        # When terms are logged, which waits for the device and finds what is not finite anyway.
        if not pl_module.is_logged or not agreed(time.monotonic() - self.last >= 60 * self.every_minutes):
            return
        self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)  # scoring may be killed, too

    def _save(self, trainer: pl.Trainer) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if any(callback.in_a_row for callback in callbacks if isinstance(callback, GameHealth)):
            return  # the last good one is kept
        path = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if trainer.is_global_zero:  # the folders of the others are not the run's
            path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: a kill in the middle leaves the one before.
        trainer.save_checkpoint(path.with_suffix(".partial"))
        if trainer.is_global_zero:
            os.replace(path.with_suffix(".partial"), path)
        self.last = time.monotonic()


def next_iteration(path: Path) -> int:
    """The iteration that comes after those in the checkpoint at `path`.

    Raises:
        UserError: it is no such checkpoint.
    """
    complaint = f"resume={path}: damaged, or not the checkpoints/last.ckpt of a run"
    state = safe_load(path, complaint)
    try:
        return int(state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"])
    except (LookupError, TypeError) as other:
        raise UserError(complaint) from other
