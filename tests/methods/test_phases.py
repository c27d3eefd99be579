"""Algorithm 1: the table, and that each line moves what it names and nothing else."""

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from anomaly_gan.algorithm import ABLATIONS, Phase
from anomaly_gan.data.image_set import Batch, in_memory
from anomaly_gan.losses.contrastive import nt_xent, shift_classification
from anomaly_gan.methods.phased import PhasedDetector
from anomaly_gan.objectives import Step, feature
from anomaly_gan.optimizers import Adam
from anomaly_gan.randomness import make_generator
from anomaly_gan.transforms.augment import Augment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews
from anomaly_gan.types import Images, Scores


def train(detector: PhasedDetector, iterations: int, folder: Path, **trainer: Any) -> None:
    raw = torch.randint(0, 256, (iterations, 4, 1, 16, 16), dtype=torch.uint8)
    data = [Batch(images, torch.zeros(4, dtype=torch.int64), torch.arange(4)) for images in raw]
    pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **trainer,
    ).fit(detector, DataLoader(data, batch_size=None))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(before[name], after[name]) for name in before)


def test_phases_follow_algorithm_1() -> None:
    assert [(p.name, p.trains, p.objective, p.every) for p in ABLATIONS["csi"]] == [
        ("feature", ("feature_extractor",), feature, 1)
    ]


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_every_phase_trains_networks_the_detector_has(make_detector, ablation: str) -> None:
    detector = make_detector(ablation=ablation)
    assert {name for phase in detector.phases for name in phase.trains} == set(detector.networks)


class Toy(PhasedDetector):
    """Two small networks and phases that try to move what they may not."""

    name, primary = "toy", "toy"

    def __init__(self, phases: tuple[Phase, ...], recipe: Adam | None = None):
        def network() -> nn.Module:
            return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))

        networks = {"first": network(), "second": network()}
        for net in networks.values():
            net(torch.rand(2, 1, 16, 16))  # gives the lazy layer its size
        super().__init__(
            phases=phases,
            networks=networks,
            views=ShiftedViews(Rotations(), Augment()),
            recipe=recipe or Adam(learning_rate=1e-2),
            total_iterations=6,
            temperature=0.5,
            weights={phase.name: {"both": 1.0} for phase in phases},
            seed=0,
            log_every_iterations=1,
        )
        self.snapshots: list[tuple[str, dict[str, bool]]] = []

    def descend(self, phase: Phase, step: Step) -> None:
        before = {name: state(network) for name, network in self.networks.items()}
        super().descend(phase, step)
        moved = {name: not same(before[name], state(network)) for name, network in self.networks.items()}
        self.snapshots.append((phase.name, moved))

    def fit_scorer(self, normal: Any) -> None:
        raise AssertionError("not scored")

    def score_all(self, images: Images) -> dict[str, Scores]:
        raise AssertionError("not scored")


def both(step: Step) -> dict[str, torch.Tensor]:
    return {"both": step.networks["first"](step.images).mean() + step.networks["second"](step.images).mean()}


def test_each_phase_changes_exactly_the_networks_it_names_bit_for_bit(tmp_path: Path) -> None:
    toy = Toy(
        (
            Phase("one", ("first",), both),
            Phase("two", ("second",), both),
            Phase("all", ("first", "second"), both),
        )
    )
    train(toy, 2, tmp_path)
    expected = [
        ("one", {"first": True, "second": False}),
        ("two", {"first": False, "second": True}),
        ("all", {"first": True, "second": True}),
    ]
    assert toy.snapshots == expected * 2


def test_a_phase_runs_in_every_nth_iteration(tmp_path: Path) -> None:
    toy = Toy((Phase("each", ("first",), both), Phase("third", ("second",), both, every=3)))
    train(toy, 6, tmp_path)
    assert [name for name, _ in toy.snapshots] == ["each", "each", "each", "third"] * 2


def test_the_iteration_counts_batches_and_not_optimizer_steps(tmp_path: Path) -> None:
    toy = Toy((Phase("one", ("first",), both), Phase("two", ("second",), both)))
    seen = []
    toy.on_train_batch_start = lambda *_: seen.append(toy.iteration)  # type: ignore[method-assign]
    train(toy, 4, tmp_path)
    assert seen == [0, 1, 2, 3]
    assert toy.trainer.global_step == 8  # what Lightning counts


def test_the_learning_rate_follows_the_recipe_in_iterations(tmp_path: Path) -> None:
    recipe = Adam(learning_rate=1.0, warmup_fraction=0.5, warmup_start=0.0, decay="cosine")
    toy = Toy((Phase("one", ("first",), both), Phase("two", ("second",), both)), recipe)
    rates = []
    toy.on_train_batch_end = lambda *_: rates.append(  # type: ignore[method-assign]
        [optimizer.param_groups[0]["lr"] for optimizer in toy.optimizers()]
    )
    train(toy, 6, tmp_path)
    expected = [recipe.rate(i / 6) for i in range(6)]
    assert torch.tensor(rates).T.tolist() == [pytest.approx(expected)] * 2


def test_a_weight_scales_its_terms_gradient(make_detector, tmp_path: Path) -> None:
    # Without its one weighted term a phase has nothing to descend.
    toy = Toy((Phase("one", ("first",), both),))
    toy.weights = {"one": {"both": 0.0}}
    before = [p.clone() for p in toy.networks["first"].parameters()]
    train(toy, 1, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, toy.networks["first"].parameters(), strict=True))


def test_the_feature_line_is_csi_over_the_shifted_views(make_detector) -> None:
    detector = make_detector()
    images = torch.rand(3, 1, 16, 16)

    def step() -> Step:
        generator = make_generator("cpu", 0)
        return Step(dict(detector.networks.items()), images, detector.views, 0.5, generator)

    detector.eval()
    terms = feature(step())
    views = detector.views.training(images, make_generator("cpu", 0))
    features = detector.networks["feature_extractor"](views)
    labels = torch.arange(4).repeat_interleave(3).repeat(2)
    assert len(views) == 2 * 4 * 3
    torch.testing.assert_close(terms["contrastive"], nt_xent(features.embedding, 0.5))
    torch.testing.assert_close(
        terms["shift_classification"], shift_classification(features.shift_logits, labels)
    )


def test_training_lowers_the_loss_on_real_digits(make_detector, tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images[:32] * 15).to(torch.uint8)[:, None]
    images = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    digits = in_memory(images, torch.zeros(32, dtype=torch.int64), "train", torch.arange(32))
    detector = make_detector(total_iterations=30)
    totals = []
    detector.on_train_batch_end = lambda *_: totals.append(float(detector.terms["train/feature/total"]))
    pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    ).fit(detector, DataLoader(digits, batch_size=None, sampler=torch.arange(32).view(4, 8).tolist() * 8))
    assert sum(totals[-8:]) < 0.9 * sum(totals[:8])
