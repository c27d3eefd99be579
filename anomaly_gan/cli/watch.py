"""anomaly-gan watch."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from anomaly_gan.allocator import keep_memory
from anomaly_gan.cli.complaints import complain
from anomaly_gan.device import choose
from anomaly_gan.durable import check_writable
from anomaly_gan.errors import UserError
from anomaly_gan.inference import Detector, check_batch_size
from anomaly_gan.lifetime import Stopped, heard, hold, release
from anomaly_gan.names import printable
from anomaly_gan.scoring.calibration import DECISION, check_rate
from anomaly_gan.watching.arrivals import Arrival, Arrivals
from anomaly_gan.watching.journal import Journal, Row
from anomaly_gan.watching.stream import Stream

SUFFIX = ".jsonl"
"""Of the file of rows."""

HOOK_SECONDS = 60
"""How long the command `on_alarm` is waited for."""


def main(config: DictConfig, folder: Path) -> int:
    """Watch as `config` (conf/watch.yaml) says; exit code 3 where pictures could not be read."""
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    keep_memory()
    inputs = Path(os.path.expanduser(str(plain["inputs"])))
    if not inputs.is_dir():
        raise UserError(f"inputs={inputs}: no such folder; a single file is for anomaly-gan predict")
    if plain["output"] is None:
        raise UserError("output=null: the rows are what is kept; give a name, such as output=watched")
    interval, patience = (check_seconds(plain, name) for name in ("interval", "patience"))
    check_batch_size(plain["batch_size"])
    with opened_stream(plain, output_file(str(plain["output"]))) as stream:
        arrivals = Arrivals(inputs, patience, stream.done)
        print(f"watching {inputs}; {len(stream.done)} rows from before", flush=True)
        tell_of_before(stream, plain["on_alarm"])
        try:
            return watch(stream, arrivals, interval, plain)
        except Stopped as stopped:
            raise Stopped(stopped.number, "; the same command goes on with what has arrived since") from None
        finally:
            release()


def watch(stream: Stream, arrivals: Arrivals, interval: float, settings: dict[str, Any]) -> int:
    """Look, score and wait, until the process is told to end or, with `once`, nothing is left; exit code.

    Raises:
        UserError: with `once`, the folder cannot be read.
    """
    unread, away = 0, False
    told: set[str] = set()
    while True:
        try:
            settled, away = arrivals.look(), False
        except UserError as error:  # a shared disk comes back
            if settings["once"]:
                raise
            settled = []
            if not away:
                complain(f"{error}; waiting for it")
            away = True
        for line in arrivals.left_out:
            kind = kind_of(line)
            if kind not in told:
                complain(line)
                told.add(kind)
        for first in range(0, len(settled), settings["batch_size"]):
            hold()  # what has been scored is written down first
            unread += one_batch(stream, arrivals, settled[first : first + settings["batch_size"]], settings)
            release()
            if heard():
                raise Stopped(heard())
        if settings["once"] and not arrivals.waiting:
            return 3 if unread else 0
        time.sleep(interval)


def kind_of(line: str) -> str:
    """What is told once of `Arrivals.left_out`: not again each time that there is one more."""
    return line if "this folder cannot be read" in line else re.sub(r"\b\d+ ", "", line)


def one_batch(
    stream: Stream, arrivals: Arrivals, settled: Sequence[Arrival], settings: dict[str, Any]
) -> int:
    """Score pictures and keep their rows; how many could not be read."""
    paths = (arrivals.folder / arrival.name for arrival in settled)
    predictions = stream.detector.examine(paths, settings["batch_size"])
    final = [
        (arrival, prediction)
        for arrival, prediction in zip(settled, predictions, strict=True)
        if arrivals.is_final(arrival, prediction.error is None)
    ]
    known = [{"file": it.name, "modified": it.modified, "size": it.size} for it, _ in final]
    rows = stream.add(known, [prediction for _, prediction in final])
    for arrival, _ in final:
        arrivals.finish(arrival)
    unread = tell(stream, rows)
    if any(row["alarm"] for row in rows):
        alarm(stream, settings["on_alarm"])
    return unread


def tell(stream: Stream, rows: Sequence[Row]) -> int:
    """Say what has been found in a batch; how many pictures of it could not be read."""
    for row in rows:
        if row["error"] is not None:
            complain(printable(row["error"]))
    scored = [row for row in rows if row["error"] is None]
    if scored:
        anomalous = sum(row["decision"] == DECISION[True] for row in scored)
        print(
            f"{len(scored)} scored, {anomalous} anomalous; test {stream.number}: {stream.test.count} images, "
            f"the last with a median p-value of {stream.recent_p_value:.2g}; martingale "
            f"10^{stream.test.log10_martingale:.2f}, alarm at 10^{stream.test.log10_limit:.2f}",
            flush=True,
        )
    return len(rows) - len(scored)


def alarm(stream: Stream, command: str | None) -> None:
    """Say that the images have changed, and tell `command` so; what becomes of it ends nothing."""
    complain(stream.alarm())
    if command is None:
        return
    told = os.environ | {"ANOMALY_GAN_ALARM": stream.alarm()}
    # In a session of its own: what a shell has started is ended with it.
    with subprocess.Popen(
        command, shell=True, env=told, stdin=subprocess.DEVNULL, start_new_session=True
    ) as hook:
        try:
            code = hook.wait(HOOK_SECONDS)
        except BaseException as ended:
            os.killpg(hook.pid, signal.SIGKILL)
            if not isinstance(ended, subprocess.TimeoutExpired):
                raise
            complain(f"on_alarm: ended after {HOOK_SECONDS} seconds: {command}")
        else:
            if code:
                complain(f"on_alarm: exit code {code} of {command}")


def tell_of_before(stream: Stream, command: str | None) -> None:
    """Say that the pictures had changed already; `command` may not have been told before a kill."""
    if stream.test.alarmed:
        alarm(stream, command)
        complain("restart=true begins a new test")


@contextmanager
def opened_stream(plain: dict[str, Any], path: Path | None) -> Iterator[Stream]:
    """The stream of a command's settings, with the detector; rows are kept in the file at `path`."""
    rate = plain["threshold"]["false_positive_rate"]
    detector = Detector.load(
        plain["checkpoint"], choose(plain["device"]), None if rate is None else check_rate(rate)
    )
    with nullcontext() if path is None else closing(Journal(path)) as journal:
        yield Stream(detector, plain["alpha"], journal, plain["restart"])


def output_file(given: str) -> Path:
    """The path of the rows, whose suffix a user may have given.

    Raises:
        UserError: no file can be made there.
    """
    path = Path(os.path.expanduser(given))
    if not path.name:
        raise UserError(f"output={given}: a folder; give a name in it, such as {path / 'watched'}")
    path = path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
    try:
        check_writable(path)
    except OSError as error:
        raise UserError(f"output={given}: {path} cannot be written ({error.strerror})") from error
    return path


def check_seconds(plain: dict[str, Any], name: str) -> float:
    """A setting that is a time in seconds.

    Raises:
        UserError: it is no number above 0.
    """
    value = plain[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{name}={value}: give seconds, more than 0")
    return float(value)
