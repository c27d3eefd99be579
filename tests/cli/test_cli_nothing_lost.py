"""Whatever ends a run, what it has learned is kept, and the same command goes on from there."""

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_gan import durable, evaluation
from anomaly_gan.callbacks.training_checkpoint import newest
from anomaly_gan.data import digits, folder
from anomaly_gan.data.image_set import Batch
from anomaly_gan.errors import UserError
from anomaly_gan.lifetime import Stopped, heard, hold, listening, release
from anomaly_gan.results import RunResult
from anomaly_gan.safe_load import safe_load, safe_save
from anomaly_gan.training.loop import PhasedTraining

FULL = ("train", "debug=fast", "ablation=full", "schedule.total_images=56", "resume=auto")
"""Seven iterations with all there is to carry: momentum, a schedule, an average of G, what D sees."""
FULL += ("optimizer=csi_sgd", "optimizer.learning_rate=0.001", "method.generator_average=0.9")
FULL += ("method.diff_augment.changes=[color,translation,cutout]", "method.log_every_iterations=3")
FULL += ("callbacks.checkpoint.every_minutes=0", "callbacks.learning_curve.at_iterations=[2,4]")
SHORT = ("train", "debug=fast", "resume=auto", "callbacks.checkpoint.every_minutes=0")


pytestmark = pytest.mark.usefixtures("_signals_are_heeded")


