"""How often several processes ask each other whether one was told to end."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl

from anomaly_gan.callbacks import training_checkpoint
from anomaly_gan.callbacks.training_checkpoint import ASKING_SECONDS, TrainingCheckpoint
from anomaly_gan.methods.base import Method


class Processes(pl.Trainer):
    """So many of them."""

    world_size = 0  # type: ignore[assignment]

    def __init__(self, count: int):
        self.world_size = count


class Quiet(Method):
    """Of which nothing is logged."""

    is_logged = False  # type: ignore[assignment]

    def __init__(self) -> None:
        pl.LightningModule.__init__(self)


class Asked:
    """A clock that iterations move, and what was asked at which of them."""

    def __init__(self, patch: pytest.MonkeyPatch, processes: int):
        self.now, self.iteration, self.at = 0.0, 0, list[int]()
        self.trainer, self.method = Processes(processes), Quiet()
        patch.setattr(training_checkpoint, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(training_checkpoint, "largest", self._largest)
        patch.setattr(training_checkpoint, "hold", lambda: None)

    def _largest(self, *values: int) -> list[int]:
        self.at.append(self.iteration)
        return list(values)

    def train(self, iterations: int, seconds: float) -> None:
        callback = TrainingCheckpoint(every_minutes=1.0)
        callback.on_train_start(self.trainer, self.method)
        for self.iteration in range(1, iterations + 1):
            self.now += seconds
            callback.on_train_batch_end(self.trainer, self.method, None, None, 0)


def test_one_process_looks_after_every_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, 1)
    asked.train(50, 0.001)
    assert asked.at == list(range(1, 51))


def test_slow_iterations_are_asked_about_each(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, 2)
    asked.train(20, 1.5 * ASKING_SECONDS)
    assert asked.at == list(range(1, 21))


def test_fast_iterations_are_asked_about_once_in_a_while_and_soon_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(monkeypatch, 2)
    asked.train(5000, ASKING_SECONDS / 128)
    assert asked.at[:4] == [1, 3, 7, 15]
    gaps = [later - before for before, later in zip(asked.at, asked.at[1:], strict=False)]
    assert max(gaps) == 128
    assert asked.at[-1] > 5000 - 128
