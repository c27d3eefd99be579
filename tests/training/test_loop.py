"""The loop that runs any plan of stages and phases, on two toy networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader
from watching import make_trainer, moved, state, train, watch

from anomaly_gan.data.image_set import Batch
from anomaly_gan.errors import UserError
from anomaly_gan.training.loop import PhasedTraining
from anomaly_gan.training.optimizers import SGD, Adam, Recipe
from anomaly_gan.training.phases import Phase, PhaseSettings, Stage, StageSettings, Step


class Toy(PhasedTraining):
    """Two small networks and phases that try to move what they may not."""

    def __init__(self, *stages: tuple[Phase, ...], recipe: Recipe | None = None, **settings: Any):
        def network() -> nn.Module:
            return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(3))

        networks = {"first": network(), "second": network()}
        for net in networks.values():
            net(torch.rand(2, 1, 16, 16))  # gives the lazy layer its size
        defaults: dict[str, Any] = {
            "networks": networks,
            "plan": [Stage(f"stage_{number}", phases) for number, phases in enumerate(stages)],
            "optimizer": recipe or Adam(learning_rate=1e-2),
            "optimizers": {},
            "phases": {},
            "stages": {},
            "seed": 0,
            "total_iterations": 6,
            "on_non_finite": "raise",
            "log_every_iterations": 1,
        }
        super().__init__(**defaults | settings)


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
    seen = watch(toy)
    train(toy, 2, tmp_path)
    expected = [
        ("one", {"first": True, "second": False}),
        ("two", {"first": False, "second": True}),
        ("all", {"first": True, "second": True}),
    ]
    assert [(name, {net: bool(what) for net, what in nets.items()}) for _, name, nets in seen] == expected * 2


def test_a_phase_runs_in_every_nth_iteration(tmp_path: Path) -> None:
    toy = Toy((Phase("each", ("first",), both), Phase("third", ("second",), both, every=3)))
    seen = watch(toy)
    train(toy, 6, tmp_path)
    assert [name for _, name, _ in seen] == ["each", "each", "each", "third"] * 2
    assert [iteration for iteration, name, _ in seen if name == "third"] == [3, 6]


def test_a_phase_waits_for_its_first_iteration(tmp_path: Path) -> None:
    toy = Toy((Phase("each", ("first",), both), Phase("second", ("second",), both, every=2)))
    toy.phase_settings = {
        "each": PhaseSettings({"both": 1.0}, start_iteration=1),
        "second": PhaseSettings({"both": 1.0}, start_iteration=3),
    }
    seen = watch(toy)
    train(toy, 6, tmp_path)
    # `start_iteration` counts from 0, as in "after so many iterations".
    assert [iteration for iteration, name, _ in seen if name == "each"] == [2, 3, 4, 5, 6]
    assert [iteration for iteration, name, _ in seen if name == "second"] == [4, 6]


def test_a_phase_ends_with_its_last_iteration(tmp_path: Path) -> None:
    toy = Toy((Phase("each", ("first",), both), Phase("second", ("second",), both, every=2)))
    toy.phase_settings = {
        "each": PhaseSettings({"both": 1.0}, start_iteration=1, stop_iteration=4),
        "second": PhaseSettings({"both": 1.0}, stop_iteration=4),
    }
    seen = watch(toy)
    train(toy, 6, tmp_path)
    assert [iteration for iteration, name, _ in seen if name == "each"] == [2, 3, 4]
    assert [iteration for iteration, name, _ in seen if name == "second"] == [2, 4]


def test_the_iteration_counts_batches_and_not_optimizer_steps(tmp_path: Path) -> None:
    toy = Toy((Phase("one", ("first",), both), Phase("two", ("second",), both)))
    seen = []
    toy.on_train_batch_start = lambda *_: seen.append(toy.iteration)  # type: ignore[method-assign]
    train(toy, 4, tmp_path)
    assert seen == [0, 1, 2, 3]
    assert toy.trainer.global_step == 8  # what Lightning counts


def test_the_learning_rate_follows_the_recipe_in_iterations(tmp_path: Path) -> None:
    recipe = Adam(learning_rate=1.0, warmup_fraction=0.5, warmup_start=0.0, decay="cosine")
    toy = Toy((Phase("one", ("first",), both), Phase("two", ("second",), both)), recipe=recipe)
    rates = []
    toy.on_train_batch_end = lambda *_: rates.append(  # type: ignore[method-assign]
        [optimizer.param_groups[0]["lr"] for optimizer in toy.optimizers()]
    )
    train(toy, 6, tmp_path)
    expected = [recipe.rate(i / 6) for i in range(6)]
    assert torch.tensor(rates).T.tolist() == [pytest.approx(expected)] * 2


def test_a_weight_scales_its_terms_gradient(tmp_path: Path) -> None:
    displacements = []
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        toy = Toy(
            (Phase("one", ("first",), both),),
            recipe=SGD(learning_rate=1e-2, weight_decay=0.0),
            phases={"one": PhaseSettings({"both": weight})},
        )
        before = state(toy.networks["first"])
        train(toy, 1, tmp_path)
        after = toy.networks["first"].state_dict()
        displacements.append(after["3.weight"] - before["3.weight"])
    assert not displacements[0].any()
    assert displacements[1].any()
    torch.testing.assert_close(displacements[2], 3 * displacements[1], rtol=1e-3, atol=1e-7)


def test_a_phase_of_which_nothing_is_said_has_weights_of_one(tmp_path: Path) -> None:
    ends = []
    for phases in ({}, {"one": PhaseSettings({"both": 1.0})}):
        torch.manual_seed(0)
        toy = Toy((Phase("one", ("first",), both),), phases=phases)
        train(toy, 1, tmp_path)
        ends.append(state(toy.networks))
    assert not moved(*ends)


def test_a_term_whose_weight_is_missing_is_refused_by_its_name(tmp_path: Path) -> None:
    toy = Toy((Phase("one", ("first",), both),), phases={"one": PhaseSettings({"other": 1.0})})
    with pytest.raises(UserError, match=r"method\.phases\.one\.weights\.both must be given"):
        train(toy, 1, tmp_path)


def test_a_gradient_that_is_no_number_ends_the_training_too(tmp_path: Path) -> None:
    def root(step: Step) -> dict[str, torch.Tensor]:
        # Finite, with an infinite slope.
        return {"both": (step.networks["first"](step.images).mean() * 0).abs().sqrt()}

    toy = Toy((Phase("one", ("second",), both), Phase("square_root", ("first",), root)))
    with pytest.raises(
        UserError, match=r"iteration 1: .* phase 'square_root'.*square_root/gradient_norm nan"
    ):
        train(toy, 1, tmp_path)
    assert toy.terms["train/square_root/both"] == 0


def two_stages(**settings: Any) -> Toy:
    """The first network alone for a third of the training, then both."""
    begin, then = (Phase("one", ("first",), both),), (Phase("all", ("first", "second"), both),)
    return Toy(begin, then, stages={"stage_1": StageSettings(share=2.0)}, **settings)


def test_each_stage_runs_its_own_phases_for_its_share_of_the_iterations(tmp_path: Path) -> None:
    toy = two_stages()
    seen = watch(toy)
    train(toy, 6, tmp_path)
    moves = [(name, {net for net, what in nets.items() if what}) for _, name, nets in seen]
    assert moves == [("one", {"first"})] * 2 + [("all", {"first", "second"})] * 4


def test_a_stage_starts_its_schedule_and_its_optimizers_afresh(tmp_path: Path) -> None:
    recipe = Adam(learning_rate=1.0, warmup_fraction=0.5, warmup_start=0.0)
    toy = two_stages(recipe=recipe)
    rates, steps = [], []

    def look(*_: Any) -> None:
        (of_first,) = {name for stage, name in toy._optimizers if stage == "stage_0"}
        optimizer = toy._optimizers[toy.stage.name, of_first]
        rates.append(optimizer.param_groups[0]["lr"])
        steps.append({int(values["step"]) for values in optimizer.state.values()})

    toy.on_train_batch_end = look  # type: ignore[method-assign]
    train(toy, 6, tmp_path)
    expected = [recipe.rate(i / 2) for i in range(2)] + [recipe.rate(i / 4) for i in range(4)]
    assert rates == pytest.approx(expected)
    assert steps == [{1}, {2}, {1}, {2}, {3}, {4}]


def test_a_networks_own_optimizer_goes_before_its_stages_and_that_before_the_methods() -> None:
    own, of_stage, of_method = (SGD(learning_rate=rate) for rate in (1.0, 2.0, 3.0))
    toy = two_stages(recipe=of_method, optimizers={"second": own})
    toy.stage_settings["stage_1"] = StageSettings(optimizer=of_stage)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in toy.configure_optimizers()]
    assert rates == [3.0, 2.0, 1.0]  # first in its first stage, first in the second, second


class Bank(pl.LightningDataModule):
    """Three batches of an iteration each, and two of normal images."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader([self.batch(i) for i in range(3)], batch_size=None)

    def bank_loader(self, process: int, processes: int) -> DataLoader:
        return DataLoader([self.batch(i) for i in (10, 20)], batch_size=None)

    def batch(self, value: int) -> Batch:
        images = torch.full((4, 1, 16, 16), value, dtype=torch.uint8)
        return Batch(images, torch.zeros(4).long(), torch.arange(4))


def test_a_stage_begins_once_with_all_normal_images_and_before_any_of_its_steps(tmp_path: Path) -> None:
    toy = two_stages(total_iterations=3)
    seen: list[Any] = []
    toy.plan = tuple(
        replace(
            stage,
            begin=lambda images, stage=stage: seen.append(
                (toy.iteration, stage.name, [float(batch.mean() * 255) for batch in images])
            ),
        )
        for stage in toy.plan
    )
    watched = watch(toy)
    toy.on_train_batch_end = lambda *_: seen.append(watched[-1][1])  # type: ignore[method-assign]
    make_trainer(tmp_path).fit(toy, datamodule=Bank())
    bank = pytest.approx([10, 20], abs=1e-3)
    assert seen == [(0, "stage_0", bank), "one", (1, "stage_1", bank), "all", "all"]
