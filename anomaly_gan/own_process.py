"""A training from a program: `anomaly_gan.train`, the command `anomaly-gan train` in a process of its own.

Signals, warnings, logging, random numbers, malloc, the environment and Hydra's global state are the other
process's, so that this one may be a notebook, a server or one of many threads, and stays as it was.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_gan.errors import UserError
from anomaly_gan.lifetime import END_WITH, SIGNALS
from anomaly_gan.results import RunResult

TELL_FOLDER = "ANOMALY_GAN_TELL_FOLDER"
"""In the environment: the file into which a finished training writes where its run is."""

PLAIN = re.compile(
    r"(?!(?:true|false|null|inf|nan)$)(?:\.{0,2}/|[a-z_])[\w/.-]*|[\d.]+min", re.ASCII | re.IGNORECASE
)
"""A text that the command line reads as it stands."""

ONE_RUN = ("hydra", "launcher", "sweep")
"""What is for several runs, or for Hydra itself."""

COMPLAINT = "anomaly-gan: "
"""How the command's line begins that says what went wrong."""

KEPT = 30
"""Last lines of a process that ended by a fault of the program."""


def train(*, verbose: bool = True, **settings: Any) -> RunResult:
    """Train a detector as `anomaly-gan train` does: the same settings, engine and files.

    The training is a process of its own, so this may be called in notebooks and threads. It ends when this
    one ends, however that happens, and when the call is interrupted (Ctrl-C, a notebook's stop button). What
    it had learned by then is kept: with `resume="auto"` the same call goes on from there, and returns at
    once where the run is finished.

    Examples:
        >>> import anomaly_gan
        >>> result = anomaly_gan.train(data="digits", normal_class=4, method="raw_pixels", paths__runs=runs)
        >>> result.normal_class, result.folder.is_dir(), result.auroc.keys() == result.auroc_interval.keys()
        ('4', True, True)

    Args:
        verbose: whether what the command prints, its progress included, is written to standard error.
        **settings: those of the command line (`anomaly-gan train --help`), two underscores for each dot:
            `data__calibration_fraction=0.2`. Groups are chosen by name: `method="padim"`. Values are
            texts, paths, numbers, True, False, None, and lists of these.

    Returns:
        The run's `result.json`; `folder` is where it lies.

    Raises:
        UserError: a setting, the data or the machine cannot be used; or the process was ended from outside.
        RuntimeError: a fault of this program, with its traceback.
    """
    command = [sys.executable, "-P", "-m", "anomaly_gan", "train", *as_words(settings), "hydra.mode=RUN"]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "folder"
        environment = {
            END_WITH: str(os.getpid()),
            TELL_FOLDER: str(told),
            # It finds what this process finds, and in this order.
            "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
            "PYTHONUNBUFFERED": "1",  # both of its streams are one here, in their order
        }
        _run(command, os.environ | environment, verbose)
        return RunResult.read(Path(os.fsdecode(told.read_bytes())))


def tell_folder(folder: Path) -> None:
    """Say where a finished run is to the process that waits for it, if one does."""
    if TELL_FOLDER in os.environ:
        Path(os.environ[TELL_FOLDER]).write_bytes(os.fsencode(folder.absolute()))


def as_words(settings: Mapping[str, Any]) -> list[str]:
    """`settings` as they are written on the command line.

    Raises:
        UserError: one has no place in a single run, or a value that cannot be written.
    """
    words = []
    for name, value in settings.items():
        key = name.replace("__", ".")
        if key.partition(".")[0] in ONE_RUN:
            raise UserError(f"{key}: train() is one run; `anomaly-gan train -m` sweeps over several")
        if (key, value) == ("method", "auto"):
            raise UserError("method=auto: trains several methods; `anomaly-gan train method=auto` does that")
        if isinstance(value, Mapping):
            raise UserError(f"{key}: a mapping; give {name}__NAME=... for each setting in it")
        words.append(f"{key}={_written(key, value)}")
    return words


def _written(key: str, value: Any) -> str:
    """A value in the grammar of the command line."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_written(key, entry) for entry in value)}]"
    if not isinstance(value, str | os.PathLike):
        raise UserError(f"{key}: a value of type {type(value).__name__}; give a text, a number or a list")
    text = os.fspath(value)
    if PLAIN.fullmatch(text):
        return text
    # In quotes, backslashes count only before a quote, the closing one included.
    within = re.sub(r"(\\+)(?='|$)", lambda found: 2 * found[1], text).replace("'", r"\'")
    return f"'{within}'"


def _run(command: list[str], environment: Mapping[str, str], verbose: bool) -> None:
    """Run `command` to its end, relaying what it prints.

    Raises:
        UserError: what it complained of, or it was ended by a signal.
        RuntimeError: it ended by a fault of the program.
    """
    last: deque[str] = deque(maxlen=KEPT)
    complaint = ""

    def relay(process: "subprocess.Popen[str]") -> int:
        nonlocal complaint
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line)
            if line.startswith(COMPLAINT):
                complaint = line.removeprefix(COMPLAINT).strip()  # it is raised
            elif verbose:
                print(line, end="", file=sys.stderr, flush=True)
        return process.wait()

    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        env=environment,
        start_new_session=True,  # an interruption reaches this process alone, which hands it on
    ) as process:
        try:
            code = relay(process)
        except BaseException:
            process.terminate()  # it keeps what it has first
            try:
                relay(process)
            except BaseException:  # a second interruption does not wait
                process.kill()
                raise
            if complaint and verbose:
                print(complaint, file=sys.stderr, flush=True)  # how to go on
            raise
    if code in (0, 3):
        return
    if complaint:
        raise UserError(complaint)
    if -code in SIGNALS or -code == signal.SIGKILL:
        memory = ": was there enough memory?" if -code == signal.SIGKILL else ""
        raise UserError(
            f"the training was ended by {signal.Signals(-code).name}{memory}; "
            'resume="auto" goes on from what it kept'
        )
    raise RuntimeError(f"the training ended with code {code}:\n{''.join(last)}")
