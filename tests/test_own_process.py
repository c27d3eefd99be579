"""`anomaly_gan.train`: the command, from a program, which stays as it was."""

import contextlib
import doctest
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

import anomaly_gan
from anomaly_gan import RunResult, UserError, own_process
from anomaly_gan.callbacks.training_checkpoint import read
from anomaly_gan.cli.arguments import overrides
from anomaly_gan.own_process import as_words

SMALL: dict[str, Any] = {"method": "raw_pixels", "debug": "fast", "data": "digits", "normal_class": "4"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run whose folder has an odd name."""
    folder = tmp_path_factory.mktemp("my runs, [2]=it's\\")
    return anomaly_gan.train(**SMALL, paths__runs=folder, resume="auto", verbose=False)


def test_the_result_is_the_run_s_own_file_and_the_run_has_every_file(run: RunResult, trained: Path) -> None:
    assert run.folder is not None
    assert (run.normal_class, run.dataset, run.method) == ("4", "digits", "raw_pixels")
    assert RunResult.read(run.folder) == run
    assert "folder" not in json.loads((run.folder / "result.json").read_text())
    of_command, of_program = ({path.name for path in folder.iterdir()} for folder in (trained, run.folder))
    assert of_program == of_command - {"checkpoints", "metrics.csv"}  # of a method that learns


def test_a_finished_run_is_found_again_with_resume_auto_and_leaves_the_process_as_it_was(
    run: RunResult,
) -> None:
    def process() -> list[Any]:
        handlers = [signal.getsignal(number) for number in signal.valid_signals() - {9, 19}]
        loggers = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
        states = [np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
        return [dict(os.environ), list(warnings.filters), handlers, loggers, states, sys.argv[:], sys.path[:]]

    assert run.folder is not None
    found, before = [], process()

    def work() -> None:
        runs = run.folder.parent.parent  # type: ignore[union-attr]
        found.append(anomaly_gan.train(**SMALL, paths__runs=runs, resume="auto", verbose=False))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert process() == before
    assert found == [run]
    assert found[0].folder == run.folder


def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^imagesize: no such setting; did you mean image_size"):
        anomaly_gan.train(imagesize=3)
    for wrong, why in (
        ({"sweep": "all_classes"}, "one run"),
        ({"hydra__mode": "MULTIRUN"}, "one run"),
        ({"method": "auto"}, "method=auto"),
        ({"data": {"root": tmp_path}}, "data__NAME"),
        ({"seed": object()}, "type object"),
    ):
        with pytest.raises(UserError, match=why):
            anomaly_gan.train(**wrong)
    assert capfd.readouterr() == ("", "")


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: "${" not in text),
)  # fmt: skip


@settings(deadline=None)
@given(VALUES)
@example("it's\\")
@example("\\'")
@example("4")
@example("null")
@example("a,b")
def test_the_command_line_reads_a_value_as_the_value(value: Any) -> None:
    texts = ("data.root",) if value is None or isinstance(value, str) else ()
    for key in (*texts, "seed"):  # one that is a text as it stands, and one in Hydra's grammar
        (word,) = overrides("train", as_words({key.replace(".", "__"): value}))
        (parsed,) = OverridesParser.create().parse_overrides([word])
        assert parsed.key_or_group == key
        assert parsed.value() == value
        assert type(parsed.value()) is type(value)


def test_lists_paths_and_numpy_s_numbers_are_written_as_what_they_are() -> None:
    assert as_words({"a__b": [1, "x y", None], "p": Path("/a b"), "n": np.int64(3), "budget": "2.5min"}) == [
        "a.b=[1,'x y',null]", "p='/a b'", "n=3", "budget=2.5min"
    ]  # fmt: skip


PROGRAM = """
import signal, sys, anomaly_gan
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
settings = dict(data="digits", width=8, schedule__total_images=64 * 4000, batch_size=64, scoring__ensemble=0)
anomaly_gan.train(**settings, paths__runs=sys.argv[1], callbacks__checkpoint__every_minutes=0.0001)
"""


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_is_ended_takes_its_training_along_which_keeps_what_it_has(
    number: signal.Signals, tmp_path: Path
) -> None:
    def trainings() -> list[Path]:
        """The processes, but for the program's own, whose command line names this folder."""
        word = b"paths.runs=" + os.fsencode(tmp_path)  # which needs no quotes
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                found += [process] if word in (process / "cmdline").read_bytes() else []
        return found

    program = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: any(tmp_path.glob("digits/*/checkpoints/previous.ckpt")))
        assert len(trainings()) == 1
        program.send_signal(number)
        _, said = program.communicate(timeout=300)
    finally:
        program.kill()
    assert program.returncode == -number
    if number == signal.SIGINT:
        assert "the same command with resume=" in said  # the training's last word comes first
        assert said.splitlines()[-1] == "KeyboardInterrupt"
    until(lambda: not trainings())
    (run,) = tmp_path.glob("digits/2*")
    assert not (run / "result.json").exists()
    assert read(run / "checkpoints" / "last.ckpt")["hyper_parameters"]["method"]["name"] == "csi"


@pytest.mark.slow
def test_the_example_of_its_documentation_runs(tmp_path: Path) -> None:
    (test,) = doctest.DocTestFinder().find(own_process.train, "train", extraglobs={"runs": tmp_path})
    assert doctest.DocTestRunner().run(test).failed == 0
