"""A sweep (`anomaly-gan train -m`): one process a run, so that nothing of a run reaches the next.

A run's folder is named after its configuration, so the same command finds its runs again: finished ones are
kept, half-finished ones resume, failed ones are tried once more. Nothing heavy is imported here.
"""

import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from anomaly_gan.cli.arguments import as_override
from anomaly_gan.cli.choices import ONE_CHOICE, words_for_one_choice
from anomaly_gan.cli.complaints import complain
from anomaly_gan.errors import UserError
from anomaly_gan.lifetime import END_WITH, SIGNALS
from anomaly_gan.results import FAILED_FILE, RESULT_FILE, RunResult, write_atomically

LOG_FILE = "train.log"
"""What a run of a sweep printed, in its folder."""

NOT_PART_OF_A_RUN = ("hydra", "resume", "paths", "logger", "name")
"""Settings that do not change what a run finds."""

RUNS = "ANOMALY_GAN_RUNS"
"""In the environment: how many runs the sweep has, for those who start one."""

MOST_TRIES = 2

DONE_BUT_FOR_SOME = 3
"""Exit code."""

OURS = ("hydra._internal.core_plugins.basic_launcher.", "hydra_plugins._anomaly_gan_submitit.")
"""Where the launchers are that tell the sweep how its runs ended."""

State = Literal["finished", "failed", "stopped"]


class Ended(NamedTuple):
    """How a run of a sweep ended."""

    name: str
    """Of its folder."""
    state: State
    told: str
    """For a person."""


def run_folder(resume: str | None, time: str | None, *, _root_: DictConfig) -> str | None:
    """The name of a run's folder: with `resume=auto` its class, method and seed, and a digest of its whole
    configuration; else the time.
    """
    if resume != "auto":
        return time
    whole: Any = _root_
    nodes = {str(key): whole[key] for key in whole if key not in NOT_PART_OF_A_RUN}
    config: Any = {
        key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for key, node in nodes.items()
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:8]
    chosen = [config["normal_class"], config["method"]["name"], f"seed{config['seed']}", digest]
    return re.sub(r"[^\w.-]", "-", "_".join(str(word) for word in chosen if word is not None))


def otherwise(value: Any, instead: Any) -> Any:
    """`value`, and `instead` where it is null."""
    return instead if value is None else value


def part(value: int | None, fraction: float) -> int | None:
    """A part of a whole number, in [0, 1], rounded; null of null."""
    return None if value is None else round(value * fraction)


def all_classes(*, _root_: DictConfig) -> str:
    """The classes of the data set, as Hydra wants values to sweep over."""
    from anomaly_gan.config import build  # with torch, and only where it is asked for

    config: Any = OmegaConf.to_container(_root_.data, resolve=True)
    data = build(config | {"normal_class": 0}, "data", ("data",))  # any: each has its turn
    data.discover()
    names = [QuotedString(name, Quote.single) for name in data.can_be_normal()]
    return ",".join(name.with_quotes() for name in names)


def axes_beside(given: Sequence[str], params: Mapping[str, Any]) -> dict[str, str]:
    """What an experiment sweeps over, as if it were given, but for what `given` says itself.

    Args:
        given: overrides of the command line.
        params: values to sweep over, by setting.
    """
    said = {word.partition("=")[0] for word in given}
    words = words_for_one_choice(given)
    if words:
        said |= {key for key in ONE_CHOICE if not words.get(key, "").startswith("sweep=")}
    kept = [as_override(f"{key}={values}", sweeps=True) for key, values in params.items() if key not in said]
    return {key: values for key, _, values in (override.partition("=") for override in kept)}


class Sweep(Callback):
    """Remembers, in the process that the user started, which sweep this is (Hydra calls it)."""

    folder: Path | None = None
    """Where its runs go; None in a single run."""
    runs: int | None = None
    """How many there are; None where only the sweeper knows."""
    ended: ClassVar[list[Ended]] = []
    """How they ended, as far as it is known."""
    folders: ClassVar[dict[Path, None]] = {}
    """Where these lie, which is `folder` but where the sweep is over what names it, data sets for example."""

    @classmethod
    def note(cls, ended: Ended, label: str, folder: Path) -> None:
        """Remember how the run in `folder` ended, and say it; for the launcher, in the sweep's process."""
        cls.ended.append(ended)
        cls.folders[folder.parent] = None
        print(f"{label}: {ended.told}", flush=True)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.runs = None
        os.environ.pop(RUNS, None)
        Sweep.folder = Path(config.hydra.sweep.dir)
        Sweep.ended.clear()
        Sweep.folders.clear()
        if not config.hydra.launcher._target_.startswith(OURS):
            # Not raised: Hydra makes a warning of what a callback raises.
            sys.exit(complain("hydra/launcher: give launcher=local_parallel or launcher=slurm"))
        given = list(config.hydra.overrides.task)
        try:
            params = axes_beside(given, config.hydra.sweeper.params or {})
        except OmegaConfBaseException as error:
            if (told := _told_within(error)) is None:
                raise
            sys.exit(complain(told))
        config.hydra.sweeper.params = params  # the sweeper reads them after this
        words = [*(f"{key}={values}" for key, values in params.items()), *given]
        parsed = OverridesParser.create().parse_overrides(words)
        last = {override.get_key_element(): override for override in parsed}  # as the sweeper has it
        axes = [override for override in last.values() if override.is_sweep_override()]
        if all(axis.is_discrete_sweep() for axis in axes):
            lengths = [len(list(axis.sweep_string_iterator())) for axis in axes]
            Sweep.runs = math.prod(lengths)
            os.environ[RUNS] = str(Sweep.runs)


