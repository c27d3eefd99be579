"""All of Algorithm 1 from the command line: what it leaves, and how it ends when a game goes wrong."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from anomaly_gan.cli.main import main
from anomaly_gan.methods.paper.algorithm import FULL
from anomaly_gan.methods.paper.method import AnomalyGAN
from anomaly_gan.methods.paper.objectives import Step
from anomaly_gan.progress import Progress

FULL_FAST = ("train", "debug=fast", "ablation=full", "callbacks.health.every_iterations=2")


@pytest.fixture(scope="module")
def trained_full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run of all of Algorithm 1 on digits."""
    runs = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["anomaly-gan", *FULL_FAST, f"paths.runs={runs}"])
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    (folder,) = (runs / "digits").iterdir()
    return folder


def test_a_run_draws_what_its_generator_makes_on_the_way_and_at_the_end(trained_full: Path) -> None:
    for folder in (trained_full / "figures", trained_full / "figures" / "iteration_2"):
        assert (folder / "synthetic.png").stat().st_size > 1000
        assert (folder / "reconstructions.png").stat().st_size > 1000
    assert (trained_full / "figures" / "losses.png").exists()


def test_the_result_says_how_near_synthetic_images_come(trained_full: Path) -> None:
    result = json.loads((trained_full / "result.json").read_text())
    found = result["generator"]
    assert found["network"] == "random_resnet18"
    assert found["counts"]["generated"] == found["counts"]["train"] == result["counts"]["train"]
    assert found["counts"]["test"] == result["counts"]["test_normal"]
    # Real images of the class come nearer than those of an untrained generator.
    name = "frechet_random_resnet18"
    assert found["floor"][name] < found["generated"][name]
    assert "fid" not in found["generated"]
    assert result["seconds"]["generator"] > 0


def test_the_log_has_every_line_of_the_algorithm_and_the_health_of_the_game(trained_full: Path) -> None:
    with (trained_full / "log" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0])
    for phase in FULL:
        assert {f"train/{phase.name}/total", f"train/{phase.name}/gradient_norm"} <= columns
    health = {
        name: [float(row[f"health/{name}"]) for row in rows if row[f"health/{name}"]]
        for name in (
            "discriminator_accuracy_real",
            "discriminator_accuracy_synthetic",
            "discriminator_accuracy_reconstructed",
            "latent_discriminator_accuracy_drawn",
            "latent_discriminator_accuracy_encoded",
            "encoded_mean",
            "encoded_variance",
            "encoded_normality_distance",
            "drawn_normality_distance",
            "diversity",
        )
    }
    assert all(len(values) == 2 for values in health.values())  # after 2 and 4 iterations
    assert all(0 <= value <= 1 for name in health if "accuracy" in name for value in health[name])
    assert all(value > 0 for value in health["diversity"])


def test_evaluating_gives_the_same_figures_of_the_generator(command, trained_full: Path) -> None:
    outcome = command("evaluate", f"checkpoint={trained_full}", "paths.runs=again")
    assert outcome.code == 0, outcome.err
    (folder,) = Path("again/evaluate").iterdir()
    again, before = (json.loads((f / "result.json").read_text()) for f in (folder, trained_full))
    for name, value in before["generator"]["generated"].items():
        assert again["generator"]["generated"][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    assert (folder / "figures" / "synthetic.png").exists()


@pytest.mark.slow
def test_measuring_the_generator_shows_its_progress(
    command, trained_full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "close", Progress._line)  # however short the work
    outcome = command("evaluate", f"checkpoint={trained_full}")
    assert outcome.code == 0, outcome.err
    for what in ("looking at synthetic images", "reading normal images", "reading test images"):
        assert f"{what}: " in outcome.err
        assert "(100%)" in outcome.err.split(f"{what}: ")[1].splitlines()[0]


def test_weights_of_inception_that_are_not_there_are_named_before_the_training(command) -> None:
    outcome = command(*FULL_FAST, "generator_metrics.inception_weights=nowhere.pth")
    assert outcome.code == 2
    assert "inception_weights=nowhere.pth" in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("every_minutes", "saved"),
    [(0.0, 2), (5.0, 1)],  # a run shorter than the interval has its first state
)
def test_a_loss_that_is_no_number_ends_the_run_with_its_phase_and_keeps_a_state_from_before(
    command, monkeypatch: pytest.MonkeyPatch, every_minutes: float, saved: int
) -> None:
    make_step = AnomalyGAN.make_step

    def poisoned(self: AnomalyGAN, *given: Any) -> Step:
        step = make_step(self, *given)
        return replace(step, images=step.images * float("nan")) if self.iteration == 2 else step

    monkeypatch.setattr(AnomalyGAN, "make_step", poisoned)
    outcome = command(*FULL_FAST, f"callbacks.checkpoint.every_minutes={every_minutes}")
    assert outcome.code == 2
    (line,) = (line for line in outcome.err.splitlines() if line.startswith("anomaly-gan: "))
    assert "training ended at iteration 3: the loss or gradient of phase 'feature' is not finite" in line
    assert "method.on_non_finite=skip" in line
    assert "checkpoints/last.ckpt" in line
    (folder,) = Path("runs/digits").iterdir()
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == saved
    assert all(value.isfinite().all() for value in state["state_dict"].values())
    assert not (folder / "result.json").exists()


