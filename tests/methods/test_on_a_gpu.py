"""Every method on tensors that pretend to be on a GPU: no device is mixed, and no step waits for the host.

A step is what `training_step` does in an iteration whose terms are not logged. It may read nothing from the
device, take no tensor from the host and draw nothing on it. Numbers that are arguments of a kernel (a
learning rate, a seed) travel with its launch and are free. What comes once a stage (its beginning) or once a
detector (its fit) is free, too; the looks at what is logged are counted below.
"""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pretended import DEVICES, Found, Recorder, half_precision, move, pretended
from recipes import METHODS, SMALL, composed, of_images, steps_of_all_phases, untrained
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomaly_gan import distributed
from anomaly_gan.callbacks.game_health import GameHealth
from anomaly_gan.callbacks.loss_history import LossHistory
from anomaly_gan.callbacks.progress import TrainingProgress
from anomaly_gan.cli.messages import options
from anomaly_gan.data.image_set import Batch
from anomaly_gan.explanation import occlusion
from anomaly_gan.methods.base import Method

SIDE, BATCH = 16, 8

OPTIONS = {
    "csi, blurred": ("csi", "method.views.augment.blur=true"),
    "csi, hellinger": ("csi", "score=hellinger"),
    "csi, whitened": ("csi", "score=whitened"),
    "csi, clipped": ("csi", "method.phases.feature.gradient_clip=1.0"),
    "csi, recalibrated in bf16": (
        "csi",
        "scoring.recalibrate_batch_norm=true",
        "scoring.precision=bf16-mixed",
    ),
    "full, by the recipe of minutes": ("full", "budget=minutes"),
    "full, averaged and augmented": (
        "full",
        "method.generator_average=0.999",
        "method.latents_per_image=2",
        "method.diff_augment.changes=[color,translation,cutout]",
        "method.adversarial=hinge",
    ),
    "full, shared, negatives": (
        "full",
        "method.share_generator_forward=true",
        "method.synthetic_as=negatives",
        "networks=standard",
    ),
}
"""What else a training can be told to do, beside the methods as they are shipped."""

CASES = {name: (name,) for name in METHODS} | OPTIONS


class NoTrainer(pl.Trainer):
    """What a method and callbacks ask a trainer for."""

    world_size, loggers, datamodule, fit_loop = 1, (), None, None  # type: ignore[assignment]

    def __init__(self, loader: DataLoader):
        self.datamodule = SimpleNamespace(bank_loader=lambda *_: loader)
        self.fit_loop: Any = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))


class Pretended:
    """A method on a pretended device, its optimizers, and batches of images.

    Args:
        device: of `pretended.DEVICES`, inside of which this is made.
        recorder: of what is found.
        built: the method on the CPU.
        graphs: whether optimizers are those of a training that is recorded.
    """

    def __init__(self, device: str, recorder: Recorder, built: Method, graphs: bool = False):
        self.recorder, self.built = recorder, built
        move(built, device)
        raw = torch.zeros(BATCH, built.scorer.channels, SIDE, SIDE, dtype=torch.uint8, device=device)
        self.batch = Batch(raw, torch.arange(BATCH), torch.arange(BATCH))
        self.images = torch.zeros(raw.shape, device=device)
        self.trainer = NoTrainer(DataLoader([self.batch], batch_size=None))
        built._trainer = self.trainer
        built.captured = {} if graphs else None
        optimizers = built.configure_optimizers()
        built.captured = None
        built.optimizers = lambda: optimizers  # type: ignore[method-assign, assignment]
        built.manual_backward = self._backward  # type: ignore[method-assign, assignment]
        self.begin, built._begin_stage = built._begin_stage, lambda: None  # type: ignore[method-assign]
        built.log_every_iterations = 1000

    def _backward(self, loss: Tensor) -> None:
        assert loss.requires_grad
        assert loss.dtype == torch.float32
        if loss.device.type != "cuda":
            loss.backward()
            return
        for parameter in self.built.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)

    def iterate(self, iteration: int) -> list[Found]:
        """One iteration; what was found in its step."""
        self.trainer.fit_loop.epoch_loop.total_batch_idx = iteration
        self.recorder.truth = False  # a stage that begins asks whether anything is wrong
        self.begin()
        self.recorder.truth = True
        self.recorder.found.clear()
        with half_precision(self.images.device.type):
            self.built.training_step(self.batch, iteration)
        return list(self.recorder.found)

    def all_steps(self) -> list[Found]:
        """All iterations but the last, whose terms are logged; what was found in their steps."""
        return [of for i in range(self.built.total_iterations - 1) for of in self.iterate(i)]


