"""A phase as one CUDA graph: a step of some hundred small kernels without their launches.

A graph repeats what was recorded, on the same memory. So the tensors of a step are copied to where the
recorded ones lay, random numbers come from a random generator that the graph knows and that is seeded anew in
each iteration, and the learning rate is a number on the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.training.phases import Step, Terms

WARM_UP = 3
"""Steps before the recording: libraries choose their kernels and optimizers make their state."""


class Graph:
    """What is recorded on a GPU; `torch.cuda.graph` with the random generator that the work draws from."""

    pool: Any = None
    """The memory of all graphs: none of them needs what another one left there."""

    def record(self, work: Callable[[], None], rng: torch.Generator) -> None:
        """Record what `work` does, without doing it."""
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(rng)
        torch.cuda.synchronize()
        with torch.cuda.graph(self.graph, pool=Graph.pool):
            work()
        Graph.pool = self.graph.pool()

    def replay(self) -> None:
        """Do it."""
        self.graph.replay()


class CapturedStep:
    """A function of a step, recorded after a warm-up and repeated for every further step.

    Args:
        name: of the phase, for messages.
        function: moves networks, returns named numbers; it may not wait for the device.
        graph: records and repeats.
    """

    def __init__(self, name: str, function: Callable[[Step], Terms], graph: Graph):
        self.name, self.function, self.graph = name, function, graph
        self.calls = 0
        self.names: Sequence[str] = ()
        self.values: Tensor

    def __call__(self, step: Step) -> Terms:
        """The function's numbers for `step`: of the shapes and with the random generator of those before.

        Raises:
            UserError: the function cannot be recorded.
        """
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.function(step)
        if self.calls == WARM_UP + 1:
            # The memory from which every replay reads.
            clones: dict[str, Any] = {name: value.clone() for name, value in _tensors(step).items()}
            self.step = replace(step, **clones)
            self._record(step.rng.base)
        else:
            for name, value in _tensors(step).items():
                getattr(self.step, name).copy_(value)
        self.graph.replay()
        return dict(zip(self.names, self.values.clone().unbind(), strict=True))

    def _record(self, rng: torch.Generator) -> None:
        try:
            self.graph.record(self._work, rng)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as wrong:
            first = wrong.__context__ or wrong  # the end of a recording that failed fails, too
            raise UserError(
                f"phase {self.name!r} cannot be recorded as a CUDA graph ({str(first).splitlines()[0]}); "
                "trainer.cuda_graphs=false trains without"
            ) from wrong

    def _work(self) -> None:
        terms = self.function(self.step)
        self.names = tuple(terms)
        self.values = torch.stack(tuple(terms.values()))


def _tensors(step: Any) -> dict[str, Tensor]:
    """What differs from step to step: the tensors among the fields of its dataclass."""
    values = {field.name: getattr(step, field.name) for field in fields(step)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
