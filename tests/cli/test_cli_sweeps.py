"""Sweeps: one process a run, continued by the same command, with launchers of their own."""

import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import offline_runs
import pytest
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher

from anomaly_gan.cli.sweep import Ended, Sweep, finish
from anomaly_gan.results import RunResult

TINY = ("debug=fast", "schedule.total_images=16", "callbacks.learning_curve.at_iterations=[]")


def tool(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command in a process of its own: what checks types here cannot be sent to others by submitit."""
    command = [sys.executable, "-m", "anomaly_gan", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def folders(runs: Path) -> dict[str, Path]:
    """The folders of a sweep's runs, by class and ablation."""
    return {path.name.partition("_seed")[0]: path for path in runs.iterdir() if "_seed" in path.name}


@pytest.mark.slow
def test_a_run_that_fails_is_marked_and_the_others_go_on(command, tmp_path: Path) -> None:
    settings = (*TINY, "normal_class=99,3", "ablation=csi")
    first = command("train", "-m", *settings)
    assert first.code == 3
    found = folders(tmp_path / "runs" / "digits")
    assert (found["3_csi"] / "result.json").exists()
    assert not (found["99_csi"] / "result.json").exists()
    assert (found["99_csi"] / "FAILED").read_text().startswith("normal_class=99 is no class of digits")
    assert "1 of 2 runs finished, 1 failed" in first.out

    kept = (found["3_csi"] / "result.json").stat().st_mtime_ns
    second = command("train", "-m", *settings)
    assert "finished before" in second.out
    assert (found["3_csi"] / "result.json").stat().st_mtime_ns == kept
    assert len((found["99_csi"] / "FAILED").read_text().splitlines()) == 2  # tried again, once

    third = command("train", "-m", *settings)
    assert third.code == 3
    assert "failed 2 times" in third.out
    assert "remove" in third.out
    assert len((found["99_csi"] / "FAILED").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_sweep_that_is_killed_ends_with_the_scores_of_one_that_is_not(tmp_path: Path) -> None:
    settings = ["debug=fast", "schedule.total_images=160", "callbacks.checkpoint.every_minutes=0"]
    arguments = [sys.executable, "-m", "anomaly_gan", "train", "-m", "ablation=full", "seed=0", *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()

    def start(name: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            arguments,
            cwd=tmp_path / name,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start("whole").wait() == 0
    interrupted = start("killed")
    runs = tmp_path / "killed" / "runs" / "digits"
    deadline = time.monotonic() + 60
    while not list(runs.glob("*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    interrupted.kill()
    interrupted.wait()
    (folder,) = folders(runs).values()
    assert not (folder / "result.json").exists()
    assert not (folder / "FAILED").exists()

    assert start("killed").wait() == 0
    (whole,) = folders(tmp_path / "whole" / "runs" / "digits").values()
    assert folder.name == whole.name
    assert (folder / "scores.csv").read_bytes() == (whole / "scores.csv").read_bytes()
    assert RunResult.read(folder).curve == RunResult.read(whole).curve


def test_a_killed_sweep_leaves_nothing_running(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "anomaly_gan", "train", "-m", "seed=0", "debug=fast"]
    arguments += ["schedule.total_images=1000000"]
    sweep = subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    runs = tmp_path / "runs" / "digits"
    deadline = time.monotonic() + 60
    while not list(runs.glob("*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.05)
    (lock,) = (runs / ".locks").iterdir()
    assert holders(lock)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    deadline = time.monotonic() + 20
    while holders(lock):
        assert time.monotonic() < deadline, "the run goes on"
        time.sleep(0.1)


def holders(path: Path) -> list[int]:
    """The processes that have a file open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [
                int(process.name) for open_file in (process / "fd").iterdir() if open_file.samefile(path)
            ]
        except OSError:
            continue  # it has ended, or is another user's
    return found


@pytest.mark.slow
def test_runs_go_two_at_a_time_on_this_machine_and_dashboards_keep_them_apart(tmp_path: Path) -> None:
    settings = (*TINY, "launcher=local_parallel", "logger=wandb", "name=mine")
    outcome = tool(tmp_path, "train", "-m", *settings, "normal_class=99,3,4")
    assert outcome.returncode == 3, outcome.stderr
    assert "2 of 3 runs finished, 1 failed" in outcome.stdout
    found = folders(tmp_path / "runs" / "mine")
    assert {name for name, folder in found.items() if (folder / "result.json").exists()} == {"3_csi", "4_csi"}
    offline = [offline_runs.read(path) for path in tmp_path.glob("runs/mine/wandb/offline-run-*/run-*.wandb")]
    assert {run.name for run in offline} == {"class 3, seed 0", "class 4, seed 0"}
    assert {(run.group, run.job_type, run.exit_code) for run in offline} == {("mine", "csi", 0)}
    assert all("test/auroc_csi" in run.summary for run in offline)
    assert "wandb sync runs/mine/wandb/offline-run-*" in outcome.stdout


def test_a_failed_run_is_shown_as_failed(tmp_path: Path) -> None:
    settings = (*TINY, "logger=wandb", "optimizer.learning_rate=1e30")
    assert tool(tmp_path, "train", *settings).returncode == 2
    (path,) = tmp_path.glob("runs/digits/wandb/offline-run-*/run-*.wandb")
    assert offline_runs.read(path).exit_code == 1


@pytest.mark.parametrize("visible", ["2,5", "GPU-8932f937,GPU-5f1c11d9", "MIG-c6d4f1ef,MIG-5de391c7"])
def test_each_parallel_run_has_a_gpu_to_itself(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    from hydra_plugins._anomaly_gan_submitit import LocalParallel

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    launcher = LocalParallel(None, submitit_folder="jobs")
    assert launcher.runs_at_once == 2
    shown = []
    for slot in range(2):
        one = launcher._on_gpu(slot)
        assert "setup" not in one.params  # lines of a shell, which bash would put the job in the place of
        monkeypatch.setattr(LocalLauncher, "__call__", lambda *_: os.environ["CUDA_VISIBLE_DEVICES"])
        shown.append(pickle.loads(pickle.dumps(one))())
    assert shown == visible.split(",")


@pytest.mark.parametrize(
    ("visible", "found"),
    [("", []), ("-1", []), ("0,-1,1", ["0"]), (" 1, GPU-8932f937", ["1", "GPU-8932f937"])],
)
def test_the_gpus_are_those_that_cuda_reads_from_its_variable(
    monkeypatch: pytest.MonkeyPatch, visible: str, found: list[str]
) -> None:
    from hydra_plugins._anomaly_gan_submitit import gpus

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == found


def test_a_divided_gpu_is_as_many_as_its_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hydra_plugins._anomaly_gan_submitit import gpus

    listed = """
        GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
          MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
          MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
        GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-f43b8e0a-6a4e-4bd0-9d22-3c1a3b7c9a11)
        """
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<END{dedent(listed)}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    parts = ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"]
    assert gpus() == [*parts, "1"]


@pytest.mark.slow
def test_a_run_is_named_after_all_of_its_configuration(command, tmp_path: Path) -> None:
    for settings in ((), ("optimizer.learning_rate=0.001",), ("logger=tensorboard",)):
        outcome = command("train", *TINY, "resume=auto", *settings)
        assert outcome.code == 0, outcome.err
    runs = [path for path in (tmp_path / "runs" / "digits").iterdir() if "_seed" in path.name]
    assert len(runs) == 2  # where the numbers go is no part of what a run finds
    assert "finished before" in outcome.out


@pytest.mark.parametrize("word", ["launcher=local_parallel", "sweep=all_classes"])
def test_what_is_of_several_runs_is_refused_in_one(command, word: str) -> None:
    outcome = command("train", *TINY, word)
    assert outcome.code == 2
    assert outcome.err == f"anomaly-gan: {word}: is of several runs; add -m, or leave it out\n"


def test_classes_that_cannot_be_listed_end_a_sweep_in_the_line_of_a_single_run(
    command, tmp_path: Path
) -> None:
    for sweep in ("all_classes", "[all_classes,ablations]"):
        outcome = command("train", "-m", f"sweep={sweep}", "data=folder", "data.root=nowhere")
        assert outcome.code == 2
        assert "nowhere" in outcome.err
        assert len(outcome.err.splitlines()) == 1


def test_a_sweep_over_data_sets_is_told_and_reported_as_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each data set names a folder of its own; here one run ended well and one failed."""
    monkeypatch.setattr(Sweep, "ended", [])
    monkeypatch.setattr(Sweep, "folders", {})
    Sweep.note(Ended("a", "finished", "AUROC 90.0"), "run 1 of 2, a", tmp_path / "digits" / "a")
    Sweep.note(Ended("b", "failed", "failed: no images"), "run 2 of 2, b", tmp_path / "cifar10" / "b")
    reported = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: reported.append(command[-2:]))
    assert finish(tmp_path / "digits", 2) == 3
    places = [os.path.relpath(tmp_path / name) for name in ("digits", "cifar10")]
    assert reported == [places]
    out = capsys.readouterr().out
    assert f"{', '.join(places)}: 1 of 2 runs finished, 1 failed" in out
    assert "  b: no images" in out


def test_every_class_is_swept_over(command) -> None:
    outcome = command("train", "sweep=[ablations]", "--cfg", "hydra", "-p", "hydra.sweeper.params")
    assert "csi,csi_g,full" in outcome.out
    from omegaconf import OmegaConf

    from anomaly_gan.cli.sweep import all_classes

    data = {"data": {"_target_": "anomaly_gan.data.digits.Digits", "normal_class": 0, "batch_size": 1}}
    data["data"]["total_images"] = 1
    assert all_classes(_root_=OmegaConf.create(data)).split(",") == [f"'{digit}'" for digit in range(10)]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM that runs the tasks of an array job one after the other, here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "sbatch": """
            import os, re, subprocess, sys
            if os.fork() == 0:  # the job waits for what is written when this has returned
                os.setsid()
                nothing = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(nothing, stream)
                last = int(re.search(r"--array=0-([0-9]+)", open(sys.argv[-1]).read())[1])
                for task in range(last + 1):
                    job = {"JOB_ID": 77 + task, "ARRAY_JOB_ID": 77, "ARRAY_TASK_ID": task, "NTASKS": 1}
                    job |= {"PROCID": 0, "LOCALID": 0, "NODEID": 0, "NNODES": 1, "JOB_NUM_NODES": 1}
                    job = {f"SLURM_{name}": str(value) for name, value in job.items()}
                    job |= {"SLURM_JOB_NODELIST": "here", "SLURM_JOBID": job["SLURM_JOB_ID"]}
                    subprocess.run(["bash", sys.argv[-1]], env=os.environ | job)
            else:
                print("Submitted batch job 77")
            """,
        "srun": """
            import os, subprocess, sys
            words = sys.argv[1:]
            while words[0].startswith("-"):
                words = words[1 if "=" in words[0] or words[0] == "--unbuffered" else 2 :]
            sys.exit(subprocess.run(words).returncode)
            """,
        "squeue": """
            for task in range(9):
                print(f"77_{task}|RUNNING|None")
            """,
        "scontrol": 'print("here")',
    }
    for name, text in scripts.items():
        path = programs / name
        path.write_text(f"#!{sys.executable}\n{dedent(text)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return programs


@pytest.mark.slow
def test_slurm_gets_one_array_job_and_a_failure_does_not_stop_the_rest(slurm: Path, tmp_path: Path) -> None:
    settings = ("launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=null")
    outcome = tool(tmp_path, "train", "-m", *TINY, *settings, "normal_class=99,3")
    assert outcome.returncode == 3, outcome.stderr
    found = folders(tmp_path / "runs" / "digits")
    assert (found["3_csi"] / "result.json").exists()
    assert (found["99_csi"] / "FAILED").exists()
    (script,) = (tmp_path / "runs" / "digits" / ".submitit").rglob("*submission.sh")
    assert "--partition=gpu" in script.read_text()
    assert "--array=0-1%2" in script.read_text()


def test_the_folder_of_a_sweep_is_chosen_by_its_place_and_name(command) -> None:
    outcome = command("train", "-m", "seed=0,1", "hydra.sweep.dir=elsewhere")
    assert outcome.code == 2
    assert "a sweep's folder is paths.runs=FOLDER and name=NAME in it" in outcome.err
