"""Runs of several processes, by whoever starts them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomaly_gan.launch import free_port

TINY = ["debug=fast", "ablation=full", "trainer=ddp", "trainer.accelerator=cpu", "batch_size=7"]
TRAIN = ["-m", "anomaly_gan", "train", *TINY]
ALONE = {"OMP_NUM_THREADS": "1"}


def only_run(folder: Path) -> Path:
    """The folder of the one run; several processes must not leave several."""
    (run,) = (folder / "runs" / "digits").iterdir()
    return run


def finished(run: Path) -> None:
    """All that a run of one process leaves, once."""
    assert json.loads((run / "result.json").read_text())["counts"]["test"] == 40
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "detector.ckpt", "result.json", "report.html", "scores.csv", "held_out.csv",
        "thresholds.csv", "log", "figures", "checkpoints",
    }  # fmt: skip
    with (run / "log" / "metrics.csv").open() as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["train/feature/total"]]
    assert steps == [str(step) for step in range(1, 6)]  # said once


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes that the command started have trained and scored."""
    folder = tmp_path_factory.mktemp("shared")
    command = [sys.executable, *TRAIN, "trainer.devices=2"]
    done = subprocess.run(command, cwd=folder, env=os.environ | ALONE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AUROC, %") == 1
    return folder


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(shared: Path) -> None:
    finished(only_run(shared))


@pytest.mark.slow
def test_scores_of_two_processes_are_those_of_one_each_image_once(shared: Path, command) -> None:
    run = only_run(shared)
    assert command("evaluate", f"checkpoint={run}", "device=cpu").code == 0
    (again,) = (Path("runs") / "evaluate").iterdir()
    with (run / "scores.csv").open() as ours, (again / "scores.csv").open() as theirs:
        rows, others = list(csv.DictReader(ours)), list(csv.DictReader(theirs))
    assert [row["name"] for row in rows] == [row["name"] for row in others]
    assert len({row["name"] for row in rows}) == len(rows) == 40
    for row, other in zip(rows, others, strict=True):
        for name in ("paper", "csi_ens", "raw_pixels"):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-4, abs=1e-5)


@pytest.mark.slow
def test_torchrun_starts_a_run(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-port", str(free_port())]
    done = subprocess.run([*torchrun, *TRAIN], cwd=tmp_path, env=os.environ | ALONE, capture_output=True)
    assert done.returncode == 0, done.stderr
    finished(only_run(tmp_path))


@pytest.mark.slow
def test_slurm_starts_a_run(tmp_path: Path) -> None:
    """As srun does: one process a task, told by the environment which it is."""
    slurm = {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_JOB_NAME": "test",
        "SLURM_JOB_ID": "1",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NODEID": "0",
        "MASTER_PORT": str(free_port()),
    }
    tasks = [
        subprocess.Popen(
            [sys.executable, *TRAIN],
            cwd=tmp_path,
            env=os.environ | ALONE | slurm | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]
    assert [task.wait(120) for task in tasks] == [0, 0]
    finished(only_run(tmp_path))