def _told_within(error: BaseException | None) -> str | None:
    """What a resolver of ours has refused, of an error that Hydra or OmegaConf has made of it."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return None if error is None else str(error)


def label(folder: Path, number: int) -> str:
    """What a run is called in what is printed.

    Args:
        folder: of the run.
        number: which run of the sweep it is, from 0.
    """
    of = os.environ.get(RUNS)
    return f"run {number + 1}{f' of {of}' if of else ''}, {folder.name}"


def settled(folder: Path) -> Ended | None:
    """How the run in `folder` ended before, where the same command does not try it again."""
    if (folder / RESULT_FILE).exists():
        return Ended(folder.name, "finished", f"{_found(folder)}, finished before")
    tries = _tries(folder)
    if len(tries) < MOST_TRIES:
        return None
    again = f"remove {os.path.relpath(folder / FAILED_FILE)} to try again"
    return Ended(folder.name, "failed", f"failed {MOST_TRIES} times ({tries[0]}); {again}")


def run_in_process(overrides: list[str], folder: Path, ends_with: int | None, label: str) -> Ended:
    """Train in a new process, unless that has been done before: how it ended.

    Args:
        overrides: settings of the training.
        folder: of the run, as `run_folder` names it.
        ends_with: the process whose end is the run's; None: it goes on.
        label: what it is called in what is printed.
    """
    before = settled(folder)
    if before is not None:
        return before
    settings = [word for word in overrides if not word.startswith(("launcher=", "sweep="))]
    command = [sys.executable, "-m", "anomaly_gan", "train", *settings, "resume=auto", "hydra.mode=RUN"]
    environment = os.environ | ({END_WITH: str(ends_with)} if ends_with is not None else {})
    print(f"{label}: started", file=sys.stderr, flush=True)
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    last = ""
    with (
        (folder / LOG_FILE).open("a") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True, env=environment) as run,
    ):
        assert run.stderr is not None
        try:
            for line in run.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                print(line, end="", file=log, flush=True)
                last = line.strip() or last
            code = run.wait()
        except BaseException:  # this process is asked to end: the run keeps what it has first
            run.terminate()
            print(run.stderr.read(), end="", file=sys.stderr, flush=True)
            run.wait()
            raise
    if max(-code, code - 128) in SIGNALS:  # asked to end, before or after it listened: no failure
        return Ended(folder.name, "stopped", last.removeprefix("anomaly-gan: "))
    if code == 0:
        (folder / FAILED_FILE).unlink(missing_ok=True)
        return Ended(folder.name, "finished", f"{_found(folder)}, {time.monotonic() - start:.0f} s")
    if code < 0:
        killer = signal.Signals(-code).name
        last = f"ended by {killer}" + (": was there enough memory?" if killer == "SIGKILL" else "")
    reason = last.removeprefix("anomaly-gan: ") or f"ended with code {code}"
    write_atomically(folder / FAILED_FILE, "\n".join([reason, *_tries(folder)]) + "\n")
    return Ended(folder.name, "failed", f"failed: {reason}")


def _found(folder: Path) -> str:
    result = RunResult.read(folder)
    auroc = result.auroc[result.primary]
    return "finished without AUROC" if auroc is None else f"AUROC {100 * auroc:.1f}"


def _tries(folder: Path) -> list[str]:
    """Why a run failed, the last time first."""
    failed = folder / FAILED_FILE
    return failed.read_text().splitlines() if failed.exists() else []


def finish(folder: Path, runs: int | None) -> int:
    """Say how a sweep ended and write its report; the exit code."""
    of_state: dict[State, list[Ended]] = {"finished": [], "failed": [], "stopped": []}
    for ended in Sweep.ended:
        of_state[ended.state].append(ended)
    finished, failed, stopped = of_state.values()
    runs = runs or len(Sweep.ended)
    folders = list(Sweep.folders) or [folder]
    places = [os.path.relpath(place) for place in folders]
    also = f", {len(stopped)} stopped" if stopped else ""
    print(f"{', '.join(places)}: {len(finished)} of {runs} runs finished, {len(failed)} failed{also}")
    for name, _, told in failed:
        print(f"  {name}: {told.removeprefix('failed: ')}")
    for name, _, told in stopped:
        print(f"  {name}: {told or 'stopped'}")
    if finished:
        subprocess.run([sys.executable, "-m", "anomaly_gan", "report", *places], check=False)
    complete = len(finished) == runs
    print("".join(map(sync_command, folders)), end="")
    if not complete:
        print("the same command again keeps what is finished and goes on with the rest")
    return 0 if complete else DONE_BUT_FOR_SOME


def sync_command(folder: Path) -> str:
    """A line that says how the runs in `folder` come to Weights & Biases; empty where none wait for it."""
    if not any(folder.glob("wandb/offline-run-*")):
        return ""
    return f"  wandb sync {os.path.relpath(folder)}/wandb/offline-run-*\n"