ONE_HUGE_STEP = ["optimizer.learning_rate=1e30", "schedule.total_images=8"]


@pytest.mark.parametrize(
    "how",
    [
        ONE_HUGE_STEP,  # found when the run is finished
        ["method=csi_defects", "image_size=64", *ONE_HUGE_STEP],  # whose covariances have no root
        ["optimizer.learning_rate=1e12", "method.on_non_finite=skip"],  # found by the learning curve
        [*ONE_HUGE_STEP, "data=folder", "data.root=good", "data.image_size=16"],
    ],
)
def test_a_detector_whose_scores_are_no_numbers_is_refused_and_not_left(command, how: list[str]) -> None:
    Path("good").mkdir()
    for i in range(10):  # no test set
        Image.effect_noise((16, 16), 50).save(f"good/{i}.png")
    outcome = command("train", "debug=fast", *how)
    assert outcome.code == 2, outcome
    (line,) = (line for line in outcome.err.splitlines() if line.startswith("anomaly-gan: "))
    assert "scores are not numbers" in line
    assert "optimizer.learning_rate" in line
    assert "Traceback" not in outcome.err
    (folder,) = Path("runs").glob("*/*")
    assert not {"detector.ckpt", "scores.csv", "result.json"} & {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_collapse_ends_the_run_or_is_noted(command) -> None:
    often = ("callbacks.health.every_iterations=1", "callbacks.health.collapse_below=100.0")
    outcome = command(*FULL_FAST[:3], *often, "callbacks.health.on_collapse=note", "name=noted")
    assert outcome.code == 0, outcome.err
    (folder,) = Path("runs/noted").iterdir()
    (note,) = (n for n in json.loads((folder / "result.json").read_text())["notes"] if "collapsed" in n)
    assert "phase 'adversarial', iteration 3" in note
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)  # it went on, and was kept
    ended = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
    assert ended == json.loads((folder / "result.json").read_text())["iterations"]
    outcome = command(*FULL_FAST[:3], *often, "name=ended")
    assert outcome.code == 2
    assert "the generator collapsed (phase 'adversarial', iteration 3)" in outcome.err
    assert "callbacks.health.on_collapse=note" in outcome.err


def test_nothing_is_saved_to_resume_from_once_the_generator_seems_to_collapse(command) -> None:
    often = ("callbacks.health.every_iterations=2", "callbacks.health.collapse_below=100.0")
    often += ("callbacks.checkpoint.every_minutes=0.0", "schedule.total_images=48")
    outcome = command(*FULL_FAST[:3], *often, "name=mine")
    assert outcome.code == 2  # at the third check, after 6 iterations; the first was after 2
    (folder,) = Path("runs/mine").iterdir()
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("taken_out", ["health", "loss_history", "pictures", "learning_curve", "checkpoint"])
def test_a_callback_can_be_taken_out(command, taken_out: str) -> None:
    # What takes its settings from it goes with it.
    also = ["callbacks.pictures.at_iterations=[]"] if taken_out == "learning_curve" else []
    outcome = command("train", "debug=fast", "ablation=csi_g", f"~callbacks.{taken_out}", *also)
    assert outcome.code == 0, outcome.err


def test_a_late_first_phase_trains_and_is_drawn(command) -> None:
    late = ("method.phases.feature.start_iteration=9", "callbacks.learning_curve.at_iterations=[]")
    outcome = command("train", "debug=fast", *late)
    assert outcome.code == 0, outcome.err


def test_half_precision_that_overflows_is_refused(command) -> None:
    outcome = command("train", "debug=fast", "trainer.precision=16-mixed")
    assert outcome.code == 2
    assert "bf16-mixed" in outcome.err
