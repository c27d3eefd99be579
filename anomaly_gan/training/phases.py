"""How a training is said: stages of phases, as data. `training/loop.py` runs any of them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.randomness import RowRng
from anomaly_gan.sharding import Shard
from anomaly_gan.training.optimizers import Recipe
from anomaly_gan.types import ImageBatches, Images, Scalar

Terms = dict[str, Scalar]
"""What a phase minimises, by name: the sum of these, each times its weight."""


@dataclass(frozen=True)
class Step:
    """What one iteration hands to each of its phases; a method whose phases need more has a subclass."""

    networks: Mapping[str, nn.Module]
    """By the names that phases have for them."""
    images: Images
    """The batch of normal images, [B, C, H, W] in [0, 1]."""
    shard: Shard
    """Which rows of the iteration's batch `images` are, where several processes share it."""
    rng: RowRng
    """The randomness of this iteration, for these rows, on the images' device."""


@dataclass(frozen=True)
class Phase:
    """One optimizer step: which networks it moves, and by what."""

    name: str
    """Names its logged terms, `train/<name>/<term>`, and its settings."""
    trains: tuple[str, ...]
    """The networks it moves, weights and running statistics; all others stay bit for bit."""
    objective: Callable[[Any], Terms]
    """From the iteration's step to what is minimised."""
    every: int = 1
    """It runs in every `every`-th iteration; an iteration is one batch of normal images."""


@dataclass(frozen=True)
class Stage:
    """A part of the training with phases, optimizers and learning rates of its own."""

    name: str
    """Names its settings."""
    phases: tuple[Phase, ...]
    """They run in this order in every iteration."""
    begin: Callable[[ImageBatches], None] | None = None
    """Called before the first iteration of the stage with the normal images; of several processes, each has
    a part of them. It writes what is no result of an optimizer: a copy of weights, a centre."""


def one_phase(name: str, network: str, objective: Callable[[Any], Terms]) -> list[Stage]:
    """The plainest plan: one stage with one phase of the same name, which trains one network."""
    return [Stage(name, (Phase(name, (network,), objective),))]


@dataclass(frozen=True)
class PhaseSettings:
    """What a run may say of one phase.

    Args:
        weights: of its terms.
        gradient_clip: largest norm of its gradient, over all networks it trains; None: any.
        start_iteration: it does not run before that iteration of the training.
        stop_iteration: it does not run from that iteration on; None: it runs to the end.
    """

    weights: Mapping[str, float]
    gradient_clip: float | None = None
    start_iteration: int = 0
    stop_iteration: int | None = None

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
        if self.stop_iteration is not None and self.stop_iteration < 0:
            raise UserError(f"{path}.stop_iteration={self.stop_iteration} must be at least 0, or null")

    def allow(self, iteration: int) -> bool:
        """Whether the phase may run in that iteration."""
        return self.start_iteration <= iteration and (
            self.stop_iteration is None or iteration < self.stop_iteration
        )

    def from_the_start(self) -> "PhaseSettings":
        """The same, running in every iteration, or in none if it never runs."""
        never = self.stop_iteration is not None and self.stop_iteration <= self.start_iteration
        return replace(self, start_iteration=0, stop_iteration=0 if never else None)


@dataclass(frozen=True)
class StageSettings:
    """What a run may say of one stage.

    Args:
        share: its part of the training's iterations, in proportion to the shares of the other stages.
        optimizer: of the networks that it trains; None: the method's.
        milestones: of the learning rate in this stage, in place of the optimizer's; None: these.
    """

    share: float | int = 1.0
    optimizer: Recipe | None = None
    milestones: Sequence[float] | None = None

    def check(self, stage: str) -> None:
        """Raises UserError for a value that cannot be used, naming it as the configuration does."""
        if not 0 < self.share < math.inf:
            raise UserError(f"method.stages.{stage}.share={self.share} must be above 0")


def check_settings(
    phases: Mapping[str, PhaseSettings],
    stages: Mapping[str, StageSettings],
    optimizers: Mapping[str, Recipe],
    plan: Sequence[Stage],
    networks: Mapping[str, nn.Module],
) -> None:
    """Look at what a run says of phases, stages and networks, each by name.

    Raises:
        UserError: a value cannot be used, or there is no such stage or network.
    """
    for name, of_phase in phases.items():
        of_phase.check(name)
    for name, of_stage in stages.items():
        of_stage.check(name)
    check_names("stages", stages, [stage.name for stage in plan])
    check_names("optimizers", optimizers, list(networks))


def check_names(block: str, given: Iterable[str], known: list[str]) -> None:
    """Refuse settings in `method.<block>` of a stage or network that the method does not have.

    Raises:
        UserError: a name of `given` is none of `known`.
    """
    for name in given:
        if name not in known:
            hint = nearest(name, known) if known else "this method has none"
            raise UserError(f"method.{block}.{name}: no such setting; {hint}")
