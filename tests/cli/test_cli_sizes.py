"""How large a training is: by the device, by a budget, by the minutes it may take."""

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from anomaly_gan.cli import sizes
from anomaly_gan.cli.arguments import overrides
from anomaly_gan.cli.installed import config_folder
from anomaly_gan.cli.sizes import _two_digits, check_minutes
from anomaly_gan.errors import UserError


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "good").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "good" / f"{i}.png")
    return tmp_path / "good"


def only_run(name: str) -> Path:
    (run,) = Path("runs", name).iterdir()
    return run


def test_a_folder_needs_nothing_but_its_path(command, good: Path) -> None:
    outcome = command("train", "data=folder", "data.root=good", "schedule.total_images=64")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert "width=16: by rule, on a CPU" in lines
    assert "40 normal training images, no test images" in lines
    config = OmegaConf.load(only_run("folder") / "config.yaml")
    assert (config.width, config.scoring.width, config.scoring.networks.width) == (16, 16, 16)
    assert config.data.image_size == 32
    predicted = command("predict", f"checkpoint={only_run('folder')}", "inputs=good")
    assert predicted.code == 0


def test_what_nobody_gives_follows_the_device(command) -> None:
    settings = ("trainer.accelerator=cpu", "data.limit=1", "batch_size=8")  # refused after the choice
    outcome = command("train", *settings)
    assert "schedule.total_images=30000: by rule, on a CPU" in outcome.out
    given = command("train", *settings, "width=8", "schedule.total_images=8")
    assert "by rule" not in given.out


def test_a_number_of_passes_that_is_given_goes_before_the_rule() -> None:
    words = ["data=digits", "method=geom", "schedule.passes=5"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*words, "trainer.accelerator=cpu"])
    assert sizes.choose_sizes(config, words)[-1] == "schedule.passes=5: the length of the training"
    assert config.schedule.total_images is None


def test_passes_that_are_given_go_before_the_images_of_a_budget_and_two_lengths_are_refused() -> None:
    words = ["budget=fast", "schedule.passes=5", "schedule.total_images=null"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [*words[:2], "trainer.accelerator=cpu"])
    assert sizes.choose_sizes(config, words)[-1] == "schedule.passes=5: the length of the training"
    with pytest.raises(UserError, match=r"schedule\.minutes=None and schedule\.passes=5: two lengths"):
        sizes.choose_sizes(config, ["schedule.minutes=10", "schedule.passes=5"])


@pytest.mark.parametrize(
    ("budget", "images", "width"), [("fast", 6000, 16), ("standard", 30000, 16), ("paper", 400000, 64)]
)
def test_a_budget_sets_the_size_of_any_experiment(command, budget: str, images: int, width: int) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["experiment=digits_demo", f"budget={budget}"])
    sizes.choose_sizes(config)
    assert (config.data.total_images, config.scoring.width) == (images, width)
    header = command("train", "--help").out
    assert "budget=fast|standard|paper|10min" in header


