"""The runs of a sweep as jobs of SLURM: where they stand, how they end. Nothing heavy is imported here.

SLURM is asked by squeue alone: it answers with and without accounting, and sacct does not.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anomaly_gan.cli.sweep import Ended
from anomaly_gan.errors import UserError

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from submitit import Job

RUN_FILE = "run"
"""In the folder that submitit has for a job: the name of the run that it does."""

OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
OVER |= {"PREEMPTED", "REVOKED", "TIMEOUT"}
"""States that a job does not leave."""

EARLY_S, START_S = 60, 60
"""How much earlier than asked SLURM may send its signal (man sbatch), and what a run needs to start."""

FILES_LAG_S = 15
"""How long a file that a node has written may take to be seen here."""

MOST_PAUSE_S = 60
"""How long SLURM, which has many users, is not asked again at most; at first it is every two seconds."""


class Standing(NamedTuple):
    """What SLURM says of a job."""

    state: str
    reason: str

    def __str__(self) -> str:
        has_reason = self.reason not in ("", "None") and not is_over(self)  # then it is why the job waited
        return f"{self.state} ({self.reason})" if has_reason else self.state


FORGOTTEN = Standing("no longer known to SLURM", "")


def check(timeout_min: int, signal_delay_s: int) -> None:
    """Refuse what cannot end well.

    Args:
        timeout_min: the time limit of a job, minutes.
        signal_delay_s: how long before it SLURM is to send its signal, seconds.

    Raises:
        UserError: there is no SLURM here, or its signal may come before a run has started.
    """
    if shutil.which("sbatch") is None:
        raise UserError("launcher=slurm: no sbatch here; give the command on a machine of the cluster")
    least = EARLY_S + START_S
    if 60 * timeout_min < signal_delay_s + least:
        raise UserError(
            f"hydra.launcher.timeout_min={timeout_min}: SLURM stops a run {signal_delay_s} s before that "
            f"(hydra.launcher.signal_delay_s) or {EARLY_S} s earlier, so it would start again and again; "
            f"give at least {math.ceil((signal_delay_s + least) / 60)}, or a smaller signal_delay_s"
        )


def standings() -> dict[str, Standing] | None:
    """The jobs of this user, by their ids (12, or 12_3 in an array); None: SLURM does not answer just now."""
    words = ["--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r"]
    asked = subprocess.run(["squeue", *words], capture_output=True, text=True)
    if asked.returncode != 0:
        return None
    lines = (line.split("|", 2) for line in asked.stdout.splitlines())
    return {number: Standing(state, reason) for number, state, reason in lines}


def is_over(standing: Standing) -> bool:
    """Whether a job has ended for good."""
    return standing is FORGOTTEN or standing.state in OVER


def asked_before(jobs_folder: Path) -> dict[str, str]:
    """The runs for which an earlier command has asked, and that wait or go on: their jobs, by their names.

    Args:
        jobs_folder: where submitit has a folder for each job.

    Raises:
        UserError: SLURM does not answer.
    """
    asked = {path.parent.name: path.read_text() for path in jobs_folder.glob(f"*/{RUN_FILE}")}
    if not asked:
        return {}
    known = standings()
    if known is None:
        raise UserError("squeue gives no answer; try again later, for runs may be queued already")
    return {run: job for job, run in asked.items() if not is_over(known.get(job, FORGOTTEN))}


def ask(
    launcher: Callable[..., "JobReturn"], settings: Mapping[str, Any], runs: Mapping[str, tuple[Any, ...]]
) -> "dict[str, Job[JobReturn]]":
    """Put runs in SLURM's queue, as one array job; their jobs, by the names of the runs.

    Args:
        launcher: what does a run, in its job.
        settings: the group hydra.launcher.
        runs: the arguments of `launcher` for each run, by its name.

    Raises:
        UserError: SLURM takes no such job.
    """
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from submitit import AutoExecutor
    from submitit.core.utils import FailedJobError

    words = dict(settings)
    folder, timeouts = words.pop("submitit_folder"), words.pop("max_num_timeout")
    executor = AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=timeouts)
    shared = [field.name for field in fields(BaseQueueConf)]
    executor.update_parameters(**{key if key in shared else f"slurm_{key}": words[key] for key in words})
    try:
        jobs = dict(zip(runs, executor.map_array(launcher, *zip(*runs.values(), strict=True)), strict=True))
    except FailedJobError as refused:
        raise UserError(f"launcher=slurm: {str(refused).partition(chr(10))[0]}") from refused
    for run, job in jobs.items():
        (job.paths.folder / RUN_FILE).write_text(run)
    return jobs


def wait(jobs: Mapping[str, "Job[JobReturn]"]) -> Iterator[Ended]:
    """Each run as it ends, and meanwhile what SLURM says of the others, whenever that changes.

    Args:
        jobs: of the runs, by their names.
    """
    left, said = dict(jobs), ""
    known: dict[str, Standing] | None = None
    over_since: dict[str, float] = {}
    began, next_question = time.monotonic(), 0.0
    while left:
        now = time.monotonic()
        if now >= next_question:
            next_question = now + min(MOST_PAUSE_S, max(2, (now - began) / 2))
            answer = standings()
            told = "no answer; asking again" if answer is None else _described(left, answer)
            if told != said:
                print(f"SLURM: {told}", file=sys.stderr, flush=True)
            said, known = told, known if answer is None else answer
        for run, job in list(left.items()):
            standing = None if known is None else known.get(job.job_id, FORGOTTEN)
            if standing is not None and is_over(standing):
                over_since.setdefault(run, now)
            else:
                over_since.pop(run, None)
            if _has_result(job) or now - over_since.get(run, now) > FILES_LAG_S:
                yield _ended(run, job, standing)
                del left[run]
        time.sleep(1)


def _described(jobs: Mapping[str, "Job[JobReturn]"], known: Mapping[str, Standing]) -> str:
    """How many jobs stand how, and which they are."""
    numbers: dict[Standing, list[str]] = {}
    for job in jobs.values():
        numbers.setdefault(known.get(job.job_id, FORGOTTEN), []).append(job.job_id)
    return "; ".join(f"{len(of)} {standing}: {_listed(of)}" for standing, of in numbers.items())


def _listed(numbers: Sequence[str], most: int = 4) -> str:
    return ", ".join([*numbers[:most], "..."] if len(numbers) > most else numbers)


def _has_result(job: "Job[JobReturn]") -> bool:
    with suppress(OSError):
        job.paths.folder.chmod(job.paths.folder.stat().st_mode)  # a network's file system looks anew then
    return job.paths.result_pickle.exists()


def _ended(run: str, job: "Job[JobReturn]", standing: Standing | None) -> Ended:
    """What a job has left of its run."""
    try:
        if _has_result(job):
            ended: Ended = job.result().return_value
            return ended
        cause = f"ended without a result, {standing}"
    except Exception as died:  # of whatever kind: the other runs go on
        cause = _cause(str(died) or type(died).__name__)
    log = job.paths.stderr
    more = f"; see {os.path.relpath(log)}" if log.exists() else ""
    return Ended(run, "stopped", f"job {job.job_id}: {cause}{more}")


def _cause(message: str) -> str:
    """The line that says what was raised; submitit's message has the whole traceback, between two rules."""
    lines = [line for line in message.splitlines() if line.strip()]
    rules = [index for index, line in enumerate(lines) if set(line) == {"-"}]
    return lines[rules[1] - 1] if len(rules) > 1 else lines[0]


def in_job(run: Callable[[], "JobReturn"]) -> "JobReturn":
    """Do a run of a sweep in its job, which a run that was asked to stop does not end.

    submitit asks for the requeue in its handler of SLURM's signal, while the run still writes its checkpoint;
    with the requeue comes SIGTERM to every process of the job, the one that asks for it too. And a job that
    ends by itself after a SIGTERM has ended for good, though whoever sent it may have meant to requeue it.
    So: first the run's own end, then the requeue if it is this job that asks for it, then wait to be ended.

    Args:
        run: does it, and says by an `Ended` how it ended.
    """
    from hydra.core.utils import JobStatus
    from submitit import JobEnvironment

    warning = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
    requeue: Any = signal.getsignal(warning)
    heard: list[int] = []
    signal.signal(warning, lambda number, frame: heard.append(number))
    returned = run()
    if returned.status is not JobStatus.COMPLETED or returned.return_value.state != "stopped":
        return returned
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # scontrol inherits it
    signal.signal(warning, requeue)
    if heard:
        requeue(warning, None)
    while True:
        signal.pause()
