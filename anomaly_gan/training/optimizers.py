"""Optimizers with their learning-rate schedules, by configuration."""

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from anomaly_gan.errors import UserError
from anomaly_gan.training.muon import MuonAndAdam


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """An optimizer and how its learning rate runs over the training."""

    learning_rate: float
    """The highest it gets."""
    warmup_fraction: float = 0.0
    """Part of the training over which the rate rises linearly from `warmup_start` to 1."""
    warmup_start: float = 0.1
    """First rate of the warm-up, as a factor of `learning_rate`."""
    decay: Literal["constant", "cosine"] = "constant"
    """After the warm-up: stay, or fall to zero along half a cosine."""
    milestones: Sequence[float] = ()
    """Parts of the training after each of which the rate is a tenth of what it was."""
    waits_for_device: ClassVar[bool] = False
    """Whether the optimizer's step reads numbers from the device, so that no CUDA graph can hold it."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate={self.learning_rate} must be above 0")
        if not (0 <= self.warmup_fraction < 1 and 0 <= self.warmup_start <= 1):
            raise UserError("warmup_fraction must be in [0, 1) and warmup_start in [0, 1]")
        if not all(0 < milestone < 1 for milestone in self.milestones):
            raise UserError(f"milestones={list(self.milestones)} must be above 0 and below 1")

    def check_at_least_zero(self, *names: str) -> None:
        """Raises UserError where one of these settings is below zero."""
        for name in names:
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}={getattr(self, name)} must be at least 0")

    @abstractmethod
    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """A new optimizer over `parameters`."""

    def rate(self, progress: float) -> float:
        """Learning rate at `progress` in [0, 1] of the stage: no state, so a resumed run has it too."""
        if progress < self.warmup_fraction:
            factor = self.warmup_start + (1 - self.warmup_start) * progress / self.warmup_fraction
        elif self.decay == "constant":
            factor = 1.0
        else:
            after = (progress - self.warmup_fraction) / (1 - self.warmup_fraction)
            factor = (1 + math.cos(math.pi * after)) / 2
        for milestone in self.milestones:
            if progress >= milestone:
                factor /= 10
        return self.learning_rate * factor


@dataclass(frozen=True, kw_only=True)
class Adam(Recipe):
    """The paper's: Adam, 2e-4, constant."""

    learning_rate: float = 2e-4
    betas: Sequence[float] = (0.9, 0.999)
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.0
    """Added to the gradient, times the weight: the gradient of half of it times the squared weights, as a
    part of the loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas={list(self.betas)} must be two numbers in [0, 1)")
        self.check_at_least_zero("epsilon", "weight_decay")

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        first, second = self.betas
        return torch.optim.Adam(
            parameters,
            lr=self.learning_rate,
            betas=(first, second),
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            fused=True,
        )


@dataclass(frozen=True, kw_only=True)
class Muon(Recipe):
    """Muon for convolutions, Adam for the rest, for short trainings: see `anomaly_gan.training.muon`."""

    learning_rate: float = 1e-3
    momentum: float = 0.9
    """Of the convolutions' gradients."""
    step: float = 2.0
    """Root mean square of a step of a convolution's weights, in learning rates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum={self.momentum} must be in [0, 1)")
        if self.step <= 0:
            raise UserError(f"step={self.step} must be above 0")

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return MuonAndAdam(
            parameters, lr=self.learning_rate, momentum=self.momentum, step=self.step, fused=True
        )


@dataclass(frozen=True, kw_only=True)
class SGD(Recipe):
    """SGD with momentum: the optimizer inside CSI's LARS, without the layer-wise rates."""

    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_zero("momentum", "weight_decay")
        if self.nesterov and not self.momentum:
            raise UserError("nesterov=true needs a momentum above 0")

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )


@dataclass(frozen=True, kw_only=True)
class LARS(Recipe):
    """CSI's released optimizer: LARS (You et al., 2017) over SGD, layer-wise for every parameter."""

    learning_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 1e-6
    trust_coefficient: float = 0.001
    waits_for_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_zero("momentum", "weight_decay", "trust_coefficient")
        if importlib.util.find_spec("timm") is None:
            raise UserError("LARS comes from timm: pip install 'anomaly-gan[lars]'")

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        from timm.optim import Lars

        return Lars(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            trust_coeff=self.trust_coefficient,
            always_adapt=True,  # and not only where weights decay
        )


def make_capturable(optimizers: Iterable[torch.optim.Optimizer], device: torch.device) -> None:
    """Let steps of `optimizers` be recorded as graphs: what a graph reads has to lie on the device."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = torch.tensor(group["lr"], device=device)
        group["capturable"] = device.type == "cuda"


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give `optimizer` a learning rate, in place where graphs read it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def move_rates(optimizers: Iterable[torch.optim.Optimizer], device: torch.device) -> None:
    """Move learning rates that graphs read to the device: from a checkpoint they come on the CPU."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if isinstance(group["lr"], Tensor):
            group["lr"] = group["lr"].to(device)
