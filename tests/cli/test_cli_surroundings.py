"""Commands in processes of their own, where the machine is set up as ours is not."""

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = ["-m", "anomaly_gan", "train", "debug=fast"]


def run(folder: Path, arguments: list[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """Python with `arguments`."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_no_command_heeds_the_backend_of_a_notebook(tmp_path: Path, backend: str) -> None:
    done = run(tmp_path, TRAIN, MPLBACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("figures/*.png"))


@pytest.mark.slow
def test_srun_that_is_there_and_not_used_is_no_news(tmp_path: Path) -> None:
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\n")
    srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
    path = f"{srun.parent}{os.pathsep}{os.environ['PATH']}"
    done = run(tmp_path, TRAIN, PATH=path)
    assert done.returncode == 0, done.stderr
    assert "srun" not in done.stderr


def without_readers(
    folder: Path, arguments: list[str], *gone: str, lines: int = 0, **environment: str
) -> str:
    """Run Python with `arguments`, whose streams `gone` lose their reader after so many lines; what it
    writes to the others, once it has ended well.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=os.environ | environment, text=True, **streams
    ) as process:
        for name in gone:
            stream = getattr(process, name)
            for _ in range(lines):
                stream.readline()
            stream.close()
        rest = "".join(getattr(process, name).read() for name in streams if name not in gone)
    assert process.returncode == 0, rest
    return rest


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["train", "--cfg", "job"], ["report", "."]]
)
def test_a_reader_that_goes_away_is_no_error(
    trained: Path, arguments: list[str], buffered: str, tmp_path: Path
) -> None:
    if arguments[0] == "report":
        arguments = ["report", str(trained), "--output", str(tmp_path)]
    for lines in (0, 1):
        command = ["-m", "anomaly_gan", *arguments]
        told = without_readers(tmp_path, command, "stdout", lines=lines, PYTHONUNBUFFERED=buffered)
        assert told == ""


@pytest.mark.slow
def test_a_training_whose_readers_go_away_goes_on_to_its_end(tmp_path: Path) -> None:
    without_readers(tmp_path, TRAIN, "stdout", "stderr")
    told = without_readers(tmp_path, TRAIN, "stdout", lines=1)
    assert "Traceback" not in told
    assert "ignored" not in told
    runs = list((tmp_path / "runs" / "digits").iterdir())
    assert len(runs) == 2
    for run in runs:
        assert {"detector.ckpt", "result.json", "report.html"} <= {path.name for path in run.iterdir()}


WRITES = """
import sys
from tqdm import tqdm
from anomaly_gan.terminal import outlive_readers
outlive_readers()
sys.stdin.readline()  # when the readers have gone
for _ in tqdm(range(3), mininterval=0):
    print("said", flush=True)
    print("said", file=sys.stderr)
open("done", "w").close()
"""


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_terminal_that_hangs_up_is_a_reader_that_went_away(tmp_path: Path, buffered: str) -> None:
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES],
        stdin=subprocess.PIPE,
        stdout=its,
        stderr=its,
        cwd=tmp_path,
        env=os.environ | {"PYTHONUNBUFFERED": buffered},
    )
    os.close(its)
    os.close(ours)
    process.communicate(b"\n")
    assert process.returncode == 0
    assert (tmp_path / "done").exists()


def test_a_full_disk_is_no_reader_that_went_away(tmp_path: Path) -> None:
    program = "from anomaly_gan.terminal import outlive_readers; outlive_readers(); print(1, flush=True)"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_the_processes_of_one_run_outlive_their_readers_too(tmp_path: Path) -> None:
    program = "from anomaly_gan.launch import in_processes; in_processes(print, ('said',), 2)"
    told = without_readers(tmp_path, ["-c", program], "stdout", PYTHONUNBUFFERED="1")
    assert told == ""
