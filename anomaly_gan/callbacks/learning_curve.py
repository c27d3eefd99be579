"""AUROC on the way, to be looked at and never to choose by."""

import copy
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from anomaly_gan.data.module import OneClassData
from anomaly_gan.distributed import localise_batch_norm
from anomaly_gan.evaluation import fit_scorer, score_test_set, why_no_auroc
from anomaly_gan.methods.base import Method


class LearningCurve(pl.Callback):
    """Scores the test set at the given iterations, in the primary score's form.

    It scores with a copy of the scorer: training never sees it.

    Args:
        at_iterations: after how many iterations; the end is scored anyway.
    """

    def __init__(self, at_iterations: Sequence[int] = ()):
        self.at_iterations = frozenset(at_iterations)
        self.points: list[dict[str, Any]] = []
        self.seconds = 0.0  # spent here by this process

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Method)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, OneClassData)
        iteration = pl_module.iteration + 1
        if iteration not in self.at_iterations or why_no_auroc(data):
            return
        pl_module.raise_if_not_finite()
        start = time.perf_counter()
        scorer = copy.deepcopy(pl_module.scorer)
        localise_batch_norm(scorer)  # the copy is evaluated by each process on its own images
        scorer.keep_primary_alone()  # on the way it is enough, at half the cost
        fit_scorer(scorer, data)
        scored = score_test_set(scorer, data)
        assert scored is not None
        aurocs = scored.aurocs()
        self.points.append({"iteration": iteration, "images": iteration * data.batch_size, "auroc": aurocs})
        values = {f"curve/{name}": value for name, value in aurocs.items() if value is not None}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=iteration)
        self.seconds += time.perf_counter() - start

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = state_dict["points"]
