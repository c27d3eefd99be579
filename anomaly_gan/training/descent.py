"""The gradient of one phase: its terms, weighed and added up, and a look at whether they are numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from anomaly_gan.distributed import average_
from anomaly_gan.errors import UserError
from anomaly_gan.networks.modes import frozen
from anomaly_gan.precision import without_autocast
from anomaly_gan.training.phases import Phase, PhaseSettings, Step, Terms

Settings = Mapping[str, PhaseSettings]
"""By phase; a phase without has weights of one and no clip."""


class Taken(NamedTuple):
    """A step that was taken before anybody looked whether its loss and gradient are numbers."""

    iteration: int
    phase: Phase
    terms: Terms


def gradient(
    phase: Phase,
    step: Step,
    networks: Mapping[str, nn.Module],
    settings: Settings,
    backward: Callable[[Tensor], None],
) -> Terms:
    """Leave the gradient of `phase`, over all processes, in the weights of the networks that it trains.

    Args:
        phase: which.
        step: what it is given.
        networks: all of the method's; those that the phase does not train stay bit for bit.
        settings: of the phases.
        backward: does the backward pass of a loss.

    Returns:
        The terms, detached, their weighed sum `total` and the gradient's norm before clipping, by
        "phase/name".
    """
    device = step.images.device
    with frozen(network for name, network in networks.items() if name not in phase.trains):
        terms = {_full(phase, name): term for name, term in phase.objective(step).items()}
        # Lightning has autocast on around all of a step; a backward pass goes by the forward one.
        with without_autocast(device):
            backward(step.shard.weight * _total(terms, settings))
    terms = {name: step.shard.weight * term.detach() for name, term in terms.items()}
    parameters = [p for name in phase.trains for p in networks[name].parameters()]
    gradients = [p.grad for p in parameters if p.grad is not None]
    average_([*gradients, *terms.values()])
    norm = get_total_norm(gradients)
    largest = settings[phase.name].gradient_clip if phase.name in settings else None
    if largest is not None:
        clip_grads_with_norm_(parameters, largest, norm)
    return terms | {f"{phase.name}/total": _total(terms, settings), f"{phase.name}/gradient_norm": norm}


def finite(phase: Phase, terms: Terms) -> Tensor:
    """Whether loss and gradient of a step are numbers."""
    return torch.isfinite(terms[f"{phase.name}/total"]) & torch.isfinite(terms[f"{phase.name}/gradient_norm"])


def check_finite(taken: Sequence[Taken], settings: Settings) -> None:
    """Look at several steps at once, not to wait for the device in each.

    Args:
        taken: the steps.
        settings: of the phases that have some, where a gradient can be clipped.

    Raises:
        UserError: one had a loss or gradient that is not a number.
    """
    if not taken or torch.stack([finite(step.phase, step.terms) for step in taken]).all():
        return
    iteration, phase, values = next(step for step in taken if not finite(step.phase, step.terms))
    terms = ", ".join(f"{name} {float(value):.3g}" for name, value in values.items())
    clipped = f"method.phases.{phase.name}.gradient_clip=1 or " if phase.name in settings else ""
    raise UserError(
        f"training ended at iteration {iteration + 1}: the loss or gradient of phase {phase.name!r} is "
        f"not finite ({terms}); checkpoints/last.ckpt in the run's folder, if it is there, is from "
        f"before; try a lower optimizer.learning_rate, {clipped}method.on_non_finite=skip"
    )


def _total(terms: Terms, settings: Settings) -> Tensor:
    return torch.stack([_weight(name, settings) * term for name, term in terms.items()]).sum()


def _weight(term: str, settings: Settings) -> float:
    phase, name = term.split("/")
    if phase not in settings:
        return 1.0
    if name not in settings[phase].weights:
        raise UserError(f"method.phases.{phase}.weights.{name} must be given")
    return settings[phase].weights[name]


def _full(phase: Phase, term: str) -> str:
    """A term's name with its phase's, which a phase made of several has given already."""
    return term if "/" in term else f"{phase.name}/{term}"
