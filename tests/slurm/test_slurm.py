"""Sweeps on a real SLURM of one node (cluster.sh), with what happens to jobs there."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

SMALL = ("launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1")
SMALL += ("hydra.launcher.mem_gb=2",)
QUICK = ("debug=fast", "method=raw_pixels", *SMALL)
LONG = ("debug=fast", "schedule.total_images=100000", "callbacks.learning_curve.at_iterations=[]")
LONG += ("callbacks.checkpoint.every_minutes=0", *SMALL)


class Command:
    """A sweep that goes on, in a process of its own."""

    def __init__(self, folder: Path, *settings: str):
        self.folder = folder / "runs" / "digits"
        self.log = folder / "log"
        command = [sys.executable, "-m", "anomaly_gan", "train", "-m", *settings]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def code(self) -> int:
        """Its exit code, when it has ended."""
        return self.process.wait(120)

    def until(self, come: Callable[[], object]) -> None:
        """Wait until something has come."""
        deadline = time.monotonic() + 90
        while not come():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.2)


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start sweeps; when the test ends, nothing of them is left."""
    started: list[Command] = []

    def begin(*settings: str) -> Command:
        started.append(Command(tmp_path, *settings))
        return started[-1]

    yield begin
    for command in started:
        command.process.kill()
        command.process.wait()
    if queue():
        slurm("scancel", *queue())


def slurm(*words: str) -> str:
    """What a command of SLURM says."""
    return subprocess.check_output(words, text=True)


def queue() -> dict[str, list[str]]:
    """The jobs that wait or run: state, name and how often they were put back, by id."""
    rows = slurm("squeue", "--noheader", "--array", "--format=%i|%T|%j").splitlines()
    return {number: rest for number, *rest in (row.split("|") for row in rows)}


def test_the_same_command_after_a_killed_one_waits_for_its_runs_and_asks_for_nothing_again(
    start: Start,
) -> None:
    settings = (*QUICK, "seed=0,1", "hydra.launcher.array_parallelism=1")
    killed = start(*settings)
    killed.until(lambda: "RUNNING" in killed.said)
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    asked = queue()
    assert {name for _, name in asked.values()} == {"digits"}  # and no word of ours
    again = start(*settings)
    again.until(lambda: "an earlier command has asked for 2 of the runs" in again.said)
    assert queue().keys() <= asked.keys()
    assert again.code() == 0, again.said
    assert "2 of 2 runs finished, 0 failed" in again.said
    third = start(*settings)
    assert third.code() == 0
    assert third.said.count("finished before") == 2
    assert len(list(again.folder.glob(".submitit/*/*submission.sh"))) == 1


def test_runs_that_are_put_back_in_the_queue_go_on_from_their_checkpoints_and_are_waited_for(
    start: Start,
) -> None:
    """By the job itself, after the signal before its time limit, and by somebody else."""
    length = "schedule.total_images=400"
    sweep = start(*LONG, length, "seed=0,1")
    sweep.until(lambda: len(list(sweep.folder.glob("*/checkpoints/last.ckpt"))) == 2)
    first, second = sorted(queue())
    slurm("scancel", "--signal=USR2", first)
    slurm("scontrol", "requeue", second)
    assert sweep.code() == 0, sweep.said
    assert "2 of 2 runs finished, 0 failed" in sweep.said
    for job in (first, second):
        assert "Restarts=1" in slurm("scontrol", "show", "job", job)
    for run in sweep.folder.glob("*_seed*"):
        assert "ended by SIG" in (run / "train.log").read_text()


def test_a_cancelled_job_is_told_at_once_without_accounting_whether_it_ran_or_waited(start: Start) -> None:
    assert "accounting_storage/none" in slurm("scontrol", "show", "config")
    sweep = start(*LONG, "seed=0,1", "hydra.launcher.array_parallelism=1")
    sweep.until(lambda: list(sweep.folder.glob("*/checkpoints/last.ckpt")))
    jobs = sorted(queue())
    slurm("scancel", *jobs)
    assert sweep.code() == 3, sweep.said
    assert "0 of 2 runs finished, 0 failed, 2 stopped" in sweep.said
    for job in jobs:
        assert f"job {job}: ended without a result, CANCELLED" in sweep.said
    assert "WARNING" not in sweep.said


def test_a_job_that_can_never_start_is_named_with_slurms_reason_and_where_its_words_go(start: Start) -> None:
    sweep = start(*QUICK, "seed=0", "hydra.launcher.partition=short")
    sweep.until(lambda: "1 PENDING (PartitionTimeLimit): " in sweep.said)
    (job,) = queue()
    assert f"(PartitionTimeLimit): {job}\n" in sweep.said
    assert "what jobs print is in runs/digits/.submitit" in sweep.said


def test_a_time_limit_too_near_the_signal_is_refused_before_anything_is_queued(start: Start) -> None:
    sweep = start(*QUICK, "seed=0", "hydra.launcher.timeout_min=3")
    assert sweep.code() == 2
    assert "hydra.launcher.timeout_min=3: " in sweep.said
    assert "give at least 4" in sweep.said
    assert not queue()


def test_what_slurm_refuses_is_said_in_its_words(start: Start) -> None:
    sweep = start(*QUICK, "seed=0", "hydra.launcher.partition=nowhere")
    assert sweep.code() == 2
    assert "invalid partition specified: nowhere" in sweep.said


def test_two_tasks_under_srun_are_one_process_in_float64(tmp_path: Path) -> None:
    """Losses, gradients and scores; without rounding that the adversarial game makes larger."""
    in_float64 = "import torch; torch.set_default_dtype(torch.float64)"
    program = f"{in_float64}; from anomaly_gan.cli.main import main; main()"
    settings = ["debug=fast", "ablation=full", "schedule.total_images=24", "scoring.ensemble=0"]
    settings += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=64-true", "resume=auto"]
    settings += ["scoring.recalibrate_batch_norm=false"]  # statistics of parts of the images, by process
    command = [sys.executable, "-c", program, "train", *settings]
    srun = ["srun", "--quiet", "--ntasks-per-node=2", "--kill-on-bad-exit=1"]
    runs = []
    for name, whole in {"one": [*command, "trainer.devices=1"], "two": [*srun, *command]}.items():
        (tmp_path / name).mkdir()
        done = subprocess.run(whole, cwd=tmp_path / name, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        runs += (tmp_path / name).glob("runs/digits/*_seed0_*")
    one, two = runs
    for file in ("log/metrics.csv", "scores.csv"):
        with (one / file).open() as ours, (two / file).open() as theirs:
            for row, other in zip(csv.DictReader(ours), csv.DictReader(theirs), strict=True):
                numbers = {key: float(value) for key, value in row.items() if is_number(value)}
                assert len(numbers) > 3
                assert {key: float(other[key]) for key in numbers} == pytest.approx(
                    numbers, rel=1e-4, abs=1e-7
                )


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
