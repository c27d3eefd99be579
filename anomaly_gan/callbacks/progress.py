"""Progress of the training, in iterations."""

from typing import Any

import pytorch_lightning as pl

from anomaly_gan.methods.base import Method
from anomaly_gan.progress import Progress


class TrainingProgress(pl.Callback):
    """A bar on a terminal, plain lines elsewhere, with the last logged loss of the first phase."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Method)
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self.progress = Progress("training", pl_module.total_iterations, done=done)
        self.note = ""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Method)
        if pl_module.is_logged:
            first = pl_module.stage.phases[0].name
            total = pl_module.logged.get(f"train/{first}/total")
            self.note = "" if total is None else f"{first} {total:.3f}"
        self.progress.advance(note=self.note)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if hasattr(self, "progress"):
            self.progress.close()
