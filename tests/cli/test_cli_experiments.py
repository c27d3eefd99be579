"""Experiments beside published figures follow the published protocol, and last as long as they say."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from anomaly_gan.cli.installed import config_folder
from anomaly_gan.cli.sizes import choose_sizes
from anomaly_gan.reporting.published import published

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))

IMAGES_OF_A_CLASS = {
    "cifar10": 5_000,
    "cifar10-jpeg": 5_000,
    "cifar100": 2_500,
    "fashion_mnist": 6_000,
    "imagenet30": 1_300,
}
"""Normal training images, by data set: as those who made them say."""

PASSES = re.compile(r"([\d,]+) passes over [a-z' ]*([\d,]+)")


def header(file: Path) -> str:
    """The comment that a configuration begins with, in one line."""
    lines = file.read_text().splitlines()[1:]
    return " ".join(
        line.lstrip("# ") for line in lines[: next(i for i, s in enumerate(lines) if s[:1] != "#")]
    )


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", list(overrides))


def axes(name: str) -> DictConfig:
    """What an experiment sweeps over."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        found = compose("train", [f"experiment={name}"], return_hydra_config=True)
    return found.hydra.sweeper.params or DictConfig({})


def experiment(name: str) -> tuple[DictConfig, str]:
    """Its configuration and header; of a table that of its runs of CSI."""
    swept = axes(name)
    chosen = [f"budget={swept.budget}"] if "budget" in swept else []
    chosen += ["method=csi"] if "csi" in str(swept.get("method", "")).split(",") else []
    return composed(f"experiment={name}", *chosen), header(config_folder() / "experiment" / f"{name}.yaml")


def length(config: DictConfig, images_of_a_class: int) -> int:
    """Images drawn over the training, on a CPU."""
    config.trainer.accelerator = "cpu"
    choose_sizes(config)
    return config.schedule.total_images or config.schedule.passes * images_of_a_class


def is_beside_published_figures(config: DictConfig, said: str) -> bool:
    """Somebody has published figures on its data, which reports show beneath it; or its header names some."""
    return bool(published(config.data.name or "")[0]) or bool(
        re.search(r"Published|Reference|[Rr]eproduce", said)
    )


def number(written: str) -> int:
    return int(written.replace(",", ""))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_stands_beside_published_figures_trains_on_every_normal_image(name: str) -> None:
    config, said = experiment(name)
    if is_beside_published_figures(config, said):
        assert config.data.calibration_fraction == 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_makes_as_many_passes_over_a_class_as_its_header_says(name: str) -> None:
    config, said = experiment(name)
    claims = PASSES.findall(said)
    if config.width == 64 and is_beside_published_figures(config, said):  # the paper's width
        assert claims, "of the paper's size, and it does not say how long it trains"
    for passes, images in claims:
        assert number(images) == IMAGES_OF_A_CLASS[config.data.name]
        assert length(config, number(images)) == number(passes) * number(images)


def test_the_rule_knows_what_reproduces_something_from_what_does_not() -> None:
    beside = {name for name in EXPERIMENTS if is_beside_published_figures(*experiment(name))}
    tables = {name for name in EXPERIMENTS if name.startswith(("table1", "ablation"))}
    assert len(tables) >= 4
    assert tables <= beside
    assert not beside & {"digits_demo", "digits_table", "folder_cpu"}


def test_the_budget_named_after_the_paper_says_what_it_is() -> None:
    config = composed("budget=paper", "data=cifar10")
    said = header(config_folder() / "budget" / "paper.yaml")
    passes, images = map(number, PASSES.findall(said)[0])
    assert images == IMAGES_OF_A_CLASS["cifar10"]
    assert length(config, images) == passes * images == 400_000
    assert (config.width, config.scoring.ensemble) == (64, 10)
    assert "The paper gives no length" in said


@pytest.mark.parametrize("name", ["table1_cpu", "fashion_mnist_table"])
def test_a_table_of_equal_minutes_counts_images_so_that_an_ended_run_gives_the_same(name: str) -> None:
    swept = axes(name)
    methods = swept.method.split(",")
    assert len(methods) == 9
    for method in methods:
        schedule = composed(f"experiment={name}", f"budget={swept.budget}", f"method={method}").schedule
        assert schedule.minutes is None
        assert schedule.total_images is not None, f"conf/budget/of/{swept.budget}_{method}.yaml"
