"""What the generator makes, on the way."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from anomaly_gan.data.module import OneClassData
from anomaly_gan.generation import draw_generator
from anomaly_gan.loggers import log_pictures
from anomaly_gan.methods.base import Method


class GeneratorPictures(pl.Callback):
    """Draws synthetic images and reconstructions, always of the same latents and images, and logs them.

    Args:
        at_iterations: after how many iterations; the end is drawn anyway.
    """

    def __init__(self, at_iterations: Sequence[int] = ()):
        self.at_iterations = frozenset(at_iterations)
        self.seconds = 0.0  # spent here by this process

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Method)
        iteration = pl_module.iteration + 1
        if iteration not in self.at_iterations or not pl_module.scorer.generates:
            return
        pl_module.raise_if_not_finite()
        if not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, OneClassData)
        folder = Path(trainer.default_root_dir) / "figures" / f"iteration_{iteration}"
        start = time.perf_counter()
        pictures = draw_generator(folder, pl_module.scorer, data)
        pl_module.train()
        log_pictures(trainer.loggers, pictures, iteration)
        self.seconds += time.perf_counter() - start
