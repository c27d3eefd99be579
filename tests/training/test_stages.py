"""Stages on a toy: an autoencoder, then a one-class network that starts as its encoder, about a centre."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from anomaly_gan.cli import sizes
from anomaly_gan.cli.trainer import fit, make_trainer
from anomaly_gan.data.digits import Digits
from anomaly_gan.data.module import OneClassData
from anomaly_gan.distributed import average_
from anomaly_gan.errors import UserError
from anomaly_gan.launch import in_processes
from anomaly_gan.methods.base import Method
from anomaly_gan.scoring.raw_pixels import RawPixels
from anomaly_gan.sharding import Shard
from anomaly_gan.training.loop import Rngs
from anomaly_gan.training.optimizers import SGD, Adam, Recipe
from anomaly_gan.training.phases import Phase, PhaseSettings, Stage, StageSettings, Step, Terms
from anomaly_gan.training.timetable import Timetable
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.types import ImageBatches, Images

SETTINGS = {
    "accelerator": "cpu",
    "devices": 1,
    "precision": "32-true",
    "compile": False,
    "cuda_graphs": False,
}

PIXELS, FEATURES = 16 * 16, 4

SHARES = {"autoencoder": StageSettings(share=3), "one_class": StageSettings(share=1.0)}


@dataclass(frozen=True)
class CentredStep(Step):
    centre: Tensor

    def rows(self) -> Tensor:
        return self.images.flatten(1)


def reconstruct(step: CentredStep) -> Terms:
    encoder, decoder = step.networks["encoder"], step.networks["decoder"]
    return {"error": (decoder(encoder(step.rows())) - step.rows()).square().mean()}


def shrink(step: CentredStep) -> Terms:
    return {"distance": (step.networks["one_class"](step.rows()) - step.centre).square().mean()}


class Toy(Method):
    """`decoder` is trained in both stages, so that it would show if a stage went on with an old optimizer."""

    centre: Tensor

    def __init__(self, total_iterations: int, **training: Any):
        torch.manual_seed(0)
        networks = {
            "encoder": nn.Linear(PIXELS, FEATURES, bias=False),
            "decoder": nn.Linear(FEATURES, PIXELS, bias=False),
            "one_class": nn.Linear(PIXELS, FEATURES, bias=False),
        }
        both = ("encoder", "decoder")
        plan = (
            Stage("autoencoder", (Phase("reconstruct", both, reconstruct),)),
            Stage(
                "one_class",
                (Phase("shrink", ("one_class",), shrink), Phase("refine", ("decoder",), reconstruct)),
                begin=self.begin,
            ),
        )
        super().__init__(
            name="toy",
            scorer=RawPixels(image_size=16, channels=1),
            networks=networks,
            plan=plan,
            total_iterations=total_iterations,
            log_every_iterations=1,
            **{"optimizer": Adam(learning_rate=1e-2), "stages": SHARES} | training,
        )
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.begun: list[int] = []

    def begin(self, normal: ImageBatches) -> None:
        self.begun.append(self.iteration)
        self.networks["one_class"].load_state_dict(self.networks["encoder"].state_dict())
        rows = torch.cat(list(normal)).flatten(1)
        total, count = self.networks["one_class"](rows).sum(0), rows.new_tensor([len(rows)])
        average_([total, count])
        self.centre.copy_(total / count)

    def make_step(self, images: Images, shard: Shard, rng: Rngs) -> CentredStep:
        return CentredStep(dict(self.networks.items()), images, shard, rng("step"), self.centre)


def digits(iterations: int, batch_size: int = 4) -> OneClassData:
    data = Digits(normal_class=3, batch_size=batch_size, total_images=batch_size * iterations, limit=40)
    data.setup()
    return data


def train(
    toy: Toy, folder: Path, *callbacks: pl.Callback, devices: int = 1, resume: Path | None = None
) -> None:
    data = digits(toy.total_iterations)
    if resume is not None:
        data.start_iteration = int(resume.stem)
    toy.save_hyperparameters({"name": "toy"}, logger=False)  # which a checkpoint has to have
    settings = SETTINGS | {"devices": devices}
    trainer = make_trainer(settings, default_root_dir=folder, callbacks=list(callbacks), logger=False)
    fit(trainer, toy, data, resume)


class Record(pl.Callback):
    """Of each iteration: the learning rates of the stage's optimizers, the phases that ran; a checkpoint."""

    def __init__(self) -> None:
        self.rates: list[dict[tuple[str, str], float]] = []
        self.ran: list[list[str]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        optimizers = pl_module._optimizers.items()
        self.rates.append(
            {key: of.param_groups[0]["lr"] for key, of in optimizers if key[0] == pl_module.stage.name}
        )
        self.ran.append([name.split("/")[1] for name in pl_module.terms if name.endswith("/total")])
        if trainer.is_global_zero:
            trainer.save_checkpoint(Path(trainer.default_root_dir) / f"{pl_module.iteration + 1}.ckpt")


def test_stages_run_in_their_order_for_their_share_of_the_iterations(tmp_path: Path) -> None:
    record = Record()
    toy = Toy(8)
    train(toy, tmp_path, record)
    assert record.ran == [["reconstruct"]] * 6 + [["shrink", "refine"]] * 2
    assert toy.begun == [6]


@pytest.mark.parametrize("shares", [[1.0], [3, 1.0], [1e-3, 1.0, 1e3], [8, 1, 8], [0.1] * 7])
@pytest.mark.parametrize("total", [1, 2, 7, 10, 1000])
def test_every_iteration_belongs_to_one_stage_and_a_stage_is_as_long_as_its_share(
    total: int, shares: list[float]
) -> None:
    timetable = Timetable(total, shares)
    stages = [timetable.stage(iteration) for iteration in range(total)]
    assert stages == sorted(stages)
    for stage, share in enumerate(shares):
        own = [iteration for iteration in range(total) if stages[iteration] == stage]
        # One for rounding, and one that a stage of next to nothing takes.
        assert abs(len(own) - total * share / sum(shares)) <= 2
        assert own or total < len(shares)
        assert [timetable.progress(iteration) for iteration in own] == [i / len(own) for i in range(len(own))]
        assert not own or timetable.start(stage) == own[0]


def naive(recipe: Recipe, batches: list[Images], normal: Images, border: int) -> dict[str, Tensor]:
    """The same training as a plain loop: the weights and the centre that it ends with."""
    toy = Toy(len(batches))
    encoder, decoder, one_class = (toy.networks[name] for name in ("encoder", "decoder", "one_class"))

    def optimizer(*networks: nn.Module) -> torch.optim.Optimizer:
        return recipe.optimizer([weight for network in networks for weight in network.parameters()])

    def descend(of: torch.optim.Optimizer, rate: float, loss: Callable[[], Tensor]) -> None:
        of.zero_grad()
        loss().backward()
        of.param_groups[0]["lr"] = rate
        of.step()

    def error(rows: Tensor) -> Tensor:
        return (decoder(encoder(rows)) - rows).square().mean()

    first = optimizer(encoder, decoder)
    for iteration, images in enumerate(batches[:border]):
        rows = images.flatten(1)
        descend(first, recipe.rate(iteration / border), lambda rows=rows: error(rows))
    with torch.no_grad():
        one_class.weight.copy_(encoder.weight)
        centre = (normal.flatten(1) @ encoder.weight.T).mean(0)
    shrinks, refines = optimizer(one_class), optimizer(decoder)
    for iteration, images in enumerate(batches[border:]):
        rows, rate = images.flatten(1), recipe.rate(iteration / (len(batches) - border))
        descend(shrinks, rate, lambda rows=rows: (one_class(rows) - centre).square().mean())
        descend(refines, rate, lambda rows=rows: error(rows))
    return dict(toy.networks.state_dict()) | {"centre": centre}


def test_each_stage_has_new_optimizers_and_a_schedule_of_its_own(tmp_path: Path) -> None:
    recipe = Adam(learning_rate=1e-2, warmup_fraction=0.5, milestones=[0.75])
    toy, record = Toy(16, optimizer=recipe), Record()
    train(toy, tmp_path, record)
    first = [("autoencoder", "encoder"), ("autoencoder", "decoder")]
    second = [("one_class", "decoder"), ("one_class", "one_class")]
    expected = [dict.fromkeys(first, recipe.rate(i / 12)) for i in range(12)]
    expected += [dict.fromkeys(second, recipe.rate(i / 4)) for i in range(4)]
    assert record.rates == expected
    data = digits(16)
    batches = [to_float(batch.images) for batch in data.train_dataloader()]
    normal = to_float(data.train[range(len(data.train))].images)
    by_hand = naive(recipe, batches, normal, 12)
    torch.testing.assert_close(toy.centre, by_hand.pop("centre"))
    torch.testing.assert_close(dict(toy.networks.state_dict()), by_hand)


def test_a_stage_begins_once_wherever_the_training_is_resumed(tmp_path: Path) -> None:
    whole = Toy(8)
    train(whole, tmp_path, Record())
    for done in range(1, 8):
        toy = Toy(8)
        train(toy, tmp_path, resume=tmp_path / f"{done}.ckpt")
        # At its border it has not yet begun.
        assert toy.begun == ([6] if done <= 6 else [])
        for name, value in whole.state_dict().items():
            assert torch.equal(toy.state_dict()[name], value), (done, name)


def test_a_networks_recipe_goes_before_its_stages_and_that_before_the_methods(tmp_path: Path) -> None:
    of_stage, of_network = SGD(learning_rate=2e-2), SGD(learning_rate=3e-2)
    stages = {"autoencoder": StageSettings(share=1), "one_class": StageSettings(share=1, optimizer=of_stage)}
    toy, record = Toy(2, stages=stages, optimizers={"decoder": of_network}), Record()  # the method's: Adam
    train(toy, tmp_path, record)
    assert record.rates == [
        {("autoencoder", "encoder"): 1e-2, ("autoencoder", "decoder"): 3e-2},
        {("one_class", "decoder"): 3e-2, ("one_class", "one_class"): 2e-2},
    ]
    made = dict(zip(toy._trained(), toy.configure_optimizers(), strict=True))
    by_adam = [key for key, of in made.items() if isinstance(of, torch.optim.Adam)]
    assert by_adam == [("autoencoder", "encoder")]


def test_a_phase_ends_before_its_stop_and_a_stages_iterations_are_counted_from_the_start(
    tmp_path: Path,
) -> None:
    phases = {
        "reconstruct": PhaseSettings({"error": 1.0}, start_iteration=1, stop_iteration=3),
        "refine": PhaseSettings({"error": 1.0}, stop_iteration=7),
    }
    record = Record()
    train(Toy(8, phases=phases), tmp_path, record)
    assert record.ran == [[], ["reconstruct"], ["reconstruct"], [], [], [], ["shrink", "refine"], ["shrink"]]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"stages": {"one_clas": StageSettings()}}, r"method\.stages\.one_clas.*one_class"),
        ({"optimizers": {"decodr": Adam()}}, r"method\.optimizers\.decodr.*decoder"),
        ({"stages": {"one_class": StageSettings(share=0)}}, r"method\.stages\.one_class\.share=0"),
        ({"phases": {"shrink": PhaseSettings({}, stop_iteration=-1)}}, r"stop_iteration=-1"),
    ],
)
def test_settings_that_can_be_of_no_use_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        Toy(8, **settings)


