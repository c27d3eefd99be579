"""Manual optimisation, once, for any plan of stages and phases."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from anomaly_gan.batches import FloatBatches
from anomaly_gan.data.image_set import Batch
from anomaly_gan.distributed import rank, world_size
from anomaly_gan.errors import UserError
from anomaly_gan.networks.modes import compile_each
from anomaly_gan.randomness import RowRng, derive_seed
from anomaly_gan.sharding import Shard
from anomaly_gan.training.captured import CapturedStep, Graph
from anomaly_gan.training.descent import Taken, check_finite, finite, gradient
from anomaly_gan.training.optimizers import Recipe, make_capturable, move_rates, set_rate
from anomaly_gan.training.phases import (
    Phase,
    PhaseSettings,
    Stage,
    StageSettings,
    Step,
    Terms,
    check_settings,
)
from anomaly_gan.training.timetable import Timetable
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import Images

Rngs = Callable[[str], RowRng]
"""From a purpose to this iteration's random numbers for it."""


class PhasedTraining(pl.LightningModule):
    """Runs the phases of a stage, in order, in every iteration; one optimizer for each network and stage.

    An iteration is one batch. Lightning's `global_step` counts the steps of all optimizers together, so
    nothing here uses it. Where several processes share a batch, each computes the terms of its own rows, and
    gradients and terms are averaged over them once a phase. Nothing waits for the device but what is logged.

    Args:
        networks: by the names that phases have for them.
        plan: the stages, in their order; none where there is nothing to learn.
        optimizer: optimizer and learning-rate schedule of every network.
        optimizers: the same of single networks, by name; they go before those of a stage.
        phases: settings of phases, by name; a phase without has weights of one.
        stages: settings of stages, by name; a stage without has a share of one.
        seed: of every random draw.
        total_iterations: length of the training.
        on_non_finite: what becomes of a loss or gradient that is not a number: raise ends the training with
            the phase's name and iteration when the terms are next logged, before anything of them is saved;
            skip leaves the phase's networks as they were and counts it (and so waits for the device in every
            phase).
        log_every_iterations: how often the terms go to the loggers.
    """

    def __init__(
        self,
        *,
        networks: Mapping[str, nn.Module],
        plan: Sequence[Stage],
        optimizer: Recipe,
        optimizers: Mapping[str, Recipe],
        phases: Mapping[str, PhaseSettings],
        stages: Mapping[str, StageSettings],
        seed: int,
        total_iterations: int,
        on_non_finite: Literal["raise", "skip"],
        log_every_iterations: int,
    ):
        for key, value, least in (("log_every_iterations", log_every_iterations, 1), ("seed", seed, 0)):
            if value < least:
                raise UserError(f"{key}={value} must be at least {least}")
        check_settings(phases, stages, optimizers, plan, networks)
        super().__init__()
        self.automatic_optimization = False
        self.networks = nn.ModuleDict(networks)
        self.plan = tuple(plan)
        self.optimizer = optimizer
        self.optimizer_of = optimizers
        self.phase_settings = phases
        self.stage_settings = {stage.name: stages.get(stage.name, StageSettings()) for stage in plan}
        self.timetable = Timetable(total_iterations, [of.share for of in self.stage_settings.values()])
        self.seed, self.total_iterations = seed, total_iterations
        self.on_non_finite = on_non_finite
        self.log_every_iterations = log_every_iterations
        self.terms: dict[str, Tensor] = {}
        self.logged: dict[str, float] = {}  # the terms as they were last read from the device
        self.skipped: Counter[str] = Counter()  # how many steps of each phase were left out
        self.captured: dict[tuple[str, str], CapturedStep] | None = None  # by stage and phase
        self._taken: list[Taken] = []
        self._rngs: dict[tuple[str, str], torch.Generator] = {}

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> Step:
        """What this iteration's phases are given. A hook: a method whose phases need more makes its own.

        Args:
            images: this process's normal images of the iteration.
            shard: which rows of the iteration's batch they are.
            rng: from a purpose to random numbers.
        """
        return Step(dict(self.networks.items()), images, shard, rng("step"))

    def after_iteration(self, ran: Sequence[Phase]) -> None:
        """A hook, called when the phases `ran` of an iteration have moved their networks."""

    @property
    def iteration(self) -> int:
        """How many batches came before this one, over the whole training."""
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    @property
    def stage(self) -> Stage:
        """The stage that this iteration belongs to."""
        return self.plan[self.timetable.stage(self.iteration)]

    @property
    def waits_for_device(self) -> str | None:
        """Why a step has to be looked at before the next, and so cannot be recorded; None where it can."""
        if self.on_non_finite == "skip":
            return "method.on_non_finite=skip waits for every step"
        if any(self.recipe(*key).waits_for_device for key in self._trained()):
            return "this optimizer waits for the device in every step"
        return None

    def capture_phases(self, graph: Callable[[], Graph] = Graph) -> None:
        """From now on each phase is recorded as a graph after a few steps, and replayed.

        Args:
            graph: makes one.

        Raises:
            UserError: a step waits for the device.
        """
        if self.waits_for_device:
            raise UserError(f"{self.waits_for_device}; trainer.cuda_graphs=false allows it")
        Graph.pool = None  # of an earlier method's graphs
        self.captured = {
            (stage.name, phase.name): CapturedStep(phase.name, partial(self._leap, phase), graph())
            for stage in self.plan
            for phase in stage.phases
        }

    def compile_networks(self) -> None:
        """From now on each network is compiled at its first use; names in checkpoints stay the same."""
        compile_each(self.networks.values())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for each stage and each network that it trains, in that order: a stage starts afresh."""
        made = [self.recipe(*key).optimizer(self.networks[key[1]].parameters()) for key in self._trained()]
        if self.captured is not None:
            make_capturable(made, self.device)
        return made

    def recipe(self, stage: str, network: str) -> Recipe:
        """Optimizer and schedule of a network in a stage, by their names."""
        settings = self.stage_settings[stage]
        recipe = self.optimizer_of.get(network) or settings.optimizer or self.optimizer
        return recipe if settings.milestones is None else replace(recipe, milestones=settings.milestones)

    def on_train_start(self) -> None:
        self.timetable.check()
        self.terms = {name: term.to(self.device) for name, term in self.terms.items()}
        move_rates(self._optimizers.values(), self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        if self.iteration % self.log_every_iterations == 0:
            self.terms.clear()  # what is logged is of the iterations since the last time
        self._begin_stage()
        step = self.step_of(batch)
        learning_rate = self._set_learning_rates()
        ran = [phase for phase in self.stage.phases if self.runs(phase)]
        for phase in ran:
            self.descend(phase, step)
        self.after_iteration(ran)
        if self.is_logged:
            self.raise_if_not_finite()
            # In one piece: each number asked for alone would wait for the device.
            numbers = torch.stack(list(self.terms.values())).tolist() if self.terms else []
            self.logged = dict(zip(self.terms, numbers, strict=True))
            values = self.logged | {"train/learning_rate": learning_rate}
            for logger in self.loggers:
                logger.log_metrics(values, step=self.iteration + 1)

    def step_of(self, batch: Batch) -> Step:
        """What the phases are given in this iteration, whose images are `batch`."""
        shard = self.shard_of(batch)
        return self.make_step(to_float(batch.images), shard, lambda purpose: self._rng(purpose, shard))

    def _rng(self, purpose: str, shard: Shard) -> RowRng:
        """Seeded for this iteration; always the same object, which graphs that draw from it have to know."""
        key = (purpose, str(self.device))
        if key not in self._rngs:
            self._rngs[key] = torch.Generator(self.device)
        return RowRng(self._rngs[key].manual_seed(derive_seed(self.seed, purpose, self.iteration)), shard)

    def _begin_stage(self) -> None:
        """Let the stage begin, where this is its first iteration."""
        begin = self.stage.begin
        if begin is None or self.timetable.progress(self.iteration) > 0:
            return
        loader = self.trainer.datamodule.bank_loader(rank(), world_size())  # type: ignore[attr-defined]
        with torch.no_grad():
            begin(FloatBatches(loader, self.device, f"beginning stage {self.stage.name}"))

    def _set_learning_rates(self) -> float:
        """Give the optimizers of this stage their learning rates of this iteration; that of the first."""
        progress = self.timetable.progress(self.iteration)
        rates = []
        for (stage, network), optimizer in self._optimizers.items():
            if stage != self.stage.name:
                continue
            rates.append(self.recipe(stage, network).rate(progress))
            set_rate(optimizer, rates[-1])
        return rates[0]

    @property
    def is_logged(self) -> bool:
        """Whether the terms of this iteration go to the loggers: the time to wait for the device."""
        done = self.iteration + 1
        return done % self.log_every_iterations == 0 or done == self.total_iterations

    def shard_of(self, batch: Batch) -> Shard:
        """Which rows of the iteration's batch `batch` is."""
        if (processes := self.trainer.world_size) == 1:
            return Shard(len(batch.images))
        return Shard(self.trainer.datamodule.batch_size, self.trainer.global_rank, processes)  # type: ignore[attr-defined]

    def runs(self, phase: Phase) -> bool:
        """Whether `phase` runs in this iteration."""
        settings = self.phase_settings.get(phase.name, PhaseSettings({}))
        return (self.iteration + 1) % phase.every == 0 and settings.allow(self.iteration)

    def descend(self, phase: Phase, step: Step) -> None:
        """One optimizer step of `phase` on the networks it trains; the others stay as they are."""
        if self.on_non_finite == "skip":
            terms = self._leap_if_finite(phase, step)
        else:
            captured = None if self.captured is None else self.captured[self.stage.name, phase.name]
            terms = self._leap(phase, step) if captured is None else captured(step)
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
        if finite(phase, terms):
            for optimizer in self._optimizers_of(phase):
                optimizer.step()
        else:
            self.skipped[phase.name] += 1
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)  # running statistics have seen what is not finite
        return terms

    def _gradient(self, phase: Phase, step: Step) -> Terms:
        for optimizer in self._optimizers_of(phase):
            optimizer.zero_grad()
        return gradient(phase, step, dict(self.networks), self.phase_settings, self.manual_backward)

    def _optimizers_of(self, phase: Phase) -> list[Any]:
        return [
            optimizer
            for (stage, network), optimizer in self._optimizers.items()
            if stage == self.stage.name and network in phase.trains
        ]

    def raise_if_not_finite(self) -> None:
        """Look at all steps since the last look.

        Raises:
            UserError: one had a loss or gradient that is not a number.
        """
        taken, self._taken = self._taken, []
        check_finite(taken, self.phase_settings)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.raise_if_not_finite()
        checkpoint["skipped"] = dict(self.skipped)
        checkpoint["terms"] = dict(self.terms)  # of the phases since terms were last logged

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.skipped = Counter(checkpoint["skipped"])
        self.terms = checkpoint["terms"]

    def _trained(self) -> Iterator[tuple[str, str]]:
        """The names of each stage and of each network that it trains."""
        for stage in self.plan:
            moved = {name for phase in stage.phases for name in phase.trains}
            yield from ((stage.name, network) for network in self.networks if network in moved)

    @property
    def _optimizers(self) -> dict[tuple[str, str], Any]:
        """By stage and network; Lightning gives a single one bare, several in a list."""
        of_all = self.optimizers()
        return dict(zip(self._trained(), of_all if isinstance(of_all, list) else [of_all], strict=True))