def small(case: str, channels: int = 3, *settings: str) -> Method:
    """The method of a case, with as many iterations as run all of its phases, and one more."""
    recipe, *others = CASES[case]
    config, data = composed(recipe, *SMALL, *others, *settings), of_images(SIDE, channels)
    steps = steps_of_all_phases(untrained(config, data))
    return untrained(config, data | {"iterations": steps + 1})


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_device_or_takes_anything_from_the_host(case: str, device: str) -> None:
    built = small(case, channels=3 if device == "cuda" else 1)
    if not built.learns:
        return
    with pretended(device) as recorder:
        training = Pretended(device, recorder, built, graphs=device == "cuda")
        found = training.all_steps()
    assert not found


OPTIMIZERS = options("optimizer")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_says_of_itself_whether_its_step_waits(name: str) -> None:
    built = small("csi", 3, f"optimizer={name}")
    with pretended("cuda") as recorder:
        training = Pretended("cuda", recorder, built, graphs=True)
        found = training.all_steps()
    assert bool(found) == (built.waits_for_device is not None)


def test_skipping_what_is_not_finite_waits_once_in_each_phase() -> None:
    built = small("full", 3, "method.on_non_finite=skip")
    with pretended("cuda") as recorder:
        training = Pretended("cuda", recorder, built)
        found = training.all_steps()
    assert built.waits_for_device
    steps = sum((built.total_iterations - 1) // phase.every for phase in built.plan[0].phases)
    assert Counter(of.kind for of in found) == {"sync": steps}


@pytest.mark.parametrize("case", METHODS)
def test_what_is_logged_is_read_in_one_piece_each(case: str) -> None:
    # The look at whether all steps were finite, the terms, and the health of a generator.
    built = small(case)
    if not built.learns:
        return
    health = GameHealth(every_iterations=1, collapse_below=0.0, on_collapse="raise")
    history, progress = LossHistory(), TrainingProgress()
    with pretended("cuda") as recorder:
        training = Pretended("cuda", recorder, built)
        training.all_steps()
        found = training.iterate(built.total_iterations - 1)
        assert [of.kind for of in found].count("sync") == len(found)
        assert len({of.where for of in found}) == 2
        recorder.found.clear()
        progress.progress = SimpleNamespace(advance=lambda note: None)  # type: ignore[assignment]
        for callback in (history, progress):
            callback.on_train_batch_end(training.trainer, built, None, training.batch, 0)
        assert not recorder.found
        health.on_train_batch_end(training.trainer, built, None, training.batch, 0)
    assert history.points[0].keys() > {"iteration"}
    assert len({of.where for of in recorder.found}) == (1 if built.generates else 0)
    assert {of.kind for of in recorder.found} <= {"sync"}


@pytest.mark.parametrize("case", CASES)
def test_scoring_takes_nothing_from_the_host_and_mixes_no_devices(case: str) -> None:
    built = small(case)
    with pretended("cuda") as recorder:
        training, scorer = Pretended("cuda", recorder, built), built.scorer
        scorer.fit([training.images, training.images[:3]])
        recorder.found.clear()
        scores = scorer.scores(training.images)
        exported = scorer(training.batch.images)
        assert not recorder.found
        occlusion(scorer, training.images[:1], scores[scorer.primary][:1].double())
        scorer.attribution(training.images, 2)
        if scorer.scores_places:
            scorer.maps(training.images)
        if scorer.generates:
            scorer.generate(5, "pictures")
        if scorer.reconstructs:
            scorer.reconstruct(training.images)
    assert scores[scorer.primary].device == exported.device == training.images.device


@pytest.mark.parametrize("device", DEVICES)
def test_batch_norm_over_several_processes_does_not_wait_either(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    monkeypatch.setattr(torch.distributed, "all_gather", lambda parts, own: None)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(4 * 14 * 14))
    with pretended(device) as recorder:
        move(network, device)
        distributed.synchronise_batch_norm(network)
        with half_precision(device):
            seen = network(torch.zeros(BATCH, 3, SIDE, SIDE, device=device))
        if device != "cuda":
            seen.square().mean().backward()
    assert not recorder.found
