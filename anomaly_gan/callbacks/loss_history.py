"""The losses of each phase over the training, for the picture of them."""

from typing import Any

import pytorch_lightning as pl

from anomaly_gan.methods.base import Method


class LossHistory(pl.Callback):
    """Keeps each phase's total at the iterations that are logged."""

    def __init__(self) -> None:
        self.points: list[dict[str, int | float]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Method)
        if pl_module.is_logged:
            totals = {name: term for name, term in pl_module.logged.items() if name.endswith("/total")}
            self.points.append({"iteration": pl_module.iteration + 1, **totals})

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = state_dict["points"]
