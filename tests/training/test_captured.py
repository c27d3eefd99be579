"""What a recorded phase is given in each iteration: every tensor of its step, whatever the step's class."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from anomaly_gan.errors import UserError
from anomaly_gan.randomness import RowRng
from anomaly_gan.sharding import Shard
from anomaly_gan.training.captured import WARM_UP, CapturedStep, Graph
from anomaly_gan.training.phases import Step, Terms


class Tape(Graph):
    """Stands for a CUDA graph: does what was recorded again, on the memory that it was recorded on."""

    def record(self, work: Callable[[], None], rng: torch.Generator) -> None:
        self.work, self.rng = work, rng

    def replay(self) -> None:
        self.work()


@dataclass(frozen=True)
class LabelledStep(Step):
    """A step of a method of one's own."""

    labels: Tensor
    name: str


def step(base: torch.Generator, iteration: int) -> LabelledStep:
    rng = RowRng(base.manual_seed(iteration))
    labels = torch.arange(3) + 10 * iteration
    return LabelledStep({"network": NETWORK}, torch.rand(3, 1, 4, 4), Shard(3), rng, labels, "labelled")


NETWORK = nn.Linear(16, 1)


def test_a_step_of_ones_own_is_replayed_with_its_own_tensors() -> None:
    def terms(step: LabelledStep) -> Terms:
        seen = step.networks["network"](step.images.flatten(1)).sum()
        drawn = step.rng.uniform(3, 1).sum()
        return {"images": seen, "labels": step.labels.sum().float(), "drawn": drawn}

    base, tape = torch.Generator(), Tape()
    captured = CapturedStep("labels", terms, tape)
    recorded = []
    for iteration in range(WARM_UP + 4):
        given = step(base, iteration)
        found = captured(given)
        expected = terms(replace(given, rng=RowRng(torch.Generator().manual_seed(iteration))))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=f"{name} of iteration {iteration}")
        if iteration >= WARM_UP:
            recorded.append((captured.step.images.data_ptr(), captured.step.labels.data_ptr()))
    assert tape.rng is base
    assert len(set(recorded)) == 1  # the memory that the graph reads
    assert isinstance(captured.step, LabelledStep)
    assert captured.step.name == "labelled"


class Torn(Tape):
    """Stands for a recording in which the host asks for a number, as CUDA answers that: twice."""

    def record(self, work: Callable[[], None], rng: torch.Generator) -> None:
        try:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore lines")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def test_a_phase_that_cannot_be_recorded_ends_with_its_name_the_first_cause_and_the_remedy() -> None:
    captured = CapturedStep("joint", lambda step: {"images": step.images.sum()}, Torn())
    base = torch.Generator()
    for iteration in range(WARM_UP):
        captured(step(base, iteration))
    words = (
        r"^phase 'joint' .*\(CUDA error: operation not permitted .* capturing\); trainer\.cuda_graphs=false"
    )
    with pytest.raises(UserError, match=words):
        captured(step(base, WARM_UP))
