"""Manual optimisation, once, for any table of phases."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from anomaly_gan.algorithm import Phase
from anomaly_gan.data.image_set import Batch
from anomaly_gan.distributed import average_
from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.methods.captured import CapturedStep, Graph
from anomaly_gan.networks.modes import frozen
from anomaly_gan.objectives import Step, Terms
from anomaly_gan.optimizers import Recipe
from anomaly_gan.precision import without_autocast
from anomaly_gan.sharding import Shard


@dataclass(frozen=True)
class PhaseSettings:
    """What a run may say of one phase.

    Args:
        weights: of its terms.
        gradient_clip: largest norm of its gradient, over all networks it trains; None: any.
        start_iteration: it does not run before that iteration.
    """

    weights: Mapping[str, float]
    gradient_clip: float | None = None
    start_iteration: int = 0

    def check(self, phase: str) -> None:
        """Raises UserError for a value that cannot be used, naming it as the configuration does."""
        path = f"method.phases.{phase}"
        for name, weight in self.weights.items():
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise UserError(f"{path}.weights.{name}={weight}: expected a number")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise UserError(f"{path}.gradient_clip={self.gradient_clip} must be above 0, or null")
        if self.start_iteration < 0:
            raise UserError(f"{path}.start_iteration={self.start_iteration} must be at least 0")


class Taken(NamedTuple):
    """A step that was taken before anybody looked whether its loss and gradient are numbers."""

    iteration: int
    phase: Phase
    terms: Terms


class PhasedDetector(AnomalyDetector):
    """Runs a table of phases, in order, in every iteration; one optimizer for each network.

    An iteration is one batch. Lightning's `global_step` counts the steps of all optimizers together, so
    nothing here uses it. Where several processes share a batch, each computes the terms of its own rows, and
    gradients and terms are averaged over them once a phase. Nothing waits for the device but what is logged.

    Args:
        phases: the table.
        networks: by the names of the table.
        settings: of each phase, by its name.
        recipe: optimizer and learning-rate schedule of every network.
        total_iterations: length of the training, for the schedule.
        on_non_finite: what becomes of a loss or gradient that is not a number: raise ends the training with
            the phase's name and iteration when the terms are next logged, before anything of them is saved;
            skip leaves the phase's networks as they were and counts it (and so waits for the device in every
            phase).
        log_every_iterations: how often the terms go to the loggers.
    """

    def __init__(
        self,
        *,
        phases: Sequence[Phase],
        networks: Mapping[str, nn.Module],
        settings: Mapping[str, PhaseSettings],
        recipe: Recipe,
        total_iterations: int,
        on_non_finite: Literal["raise", "skip"],
        log_every_iterations: int,
    ):
        if log_every_iterations < 1:
            raise UserError(f"log_every_iterations={log_every_iterations} must be at least 1")
        for phase in phases:
            if phase.name not in settings:
                raise UserError(f"method.phases.{phase.name} must be given")
        for name, of in settings.items():
            of.check(name)
        super().__init__()
        self.automatic_optimization = False
        self.phases = tuple(phases)
        self.networks = nn.ModuleDict(networks)
        self.settings = settings
        self.weights = {
            f"{phase}/{name}": weight for phase, of in settings.items() for name, weight in of.weights.items()
        }
        self.recipe = recipe
        self.total_iterations = total_iterations
        self.on_non_finite = on_non_finite
        self.log_every_iterations = log_every_iterations
        self.terms: dict[str, Tensor] = {}
        self.skipped: Counter[str] = Counter()
        """How many steps of each phase were left out."""
        self.captured: dict[str, CapturedStep] | None = None
        self._taken: list[Taken] = []

    @abstractmethod
    def make_step(self, batch: Batch) -> Step:
        """What this iteration's phases are given."""

    @property
    def iteration(self) -> int:
        """How many batches came before this one, over the whole training."""
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def capture_phases(self, graph: Callable[[], Graph] = Graph) -> None:
        """From now on each phase is recorded as a graph after a few steps, and replayed.

        Args:
            graph: makes one.

        Raises:
            UserError: a step that is left out must be looked at first.
        """
        if self.on_non_finite == "skip":
            raise UserError(
                "method.on_non_finite=skip waits for every step; trainer.cuda_graphs=false allows it"
            )
        Graph.pool = None  # of an earlier detector's graphs
        self.captured = {
            phase.name: CapturedStep(partial(self._leap, phase), graph()) for phase in self.phases
        }

    def compile_networks(self) -> None:
        """From now on each network is compiled at its first use; names in checkpoints stay the same.

        Every line of Algorithm 1 brings each network its own combination of batch size and of what has a
        gradient, and each is compiled once.
        """
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
        for network in self.networks.values():
            network.compile(dynamic=False)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimizers = [self.recipe.optimizer(network.parameters()) for network in self.networks.values()]
        if self.captured is not None:
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                # What a graph reads has to lie on the device.
                group["lr"] = torch.tensor(group["lr"], device=self.device)
                group["capturable"] = self.device.type == "cuda"
        return optimizers

    def on_train_start(self) -> None:
        self.terms = {name: term.to(self.device) for name, term in self.terms.items()}
        for group in (group for optimizer in self._optimizers for group in optimizer.param_groups):
            if isinstance(group["lr"], Tensor):  # from a checkpoint it comes on the CPU
                group["lr"] = group["lr"].to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self.iteration % self.log_every_iterations == 0:
            self.terms.clear()  # what is logged is of the iterations since the last time
        step = self.make_step(batch)
        learning_rate = self.recipe.rate(self.iteration / self.total_iterations)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(learning_rate)
                else:
                    group["lr"] = learning_rate
        for phase in self.phases:
            if self.runs(phase):
                self.descend(phase, step)
        if self.is_logged:
            self.raise_if_not_finite()
            # In one piece: each number asked for alone would wait for the device.
            numbers = torch.stack(list(self.terms.values())).tolist() if self.terms else []
            values = dict(zip(self.terms, numbers, strict=True))
            values["train/learning_rate"] = learning_rate
            for logger in self.loggers:
                logger.log_metrics(values, step=self.iteration + 1)

    @property
    def is_logged(self) -> bool:
        """Whether the terms of this iteration go to the loggers: the time to wait for the device."""
        return (self.iteration + 1) % self.log_every_iterations == 0 or (
            self.iteration + 1 == self.total_iterations
        )

    def shard_of(self, batch: Batch) -> Shard:
        """Which rows of the iteration's batch `batch` is."""
        processes = self.trainer.world_size
        if processes == 1:
            return Shard(len(batch.images))
        return Shard(self.trainer.datamodule.batch_size, self.trainer.global_rank, processes)  # type: ignore[attr-defined]

    def runs(self, phase: Phase) -> bool:
        """Whether `phase` runs in this iteration."""
        due = (self.iteration + 1) % phase.every == 0
        return due and self.iteration >= self.settings[phase.name].start_iteration

    def descend(self, phase: Phase, step: Step) -> None:
        """One optimizer step of `phase` on the networks it trains; the others stay as they are."""
        if self.on_non_finite == "skip":
            terms = self._leap_if_finite(phase, step)
        else:
            leap = partial(self._leap, phase) if self.captured is None else self.captured[phase.name]
            terms = leap(step)
            self._taken.append(Taken(self.iteration, phase, terms))
        self.terms |= {f"train/{name}": value for name, value in terms.items()}

    def _leap(self, phase: Phase, step: Step) -> Terms:
        """Gradient and optimizer step; the device is not waited for."""
        terms = self._gradient(phase, step)
        for optimizer in self._optimizers_of(phase):
            optimizer.step()
        return terms

    def _leap_if_finite(self, phase: Phase, step: Step) -> Terms:
        """The same; a step that is not finite is left out and counted."""
        buffers = [buffer for name in phase.trains for buffer in self.networks[name].buffers()]
        before = [buffer.clone() for buffer in buffers]
        terms = self._gradient(phase, step)
        if _finite(phase, terms):
            for optimizer in self._optimizers_of(phase):
                optimizer.step()
        else:
            self.skipped[phase.name] += 1
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)  # running statistics have seen what is not finite
        return terms

    def _gradient(self, phase: Phase, step: Step) -> Terms:
        """Leave the gradient of `phase`, over all processes; its terms, their total, the gradient's norm."""
        for optimizer in self._optimizers_of(phase):
            optimizer.zero_grad()
        with frozen(network for name, network in self.networks.items() if name not in phase.trains):
            terms = {_full(phase, name): term for name, term in phase.objective(step).items()}
            # Lightning has autocast on around all of a step; a backward pass goes by the forward one.
            with without_autocast(self.device):
                self.manual_backward(step.shard.weight * self._total(terms))
        terms = {name: step.shard.weight * term.detach() for name, term in terms.items()}
        parameters = [p for name in phase.trains for p in self.networks[name].parameters()]
        gradients = [p.grad for p in parameters if p.grad is not None]
        average_([*gradients, *terms.values()])
        norm = get_total_norm(gradients)
        largest = self.settings[phase.name].gradient_clip
        if largest is not None:
            clip_grads_with_norm_(parameters, largest, norm)
        return terms | {f"{phase.name}/total": self._total(terms), f"{phase.name}/gradient_norm": norm}

    def _optimizers_of(self, phase: Phase) -> list[Any]:
        pairs = zip(self.networks, self._optimizers, strict=True)
        return [optimizer for name, optimizer in pairs if name in phase.trains]

    def _total(self, terms: Terms) -> Tensor:
        return torch.stack([self._weight(name) * term for name, term in terms.items()]).sum()

    def _weight(self, term: str) -> float:
        if term not in self.weights:
            phase, name = term.split("/")
            raise UserError(f"method.phases.{phase}.weights.{name} must be given")
        return self.weights[term]

    def raise_if_not_finite(self) -> None:
        """Look at all steps since the last look at once, not to wait for the device in each.

        Raises:
            UserError: one had a loss or gradient that is not a number.
        """
        taken, self._taken = self._taken, []
        if not taken or torch.stack([_finite(step.phase, step.terms) for step in taken]).all():
            return
        iteration, phase, values = next(step for step in taken if not _finite(step.phase, step.terms))
        terms = ", ".join(f"{name} {float(value):.3g}" for name, value in values.items())
        raise UserError(
            f"training ended at iteration {iteration + 1}: the loss or gradient of line {phase.name!r} is "
            f"not finite ({terms}); checkpoints/last.ckpt in the run's folder, if it is there, is from "
            "before; try a lower optimizer.learning_rate, "
            f"method.phases.{phase.name}.gradient_clip=1 or method.on_non_finite=skip"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.raise_if_not_finite()
        checkpoint["skipped"] = dict(self.skipped)
        checkpoint["terms"] = dict(self.terms)  # of the lines since terms were last logged

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.skipped = Counter(checkpoint["skipped"])
        self.terms = checkpoint["terms"]

    @property
    def _optimizers(self) -> list[Any]:
        """One a network, in their order; Lightning gives a single one bare, several in a list."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]


def _full(phase: Phase, term: str) -> str:
    """A term's name with its line's, which a line made of several has given already."""
    return term if "/" in term else f"{phase.name}/{term}"


def _finite(phase: Phase, terms: Terms) -> Tensor:
    """Whether loss and gradient of a step are numbers."""
    return torch.isfinite(terms[f"{phase.name}/total"]) & torch.isfinite(terms[f"{phase.name}/gradient_norm"])
