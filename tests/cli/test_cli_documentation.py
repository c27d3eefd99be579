"""What the documentation tells to type is typed here.

Commands of blocks are run, trainings and searches shortened by `debug=fast`. Composed and built, but not run,
are tables, which are many runs, trainings on data sets that have to be fetched, and trainings that a sentence
names (`test_cli_methods.py`). Of a benchmark the arguments are read; make's targets and pip's extras are
looked up.
"""

import argparse
import re
import runpy
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from documentation import PAGES, ROOT, Command, blocks, commands, name
from PIL import Image

OWN_TEST = {"docs/new_method.md"}
"""Pages whose commands need what they make first; `test_new_method.py` runs them."""

PYTHON = {
    "docs/detectors.md": "test_released.py",
    "docs/export.md": "export/test_export.py",
    "docs/new_method.md": "test_new_method.py",
    "docs/own_images.md": "test_own_images.py",
    "docs/start.md": "test_own_images.py",
}
"""Pages with blocks of Python, and the test that runs all of them."""

FETCHED = ("cifar", "imagenet", "fashion_mnist", "table1", "ablation_")
"""Data sets and experiments whose images are not here."""

SERVING = ("demo", "serve")
"""Commands that end when they are told to."""

TOLD = {str(command): command for page in PAGES if name(page) not in OWN_TEST for command in commands(page)}
"""Every command once, by its words."""


def told(*program: str) -> list[Command]:
    return [command for command in TOLD.values() if tuple(command.words[: len(program)]) == program]


def is_fetched(command: Command) -> bool:
    return any(
        word.startswith(("data=", "experiment=")) and word.partition("=")[2].startswith(FETCHED)
        for word in command.words
    )


def is_table(command: Command) -> bool:
    return "-m" in command.words or "experiment=digits_table" in command.words


def shortened(command: Command) -> tuple[str, ...]:
    """The arguments of a command of ours, so that it takes seconds."""
    kind, *given = command.words[1:]
    if kind not in ("train", "search"):
        return kind, *given
    short = [word for word in given if not word.startswith(("budget=", "schedule."))]
    return (kind, "debug=fast", *short) if kind == "train" else (kind, "debug=fast", *short, "--trials", "2")


RUN = {
    shortened(command)
    for command in told("anomaly-gan")
    if command.in_block
    and command.words[1] not in SERVING
    and not is_fetched(command)
    and not is_table(command)
}


def draw(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"tile{i:03d}_.png")


@pytest.fixture
def world(trained: Path, tmp_path: Path) -> None:
    """The folders that the pages speak of, in the current one."""
    for folder in ("my/good/images", "my/good/parts", "parts", "tiles/train/good", "cars"):
        draw(tmp_path / folder, 24)
    for folder in ("new/images", "new/parts", "tiles/test/good", "tiles/test/crack"):
        draw(tmp_path / folder, 3)
    (tmp_path / "labels.csv").write_text(
        "image,label\nnew/images/tile000_.png,good\nnew/images/tile001_.png,crack\n"
    )
    for kind in ("train/good", "test/good", "test/broken"):
        draw(tmp_path / "mvtec" / "bottle" / kind, 24)
    for run in ("my_run", "folder/2026-01-31_12-00-00-000000", "csi", "full", "all/csi", "search/a"):
        shutil.copytree(trained, tmp_path / "runs" / run)
    for run in ("full", "all/full"):
        shutil.copytree(trained, tmp_path / "runs" / run, dirs_exist_ok=True)
        result = tmp_path / "runs" / run / "result.json"
        result.write_text(result.read_text().replace('"method": "csi"', '"method": "full"'))
    shutil.copytree(ROOT / "results" / "fashion_mnist_cpu", tmp_path / "results" / "fashion_mnist_cpu")


def test_every_block_of_python_has_a_test_that_runs_it() -> None:
    assert {name(page) for page in PAGES if blocks(page, "python")} == set(PYTHON)
    for page, test in PYTHON.items():
        assert page.partition("/")[2] in (ROOT / "tests" / test).read_text()


def test_every_line_that_looks_like_a_command_is_one_that_is_tested_here() -> None:
    first = {command.words[0] for command in TOLD.values()}
    assert first == {"anomaly-gan", "make", "pip", "python", "git"}
    assert [str(command) for command in told("git")] == [
        "git clone https://github.com/abin24/Magnetic-tile-defect-datasets."
    ]


def test_a_training_on_what_has_to_be_fetched_says_so() -> None:
    unsaid = [
        str(command)
        for command in told("anomaly-gan", "train")
        if command.in_block and is_fetched(command) and not re.search("GPU|download", command.comment)
    ]
    assert not unsaid


@pytest.mark.slow
@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("words", sorted(RUN), ids=" ".join)
def test_a_command_of_the_documentation_runs(command, words: tuple[str, ...]) -> None:
    outcome = command(*words)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("told", [it for kind in SERVING for it in told("anomaly-gan", kind)], ids=str)
def test_a_command_that_serves_is_composed(command, told: Command) -> None:
    assert command(*told.words[1:], "--cfg", "job").code == 0


@pytest.mark.parametrize("told", told("python"), ids=str)
def test_a_benchmark_takes_the_arguments_of_the_documentation(
    told: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ReadError(Exception):
        pass

    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *given: list[str] | None) -> argparse.Namespace:
        parse(parser, *given)
        raise ReadError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", told.words[1:])
    with pytest.raises(ReadError):
        runpy.run_path(str(ROOT / told.words[1]), run_name="__main__")


def test_make_and_pip_have_what_the_documentation_asks_of_them() -> None:
    targets = (ROOT / "Makefile").read_text().partition(".PHONY:")[2].splitlines()[0].split()
    assert {command.words[1] for command in told("make")} <= set(targets)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in told("pip", "install"):
        for word in command.words[2:]:
            asked, _, names = word.rstrip("]").partition("[")
            assert asked in (".", "anomaly-gan", "-c", "constraints.txt"), word
            assert set(filter(None, names.split(","))) <= set(extras), word