def only_run(runs: Path) -> Path:
    (run,) = (path for path in (runs / "digits").iterdir() if path.is_dir() and path.name[0] != ".")
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "detector.ckpt", weights_only=True)["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def sent(patch: pytest.MonkeyPatch, iteration: int, *numbers: int) -> None:
    """In that iteration this process is sent signals."""
    step = PhasedTraining.training_step

    def training_step(self: PhasedTraining, batch: Batch, batch_idx: int) -> None:
        if self.iteration == iteration:
            for number in numbers:
                os.kill(os.getpid(), number)
        step(self, batch, batch_idx)

    patch.setattr(PhasedTraining, "training_step", training_step)


def one_line(outcome, *words: str) -> None:
    """Nothing on standard error but one line, which has `words`."""
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("anomaly-gan: ")
    assert all(word in line for word in words), line


@pytest.mark.slow
def test_a_run_ended_again_and_again_ends_as_one_that_nobody_ended(command, tmp_path: Path) -> None:
    whole = command(*FULL, "paths.runs=whole")
    assert whole.code == 0, whole.err
    for iteration, number, code in (
        (0, signal.SIGTERM, 143),
        (1, signal.SIGINT, 130),
        (3, signal.SIGUSR1, 138),
        (4, signal.SIGHUP, 129),
    ):
        with pytest.MonkeyPatch.context() as patch:
            sent(patch, iteration, number)
            outcome = command(*FULL, "paths.runs=ended")
        assert outcome.code == code, outcome.err
        one_line(outcome, f"ended by {signal.Signals(number).name}", "same command")
        state = torch.load(only_run(tmp_path / "ended") / "checkpoints" / "last.ckpt", weights_only=True)
        assert state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == iteration + 1
    rest = command(*FULL, "paths.runs=ended")
    assert rest.code == 0, rest.err
    run, other = only_run(tmp_path / "whole"), only_run(tmp_path / "ended")
    same(weights(run), weights(other))
    for file in ("scores.csv", "log/metrics.csv"):
        assert (run / file).read_text() == (other / file).read_text()
    assert not list(other.rglob("*.partial"))
    again = command(*FULL, "paths.runs=ended")
    assert (again.code, again.out.splitlines()[0]) == (0, "finished before:")


def test_a_checkpoint_given_by_its_path_says_itself_what_it_belongs_to(
    command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sent(patch, 1, signal.SIGTERM)
        outcome = command("train", "debug=fast")
    assert outcome.code == 143
    path = only_run(tmp_path / "runs") / "checkpoints" / "last.ckpt"
    one_line(outcome, f"resume={path.relative_to(tmp_path)}")
    os.replace(path, tmp_path / "elsewhere.ckpt")
    assert "width=8" in command("train", "debug=fast", "resume=elsewhere.ckpt", "width=16").err
    assert command("train", "debug=fast", "resume=elsewhere.ckpt", "paths.runs=rest").code == 0


def test_a_signal_while_images_are_read_or_scored_ends_the_command_in_one_line(
    command, trained: Path, tmp_path: Path
) -> None:
    def ended(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits.Digits, "load_train", ended)
        outcome = command(*SHORT)
    assert outcome.code == 143
    one_line(outcome, "ended by SIGTERM before anything was kept")
    assert not (tmp_path / "runs" / "digits").exists() or not list(
        (tmp_path / "runs" / "digits").glob("[!.]*")
    )
    for arguments in (SHORT, ("evaluate", f"checkpoint={trained}")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evaluation, "score_test_set", ended)
            outcome = command(*arguments)
        assert outcome.code == 143
        one_line(outcome, "ended by SIGTERM")
        assert not [path for path in Path("runs").rglob("*") if path.name in ("result.json", "detector.ckpt")]
    assert command(*SHORT).code == 0


def test_what_was_ended_while_it_was_scored_is_scored_by_the_command_that_the_line_names(
    command, tmp_path: Path
) -> None:
    def ended(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "score_test_set", ended)
        outcome = command("train", "debug=fast", "callbacks.learning_curve.at_iterations=[]")
    assert outcome.code == 143
    path = only_run(tmp_path / "runs") / "checkpoints" / "last.ckpt"
    assert f"resume={path.relative_to(tmp_path)}" in outcome.err
    # As after a lack of memory: what costs less of it changes nothing that is learned.
    less = ("scoring.chunk=7", "data.evaluation_batch_size=16", "paths.runs=rest")
    assert command("train", "debug=fast", f"resume={path}", *less).code == 0
    assert RunResult.read(only_run(tmp_path / "rest")).auroc is not None
    (path.parent.parent / "result.json").touch()
    assert "its run is finished; evaluate it" in command("train", "debug=fast", f"resume={path}").err


def test_other_images_than_a_training_began_with_are_refused(command, tmp_path: Path) -> None:
    def paint(number: int) -> None:
        image = np.random.default_rng(number).integers(0, 256, (24, 24), np.uint8)
        Image.fromarray(image).save(tmp_path / "good" / f"{number}.png")

    (tmp_path / "good").mkdir()
    for number in range(12):
        paint(number)
    begun = ("train", "debug=fast", "data=folder", "data.root=good", "resume=auto")
    with pytest.MonkeyPatch.context() as patch:
        sent(patch, 1, signal.SIGTERM)
        assert command(*begun).code == 143
    paint(12)
    outcome = command(*begun)
    assert outcome.code == 2
    assert "its 11 images of train were not these 12; give the same images" in outcome.err
    (tmp_path / "good" / "12.png").unlink()
    assert command(*begun).code == 0


def test_files_that_wait_to_be_read_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for i in range(200):
        (tmp_path / f"{i}.png").write_bytes(b"")
    seen = []

    def slow(path: Path, **_: object) -> torch.Tensor:
        seen.append(path)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)
        return torch.zeros(1, 8, 8, dtype=torch.uint8)

    monkeypatch.setattr(folder, "decode", slow)
    data = folder.Folder(
        root=tmp_path, channels=1, image_size=8, normal_class=0, batch_size=1, total_images=1
    )
    with listening(), pytest.raises(Stopped):
        data.setup()
    assert len(seen) < 100


def test_a_second_ctrl_c_does_not_wait(command) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sent(patch, 2, signal.SIGINT, signal.SIGINT)
        outcome = command(*SHORT, "ablation=full")
    assert outcome.code == 130
    state = torch.load(only_run(Path("runs")) / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] == 2


def test_a_signal_that_python_swallows_is_heard_all_the_same() -> None:
    class Sends:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    def swallow(sends: list[Sends]) -> None:
        sends.clear()
        time.sleep(10)

    with listening(), pytest.raises(Stopped, match="SIGTERM"):
        swallow([Sends()])


def test_signals_that_are_ignored_stay_so_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with listening():
            os.kill(os.getpid(), signal.SIGHUP)
            assert heard() == 0
            hold()
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard() == signal.SIGTERM
            release()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit of one number of a tensor, which torch itself does not notice."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        numbers = max(archive.infolist(), key=lambda entry: entry.file_size)
        middle = content.index(archive.read(numbers)) + numbers.file_size // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def emptied(content: bytes) -> bytes:
    return b""


Damage = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def half_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of a command that was ended in its fourth iteration."""
    place = tmp_path_factory.mktemp("half_way")
    with pytest.MonkeyPatch.context() as patch:
        from anomaly_gan.cli.main import main

        patch.setattr(sys, "argv", ["anomaly-gan", *SHORT, f"paths.runs={place / 'half'}"])
        sent(patch, 2, signal.SIGTERM)
        with pytest.raises(SystemExit):
            main()
        patch.undo()
        patch.setattr(sys, "argv", ["anomaly-gan", *SHORT, f"paths.runs={place / 'whole'}"])
        with pytest.raises(SystemExit):
            main()
    return place


@pytest.mark.parametrize("damage", [cut, flipped, emptied])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    command, half_way: Path, tmp_path: Path, damage: Damage
) -> None:
    subprocess.run(["cp", "-r", half_way / "half", tmp_path / "runs"], check=True)
    last = only_run(tmp_path / "runs") / "checkpoints" / "last.ckpt"
    last.write_bytes(damage(last.read_bytes()))
    outcome = command(*SHORT)
    assert outcome.code == 0, outcome.err
    assert f"{last.relative_to(tmp_path)} is damaged: going on from previous.ckpt" in outcome.err
    same(weights(only_run(tmp_path / "runs")), weights(only_run(half_way / "whole")))


def test_where_both_are_damaged_nothing_starts_anew_by_itself(
    command, half_way: Path, tmp_path: Path
) -> None:
    subprocess.run(["cp", "-r", half_way / "half", tmp_path / "runs"], check=True)
    run = only_run(tmp_path / "runs")
    for name, damage in (("last", emptied), ("previous", flipped)):
        path = run / "checkpoints" / f"{name}.ckpt"
        path.write_bytes(damage(path.read_bytes()))
    outcome = command(*SHORT)
    assert outcome.code == 2
    one_line(outcome, "last.ckpt", "previous.ckpt", "are damaged", f"remove {run.relative_to(tmp_path)}")


def test_between_two_renamings_the_one_before_is_there(half_way: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", half_way / "half", tmp_path / "runs"], check=True)
    run = only_run(tmp_path / "runs")
    (run / "checkpoints" / "last.ckpt").unlink()
    assert newest(run) == run / "checkpoints" / "previous.ckpt"
    (run / "checkpoints" / "previous.ckpt").unlink()
    assert newest(run) is None


@contextmanager
def small_files(most: int) -> Iterator[None]:
    """Files of this process cannot be longer; the system says so by an error, not by SIGXFSZ."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    safe_save(path, {"weights": torch.ones(100)})
    with small_files(100_000), pytest.raises(OSError, match=r"too large.*last\.ckpt"):
        safe_save(path, {"weights": torch.zeros(1_000_000)}, before=tmp_path / "previous.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.equal(safe_load(path, "")["weights"], torch.ones(100))


@pytest.mark.parametrize("write", range(1, 9))
def test_a_disk_that_fills_up_ends_a_run_in_one_line_and_keeps_what_was_whole(
    command, tmp_path: Path, write: int
) -> None:
    """Whichever file it is that does not fit: configuration, log, checkpoint, detector, scores, result."""
    left = [write]

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable.os, "fsync", full)
        outcome = command(*SHORT)
    assert left[0] <= 0, "a run has fewer files"
    assert outcome.code == 2, outcome
    one_line(outcome, "No space left on device", "paths.runs=")
    assert not list(tmp_path.rglob("*.partial"))
    for path in tmp_path.rglob("*.ckpt"):
        safe_load(path, "damaged")


def test_a_full_file_system_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        safe_save(place / "last.ckpt", torch.ones(200_000))
        with pytest.raises(OSError, match="No space left"):
            safe_save(place / "last.ckpt", torch.zeros(2_000_000), before=place / "previous.ckpt")
        assert [file.name for file in place.iterdir()] == ["last.ckpt"]
        assert torch.equal(safe_load(place / "last.ckpt", ""), torch.ones(200_000))
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_the_result_is_written_last_of_all(command, tmp_path: Path) -> None:
    """Found by benchmarks/kills.py: a run with a result is finished, but its log had no test scores."""

    def ended(*_: object) -> None:
        raise Stopped(signal.SIGTERM)

    assert command(*SHORT, "paths.runs=whole").code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunResult, "write", ended)
        assert command(*SHORT, "paths.runs=ended").code == 143
    assert command(*SHORT, "paths.runs=ended").code == 0
    one, other = (only_run(tmp_path / name) / "log" / "metrics.csv" for name in ("whole", "ended"))
    assert one.read_text() == other.read_text()


