"""Short trainings in which every step is watched: what it moves, bit for bit."""

import copy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from anomaly_gan.data.image_set import Batch
from anomaly_gan.training.loop import PhasedTraining
from anomaly_gan.training.phases import Phase, Step

State = dict[str, torch.Tensor]


def train(
    method: PhasedTraining, iterations: int, folder: Path, side: int = 16, precision: Any = "32-true"
) -> None:
    """Train on so many batches of four real digits of `side` pixels, a multiple of 8."""
    raw = torch.from_numpy(load_digits().images[: 4 * iterations] * 15).to(torch.uint8)
    times = side // 8
    raw = raw.repeat_interleave(times, 1).repeat_interleave(times, 2).view(iterations, 4, 1, side, side)
    data = [Batch(images, torch.zeros(4, dtype=torch.int64), torch.arange(4)) for images in raw]
    make_trainer(folder, precision).fit(method, DataLoader(data, batch_size=None))


def make_trainer(folder: Path, precision: Any = "32-true") -> pl.Trainer:
    """One that goes once through the data and says nothing."""
    return pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def state(module: nn.Module) -> State:
    return copy.deepcopy(module.state_dict())


def moved(before: State, after: State) -> set[str]:
    """The names of weights and buffers that are not bit for bit the same; a NaN is the same as a NaN."""
    return {
        name
        for name, value in before.items()
        if not torch.equal(value.nan_to_num(nan=7e7), after[name].nan_to_num(nan=7e7))
    }


def watch(method: PhasedTraining) -> list[tuple[int, str, dict[str, set[str]]]]:
    """Of every phase that runs: iteration, name, and what it moved in each network."""
    seen: list[tuple[int, str, dict[str, set[str]]]] = []
    descend = method.descend

    def watched(phase: Phase, step: Step) -> None:
        before = {name: state(network) for name, network in method.networks.items()}
        descend(phase, step)
        after = {name: moved(before[name], state(net)) for name, net in method.networks.items()}
        seen.append((method.iteration + 1, phase.name, after))

    method.descend = watched  # type: ignore[method-assign]
    return seen


def weights_and_buffers(network: nn.Module) -> tuple[set[str], set[str]]:
    weights = {name for name, _ in network.named_parameters()}
    return weights, set(network.state_dict()) - weights
