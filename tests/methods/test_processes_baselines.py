"""Two processes that share every batch train the other methods of Table 1 as one does."""

import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from shipped import method_of
from torch import nn

from anomaly_gan.cli.trainer import make_trainer
from anomaly_gan.data.digits import Digits
from anomaly_gan.launch import in_processes
from anomaly_gan.networks.modes import batch_norms

METHODS: dict[str, tuple[str, ...]] = {
    "deep_svdd": ("width=16", "scoring.embedding_size=16"),
    "rot_trans": ("width=16",),
    "goad": ("width=16", "scoring.shifts.translations=false"),
    "ocgan": ("width=8", "scoring.latent_size=8"),
}
BATCH_SIZES = {"even": 8, "uneven": 7}
ITERATIONS = 6


class Record(pl.Callback):
    """Every logged term, gradient norms among them, of every iteration."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.terms.append({name: float(value) for name, value in pl_module.terms.items()})


def train(folder: Path, name: str, processes: int) -> None:
    """Runs in float64, in which rounding does not grow into differences; the first process keeps them."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    settings = {"accelerator": "cpu", "devices": processes, "precision": "32-true"}
    settings |= {"compile": False, "cuda_graphs": False}
    for kind, batch_size in BATCH_SIZES.items():
        data = Digits(normal_class=3, batch_size=batch_size, total_images=batch_size * ITERATIONS, limit=40)
        data.setup()
        torch.manual_seed(int(os.environ["RANK"]))  # process 0's weights must become everybody's
        small = (*METHODS[name], "method.log_every_iterations=1")
        form = data.describe()
        method = method_of(
            name, *small, side=form["image_size"], channels=form["channels"], iterations=ITERATIONS
        )
        record = Record()
        trainer = make_trainer(settings, default_root_dir=folder, callbacks=[record], logger=False)
        trainer.fit(method, datamodule=data)
        assert all(type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d) for norm in batch_norms(method))
        if trainer.is_global_zero:
            found = {"state": method.state_dict(), "terms": record.terms}
            torch.save(found, folder / f"{kind}, {processes}")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_are_one(name: str, tmp_path: Path) -> None:
    for processes in (1, 2):
        in_processes(train, (tmp_path, name, processes), processes)
    for kind in BATCH_SIZES:
        one, two = (torch.load(tmp_path / f"{kind}, {processes}") for processes in (1, 2))
        assert len(one["terms"]) == ITERATIONS
        for alone, shared in zip(one["terms"], two["terms"], strict=True):
            assert shared == pytest.approx(alone, rel=1e-6, abs=1e-9)
        assert list(one["state"]) == list(two["state"])
        for key, value in one["state"].items():
            # Adam makes 1e-9 of the nothing that reaches a bias before batch norm.
            message = f"{kind}: {key}"
            torch.testing.assert_close(two["state"][key], value, rtol=1e-4, atol=1e-8, msg=message)