@pytest.mark.slow
def test_a_run_sized_by_minutes_can_be_repeated_by_its_number_of_images(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = sizes._time_iterations
    # As on a slow machine, so that a busy one makes little difference.
    monkeypatch.setattr(sizes, "_time_iterations", lambda *a: (5.0, timed(*a)[1]))
    settings = ("train", "debug=fast", "ablation=csi_g", "callbacks.learning_curve.at_iterations=[]")
    outcome = command(*settings, "budget=2min", "name=timed")
    assert outcome.code == 0, outcome.err
    config = OmegaConf.load(only_run("timed") / "config.yaml")
    result = json.loads((only_run("timed") / "result.json").read_text())
    assert config.schedule.minutes is None
    images = config.schedule.total_images
    assert f"schedule.total_images={images}: by timing, for 2 minutes in all" in outcome.out
    assert images == config.data.total_images == result["iterations"] * config.batch_size
    assert 4 < result["iterations"] < 120 / 5
    last = only_run("timed") / "checkpoints" / "last.ckpt"
    on = command(*settings, "budget=2min", "name=on", f"resume={last}")
    assert f"schedule.total_images={images}" in on.out, on.err  # found before, not timed anew
    assert "its run is finished; evaluate it" in on.err
    on = command(*settings, "budget=3min", "name=on", f"resume={last}")
    assert "its run was timed for 2 minutes, this one for 3; give budget=2min" in on.err
    again = command(*settings, "budget=minutes", f"schedule.total_images={images}", "name=again")
    assert again.code == 0, again.err
    scores = [(only_run(name) / "scores.csv").read_text() for name in ("timed", "again")]
    assert scores[0] == scores[1]


def test_too_few_minutes_are_refused(command) -> None:
    outcome = command("train", "debug=fast", "budget=0.01min")
    assert outcome.code == 2
    assert "schedule.minutes=0.01: what comes beside the training takes" in outcome.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("minutes", [0, -1, "long", True, float("inf"), float("nan")])
def test_minutes_that_are_none_are_refused(minutes) -> None:
    with pytest.raises(UserError, match=r"schedule\.minutes"):
        check_minutes({"minutes": minutes, "minutes_of": "run", "at_most": None}, 1)


@pytest.mark.parametrize("at_most", [0, -1, 1.5, True, "many"])
def test_a_largest_number_of_images_that_is_none_is_refused(at_most) -> None:
    with pytest.raises(UserError, match=r"schedule\.at_most"):
        check_minutes({"minutes": 1, "minutes_of": "run", "at_most": at_most}, 1)


def test_what_minutes_are_of_is_checked() -> None:
    with pytest.raises(UserError, match=r"schedule\.minutes_of=day: valid: run, training"):
        check_minutes({"minutes": None, "minutes_of": "day", "at_most": None}, 1)


def test_minutes_are_for_one_process() -> None:
    check_minutes({"minutes": None, "minutes_of": "run", "at_most": None}, 2)
    check_minutes({"minutes": 1.5, "minutes_of": "run", "at_most": 100}, 1)
    with pytest.raises(UserError, match="one process"):
        check_minutes({"minutes": 1, "minutes_of": "training", "at_most": None}, 2)


def test_minutes_of_training_leave_out_what_comes_beside_it(command, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = sizes._time_iterations
    monkeypatch.setattr(sizes, "_time_iterations", lambda *a: (1.0, timed(*a)[1]))
    monkeypatch.setattr(sizes, "_time_scoring", lambda *_: 3600.0)
    refused = command("train", "debug=fast", "budget=0.1min")
    assert refused.code == 2
    outcome = command("train", "debug=fast", "budget=0.1min", "schedule.minutes_of=training", "batch_size=8")
    assert outcome.code == 0, outcome.err
    assert "schedule.total_images=48: by timing, for 0.1 minutes of training" in outcome.out  # six steps


def test_minutes_are_spent_on_no_more_images_than_are_good_for_a_method(
    command, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = sizes._time_iterations
    monkeypatch.setattr(sizes, "_time_iterations", lambda *a: (1.0, timed(*a)[1]))
    fast = ("train", "debug=fast", "budget=0.1min", "schedule.minutes_of=training", "batch_size=8")
    outcome = command(*fast, "schedule.at_most=20", "name=few")
    assert outcome.code == 0, outcome.err
    assert "schedule.total_images=20: the most (schedule.at_most), within 0.1 minutes" in outcome.out
    assert json.loads((only_run("few") / "result.json").read_text())["iterations"] == 3
    assert "schedule.total_images=48: by timing" in command(*fast, "schedule.at_most=50", "name=all").out


@pytest.mark.parametrize(("value", "rounded"), [(0.5, 0), (7.9, 7), (99.9, 99), (101.0, 100), (1987.0, 1900)])
def test_iterations_are_rounded_down_to_two_digits(value: float, rounded: int) -> None:
    assert _two_digits(value) == rounded


def test_a_budget_of_time_is_what_minutes_are_spent_on_and_how_many() -> None:
    spent = ["budget=minutes", "schedule.minutes=10"]
    assert overrides("train", ["budget=10min", "data=digits"]) == [*spent, "data=digits"]
    assert overrides("train", spent) == spent
    assert overrides("train", ["budget=fast"]) == ["budget=fast"]
