"""What tests of several processes share: what is kept of a training, and when two trainings are the same."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch


class Record(pl.Callback):
    """Every logged term, gradient norms among them, of every iteration."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.terms.append({name: float(value) for name, value in pl_module.terms.items()})


def assert_same_training(one: dict[str, Any], two: dict[str, Any], iterations: int, name: str) -> None:
    """Both have the terms of so many iterations, and end with the same `weights` up to rounding."""
    assert len(one["terms"]) == iterations
    for alone, shared in zip(one["terms"], two["terms"], strict=True):
        assert shared == pytest.approx(alone, rel=1e-6, abs=1e-9)
    assert list(one["weights"]) == list(two["weights"])
    for key, value in one["weights"].items():
        # Adam makes 1e-9 of the nothing that reaches a bias before batch norm.
        torch.testing.assert_close(two["weights"][key], value, rtol=1e-4, atol=1e-8, msg=f"{name}: {key}")
