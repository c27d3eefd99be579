"""Two processes that share every batch train the other methods of Table 1 as one does."""

import os
from pathlib import Path

import pytest
import torch
from as_one import Record, assert_same_training
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
            found = {"weights": method.state_dict(), "terms": record.terms}
            torch.save(found, folder / f"{kind}, {processes}")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_are_one(name: str, tmp_path: Path) -> None:
    for processes in (1, 2):
        in_processes(train, (tmp_path, name, processes), processes)
    for kind in BATCH_SIZES:
        one, two = (torch.load(tmp_path / f"{kind}, {processes}") for processes in (1, 2))
        assert_same_training(one, two, ITERATIONS, kind)