def test_a_time_is_divided_among_the_stages_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def takes(seconds: float, objective: Callable[[Any], Terms]) -> Callable[[Any], Terms]:
        def slow(step: Any) -> Terms:
            nonlocal now
            now += seconds
            return objective(step)

        return slow

    def toy(config: Any, described: dict[str, Any]) -> Toy:
        late = PhaseSettings({"distance": 1.0}, start_iteration=999)  # it is timed all the same
        return Toy(described["iterations"], phases={"shrink": late})

    monkeypatch.setattr("test_stages.reconstruct", takes(1.0, reconstruct))
    monkeypatch.setattr("test_stages.shrink", takes(10.0, shrink))
    monkeypatch.setattr(sizes, "build_method", toy)
    monkeypatch.setattr(sizes, "time", SimpleNamespace(perf_counter=lambda: now))
    schedule = {"minutes": 20, "minutes_of": "run", "at_most": None}
    config = {"callbacks": {}, "schedule": schedule, "trainer": SETTINGS}
    data = digits(8)
    images = sizes.images_in_time(config, data, None, make_trainer, 0.0)
    # Two stages of seven iterations were timed. One of the first takes 1 s, of the second 10 and 1.
    left = 20 * 60 - 7 * (1 + 11) - sizes.PICTURES_SECONDS
    assert images == data.batch_size * sizes._two_digits(left / ((3 * 1 + 1 * 11) / 4))
    assert data.total_images == 8 * data.batch_size


def share(folder: Path, processes: int) -> None:
    """In float64, in which rounding does not grow into differences; each process keeps what it has."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    toy = Toy(8)
    train(toy, folder, devices=processes)
    torch.save({"state": toy.state_dict(), "begun": toy.begun}, folder / f"{processes} {os.environ['RANK']}")


@pytest.mark.slow
def test_two_processes_begin_a_stage_together(tmp_path: Path) -> None:
    for processes in (1, 2):
        in_processes(share, (tmp_path, processes), processes)
    alone, *shared = (torch.load(tmp_path / name) for name in ("1 0", "2 0", "2 1"))
    assert alone["state"]["centre"].any()
    for one in shared:
        assert one["begun"] == alone["begun"] == [6]
        torch.testing.assert_close(one["state"], alone["state"], rtol=1e-9, atol=1e-12)