def test_what_a_killed_process_left_half_written_is_taken_away(
    command, half_way: Path, tmp_path: Path
) -> None:
    subprocess.run(["cp", "-r", half_way / "half", tmp_path / "runs"], check=True)
    run = only_run(tmp_path / "runs")
    (run / "checkpoints" / ".last.ckpt.x.partial").write_bytes(b"half")
    (run / ".detector.ckpt.y.partial").write_bytes(b"half")
    assert command(*SHORT).code == 0
    assert not list(run.rglob("*.partial"))


def started(arguments: list[str], place: Path, ready: Callable[[], bool]) -> subprocess.Popen[str]:
    """The command in a process of its own, once `ready`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "anomaly_gan", *arguments],
        cwd=place, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


def has_checkpoint(place: Path) -> Callable[[], bool]:
    return lambda: bool(list(place.rglob("last.ckpt")))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["null", "local_parallel"])
def test_a_sweep_that_is_ended_has_no_failed_run_and_goes_on(launcher: str, tmp_path: Path) -> None:
    long = [
        SHORT[0],
        "-m",
        *SHORT[1:],
        "seed=0",
        f"launcher={launcher}",
        "schedule.total_images=3200",
        "callbacks.learning_curve.at_iterations=[]",
    ]
    sweep = started(long, tmp_path, has_checkpoint(tmp_path))
    sweep.send_signal(signal.SIGTERM)
    _, err = sweep.communicate(timeout=240)
    assert sweep.returncode == 143, err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].endswith("the same command goes on with the sweep")
    assert not list(tmp_path.rglob("FAILED"))
    assert newest(only_run(tmp_path / "runs")) is not None


@pytest.mark.slow
def test_two_processes_end_together_and_go_on(tmp_path: Path) -> None:
    two = [*SHORT, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    two += ["schedule.total_images=8000", "callbacks.learning_curve.at_iterations=[]"]
    process = started(two, tmp_path, has_checkpoint(tmp_path))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 143, err
    (line,) = [line for line in err.strip().splitlines() if not line.startswith("training: ")]
    assert "ended by SIGTERM; the same command goes on" in line
    run = only_run(tmp_path / "runs")
    path = newest(run)
    assert path is not None
    assert path.name == "last.ckpt"


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"loops": 1}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged; remove"):
        newest(tmp_path)
