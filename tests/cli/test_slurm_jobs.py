"""What becomes of SLURM's words and of a job's end; on a real SLURM: tests/slurm."""

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from submitit import SlurmJob

from anomaly_gan.cli import slurm
from anomaly_gan.cli.sweep import Ended
from anomaly_gan.errors import UserError


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What squeue says, a file; where it is not there, squeue fails."""
    program, says = tmp_path / "squeue", tmp_path / "says"
    program.write_text(f"#!/bin/sh\nexec cat {says}\n")
    program.chmod(0o755)
    (tmp_path / "sbatch").symlink_to(program)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "FILES_LAG_S", 0)
    return says


@pytest.fixture
def job(tmp_path: Path) -> "SlurmJob[JobReturn]":
    job: SlurmJob[JobReturn] = SlurmJob(tmp_path / "jobs" / "%j", "12_0")
    job.paths.folder.mkdir(parents=True)
    return job


def leave(job: "SlurmJob[JobReturn]", ended: Ended) -> None:
    """The result of a job, as submitit has it."""
    returned = JobReturn(_return_value=ended, status=JobStatus.COMPLETED)
    job.paths.result_pickle.write_bytes(pickle.dumps(("success", returned)))


def test_every_state_comes_with_slurms_reason_while_a_job_waits(squeue: Path) -> None:
    squeue.write_text("12_0|RUNNING|None\n12_1|PENDING|PartitionTimeLimit\n9|CANCELLED|Resources\n")
    known = slurm.standings()
    assert known is not None
    assert {number: str(standing) for number, standing in known.items()} == {
        "12_0": "RUNNING",
        "12_1": "PENDING (PartitionTimeLimit)",
        "9": "CANCELLED",
    }
    assert [slurm.is_over(standing) for standing in known.values()] == [False, False, True]


def test_jobs_of_an_earlier_command_are_found_while_they_are_not_over(squeue: Path, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    assert slurm.asked_before(jobs) == {}
    for number in ("12_0", "12_1", "12_2", "7"):
        (jobs / number).mkdir(parents=True)
        (jobs / number / slurm.RUN_FILE).write_text(f"run of {number}")
    with pytest.raises(UserError, match="squeue gives no answer; try again later"):
        slurm.asked_before(jobs)
    squeue.write_text("12_0|COMPLETING|None\n12_1|PENDING|BeginTime\n12_2|CANCELLED|None\n")
    assert slurm.asked_before(jobs) == {"run of 12_0": "12_0", "run of 12_1": "12_1"}


def test_a_squeue_that_gives_no_answer_ends_no_wait(
    squeue: Path,
    job: "SlurmJob[JobReturn]",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = Ended("mine", "finished", "AUROC 99.0")
    passed: list[float] = []

    def sleep(seconds: float) -> None:
        passed.append(seconds)
        if len(passed) == 2:
            leave(job, ended)

    monkeypatch.setattr(slurm.time, "sleep", sleep)
    assert list(slurm.wait({"mine": job})) == [ended]
    assert "SLURM: no answer; asking again" in capsys.readouterr().err


@pytest.mark.parametrize("says", ["12_0|TIMEOUT|TimeLimit\n", "", "99|RUNNING|None\n"])
def test_a_job_that_ended_or_is_forgotten_without_a_result_stops_its_run(
    squeue: Path, job: "SlurmJob[JobReturn]", says: str
) -> None:
    squeue.write_text(says)
    (ended,) = slurm.wait({"mine": job})
    assert ended.state == "stopped"
    state = "TIMEOUT" if "TIMEOUT" in says else "no longer known to SLURM"
    assert ended.told == f"job 12_0: ended without a result, {state}"


def test_what_was_raised_in_a_job_is_told_in_a_line(squeue: Path, job: "SlurmJob[JobReturn]") -> None:
    trace = "Traceback (most recent call last):\n  File ...\nRuntimeError: timed-out too many times\n"
    job.paths.result_pickle.write_bytes(pickle.dumps(("error", trace)))
    squeue.write_text("")
    (ended,) = slurm.wait({"mine": job})
    assert ended.told == "job 12_0: RuntimeError: timed-out too many times"


@pytest.mark.parametrize(("minutes", "delay", "least"), [(2, 120, 4), (3, 120, 4), (5, 200, 6)])
def test_a_time_limit_leaves_time_to_get_ahead(squeue: Path, minutes: int, delay: int, least: int) -> None:
    with pytest.raises(UserError, match=f"timeout_min={minutes}: .*give at least {least}, or a smaller"):
        slurm.check(minutes, delay)
    slurm.check(least, delay)


def test_a_machine_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no sbatch here"):
        slurm.check(1440, 120)


@pytest.fixture
def _handlers_are_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers_are_put_back")
def test_a_job_asks_to_be_put_back_after_its_run_has_ended_and_hears_no_sigterm_then() -> None:
    happened: list[object] = []

    def requeue(number: int, frame: object) -> None:
        happened.extend(["requeue", signal.getsignal(signal.SIGTERM)])
        raise SystemExit

    def run() -> JobReturn:
        os.kill(os.getpid(), signal.SIGUSR2)
        happened.append("run ended")
        return JobReturn(_return_value=Ended("mine", "stopped", ""), status=JobStatus.COMPLETED)

    signal.signal(signal.SIGUSR2, requeue)
    with pytest.raises(SystemExit):
        slurm.in_job(run)
    assert happened == ["run ended", "requeue", signal.SIG_IGN]


@pytest.mark.usefixtures("_handlers_are_put_back")
def test_a_job_whose_run_has_finished_ends_whatever_it_heard() -> None:
    def run() -> JobReturn:
        os.kill(os.getpid(), signal.SIGUSR2)
        return JobReturn(_return_value=Ended("mine", "finished", ""), status=JobStatus.COMPLETED)

    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    assert slurm.in_job(run).return_value.state == "finished"
