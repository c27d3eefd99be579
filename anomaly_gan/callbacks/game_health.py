"""Watches the games of the autoencoder: who wins, and whether what is made still varies."""

from typing import Any, Literal

import pytorch_lightning as pl
import torch

from anomaly_gan.data.image_set import Batch
from anomaly_gan.distributed import average_
from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import Method
from anomaly_gan.networks.modes import frozen

CHECKS_IN_A_ROW = 3


class GameHealth(pl.Callback):
    """Logs `health/*` on the batch just trained on; nothing where there is no generator.

    What it logs is the method's to say (`Method.health`); `diversity` is of what the generator makes, over
    that of the batch's inliers. That ratio below `collapse_below` in three checks in a row is a
    collapse; where that ends the training, from the first of them on nothing is saved to resume from
    (`TrainingCheckpoint`).

    Args:
        every_iterations: how often.
        collapse_below: which ratio is too little, at least 0.
        on_collapse: end the training with an error, or say it in the results' notes.
    """

    def __init__(self, every_iterations: int, collapse_below: float, on_collapse: Literal["raise", "note"]):
        if every_iterations < 1:
            raise UserError(f"callbacks.health.every_iterations={every_iterations} must be at least 1")
        if collapse_below < 0:
            raise UserError(f"callbacks.health.collapse_below={collapse_below} must be at least 0")
        self.every_iterations = every_iterations
        self.collapse_below = collapse_below
        self.on_collapse = on_collapse
        self.in_a_row = 0
        self.notes: list[str] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Method)
        iteration = pl_module.iteration + 1
        # One image does not vary. The smallest shard decides for all processes, which have to look together.
        alone = min(pl_module.shard_of(batch).sizes(1)) < 2
        if iteration % self.every_iterations or not pl_module.generates or alone:
            return
        pl_module.raise_if_not_finite()
        with torch.no_grad(), frozen(pl_module.networks.values()):
            found = pl_module.health(pl_module.step_of(batch))
        # In one piece: each number asked for alone would wait for the device.
        numbers = torch.stack([value.to(torch.get_default_dtype()) for value in found.values()])
        average_([numbers])  # each process looks at its own images
        values = dict(zip(found, numbers.tolist(), strict=True))
        for logger in trainer.loggers:
            logger.log_metrics({f"health/{name}": value for name, value in values.items()}, step=iteration)
        self.in_a_row = self.in_a_row + 1 if values["diversity"] < self.collapse_below else 0
        if self.in_a_row == CHECKS_IN_A_ROW:
            phase = next(phase for phase in pl_module.stage.phases if {*phase.trains} & {*pl_module.makers})
            message = (
                f"the generator collapsed (phase {phase.name!r}, iteration {iteration}): what it makes "
                f"varied by {values['diversity']:.1%} of what real images do, {CHECKS_IN_A_ROW} checks in a "
                "row"
            )
            if self.on_collapse == "raise":
                raise UserError(
                    f"{message}; checkpoints/last.ckpt in the run's folder, if it is there, is from before; "
                    "try a lower optimizer.learning_rate, callbacks.health.on_collapse=note or, in "
                    "Algorithm 1, method.diff_augment.changes=[color,translation]"
                )
            self.notes.append(message)

    @property
    def suspects(self) -> bool:
        """Whether the training may end for what was found last."""
        return self.on_collapse == "raise" and self.in_a_row > 0

    def state_dict(self) -> dict[str, Any]:
        return {"in_a_row": self.in_a_row, "notes": self.notes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.in_a_row, self.notes = state_dict["in_a_row"], state_dict["notes"]
