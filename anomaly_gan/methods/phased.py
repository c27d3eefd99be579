"""Manual optimisation, once, for any table of phases."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anomaly_gan.algorithm import Phase
from anomaly_gan.data.image_set import Batch
from anomaly_gan.errors import UserError
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.networks.modes import frozen
from anomaly_gan.objectives import Step
from anomaly_gan.optimizers import Recipe
from anomaly_gan.randomness import make_generator
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.transforms.views import ShiftedViews


class PhasedDetector(AnomalyDetector):
    """Runs a table of phases, in order, in every iteration; one optimizer for each network.

    An iteration is one batch. Lightning's `global_step` counts the steps of all optimizers together, so
    nothing here uses it.

    Args:
        phases: the table.
        networks: by the names of the table.
        views: shifts and augmentation.
        recipe: optimizer and learning-rate schedule of every network.
        total_iterations: length of the training, for the schedule.
        temperature: tau of NT-Xent.
        weights: of each phase's terms, by phase and term.
        seed: of every random draw.
        log_every_iterations: how often the terms go to the loggers.
    """

    def __init__(
        self,
        *,
        phases: tuple[Phase, ...],
        networks: dict[str, nn.Module],
        views: ShiftedViews,
        recipe: Recipe,
        total_iterations: int,
        temperature: float,
        weights: Mapping[str, Mapping[str, float]],
        seed: int,
        log_every_iterations: int,
    ):
        if seed < 0:
            raise UserError(f"seed={seed} must be at least 0")
        if log_every_iterations < 1:
            raise UserError(f"log_every_iterations={log_every_iterations} must be at least 1")
        super().__init__()
        self.automatic_optimization = False
        self.phases = phases
        self.networks = nn.ModuleDict(networks)
        self.views = views
        self.recipe = recipe
        self.total_iterations = total_iterations
        self.temperature = temperature
        self.weights = weights
        self.seed = seed
        self.log_every_iterations = log_every_iterations
        self.terms: dict[str, Tensor] = {}

    @property
    def iteration(self) -> int:
        """How many batches came before this one, over the whole training."""
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.recipe.optimizer(network.parameters()) for network in self.networks.values()]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        step = Step(
            networks=dict(self.networks.items()),
            images=to_float(batch.images),
            views=self.views,
            temperature=self.temperature,
            generator=make_generator(self.device, self.seed, "step", self.iteration, self.global_rank),
        )
        learning_rate = self.recipe.rate(self.iteration / self.total_iterations)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        for phase in self.phases:
            if (self.iteration + 1) % phase.every == 0:
                self.descend(phase, step)
        if (self.iteration + 1) % self.log_every_iterations == 0 and self.logger is not None:
            values = {name: float(value) for name, value in self.terms.items()}
            values["train/learning_rate"] = learning_rate
            for logger in self.loggers:
                logger.log_metrics(values, step=self.iteration + 1)

    def descend(self, phase: Phase, step: Step) -> None:
        """One optimizer step of `phase` on the networks it trains; the others stay as they are."""
        optimizers = [
            optimizer
            for name, optimizer in zip(self.networks, self._optimizers, strict=True)
            if name in phase.trains
        ]
        for optimizer in optimizers:
            optimizer.zero_grad()
        with frozen(network for name, network in self.networks.items() if name not in phase.trains):
            terms = phase.objective(step)
            weighted = [self.weights[phase.name][name] * term for name, term in terms.items()]
            total = torch.stack(weighted).sum()
            self.manual_backward(total)
        for optimizer in optimizers:
            optimizer.step()
        for name, term in (terms | {"total": total}).items():
            self.terms[f"train/{phase.name}/{name}"] = term.detach()

    @property
    def _optimizers(self) -> list[Any]:
        """One a network, in their order; Lightning gives a single one bare, several in a list."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]
