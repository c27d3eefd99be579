"""Is anything lost when a run is killed? SIGKILL at random moments and while a checkpoint is written.

Every kill is followed by the same command with resume=auto, at most five times a run, until the run ends by
itself. One that falls into the scoring, after the training, does not count, and the run is then left to end.
After each kill every checkpoint that is there must load; in the end weights, scores and log must be those of
a run that nobody killed, to the last bit. Modules are imported once, each try is a fork; pictures,
which take half of a small run, are not drawn.

    python benchmarks/kills.py --random 200 --aimed 50 --output results/kills.json
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import common  # first, for it sets what torch reads when it is loaded
import torch
from omegaconf import DictConfig, OmegaConf

from anomaly_gan.callbacks.training_checkpoint import next_iteration, read
from anomaly_gan.cli import train
from anomaly_gan.errors import UserError
from anomaly_gan.lifetime import listening
from anomaly_gan.reporting import figures

SETTINGS = (
    "debug=fast", "ablation=full", "optimizer=csi_sgd", "optimizer.learning_rate=0.001", "resume=auto",
    "schedule.total_images=192", "callbacks.checkpoint.every_minutes=0", "trainer=cpu",
    "method.generator_average=0.9", "method.diff_augment.changes=[color,translation,cutout]",
    "callbacks.learning_curve.at_iterations=[5]",
)  # fmt: skip
ITERATIONS = 24
KILLS_A_RUN = 5
SAME = ("scores.csv", "log/metrics.csv")
"""Files of a run that must be the same, byte for byte, beside the weights."""


def start(config: DictConfig, place: Path) -> int:
    """A training into `place` in a fork of this process; its id."""
    process = os.fork()
    if process:
        return process
    log = os.open(place / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 70
    try:
        figures.save = lambda *_: None
        with listening():
            code = train.main(config, place / "run")
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(process: int) -> int | None:
    """How a fork ended: its exit code, or the signal that killed it, negative; None: it has not."""
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def kill(process: int) -> int:
    """End it at once; how it ended, which may have been by itself just before."""
    os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def at_random(process: int, place: Path, seconds: float) -> int:
    """Kill it in the first two thirds of a run that takes `seconds`; how it ended."""
    last = time.monotonic() + random.uniform(0, seconds * 2 / 3)
    while time.monotonic() < last:
        code = ended(process)
        if code is not None:
            return code
        time.sleep(0.005)
    return kill(process)


def while_writing(process: int, place: Path, seconds: float) -> int:
    """Kill it while it writes a checkpoint, or just after; how it ended."""
    writes, seen = random.randint(1, 4), False
    while True:
        code = ended(process)
        if code is not None:
            return code
        writing = bool(list(place.glob("run/checkpoints/.last.ckpt.*.partial")))
        writes -= writing and not seen
        seen = writing
        if writes == 0:
            time.sleep(random.uniform(0, 0.02))
            return kill(process)


def look(place: Path) -> dict[str, Any]:
    """What a kill has left: which checkpoints do not load, and where it fell."""
    found: dict[str, Any] = {"unloadable": [], "iterations": 0}
    for path in place.glob("run/checkpoints/*.ckpt"):
        try:
            found["iterations"] = max(found["iterations"], next_iteration(read(path)))
        except UserError as damaged:
            found["unloadable"].append(str(damaged))
    found["half_written"] = any(place.glob("run/checkpoints/.*.partial"))
    return found


def differences(run: Path, reference: Path) -> list[str]:
    """What of a run is not as in the one that nobody killed."""
    ours, theirs = (
        torch.load(folder / "detector.ckpt", weights_only=True)["state_dict"] for folder in (run, reference)
    )
    wrong = [name for name in theirs if name not in ours or not torch.equal(ours[name], theirs[name])]
    return wrong + [name for name in SAME if (run / name).read_bytes() != (reference / name).read_bytes()]


def test(kind: str, kills: int, config: DictConfig, seconds: float, place: Path) -> dict[str, Any]:
    """That many kills of one kind, over as many runs as it takes."""
    end = {"random": at_random, "aimed": while_writing}[kind]
    counts: Counter[str] = Counter()
    fell: Counter[str] = Counter()
    problems: list[str] = []
    while counts["kills"] < kills:
        folder = place / f"{kind}_{counts['runs']}"
        folder.mkdir()
        kept = 0
        for attempt in range(KILLS_A_RUN + 1):
            process = start(config, folder)
            if attempt < KILLS_A_RUN and counts["kills"] < kills and kept < ITERATIONS:
                code = end(process, folder, seconds)
            else:
                code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            left = look(folder)
            problems += left["unloadable"]
            counts["unloadable"] += len(left["unloadable"])
            if code != -signal.SIGKILL:
                break
            counts["half_written"] += left["half_written"]
            kept = left["iterations"]
            counts["kills"] += kept < ITERATIONS
            fell["nothing kept yet" if not kept else "scoring" if kept == ITERATIONS else "training"] += 1
        counts["runs"] += 1
        if code:
            counts["failed_resumes"] += 1
            problems.append((folder / "log.txt").read_text()[-500:])
        elif wrong := differences(folder / "run", place / "reference" / "run"):
            counts["diverged"] += 1
            problems.append(f"{folder.name}: {wrong[:5]}")
        counts["left_half_written"] += any(folder.rglob("*.partial"))
        shutil.rmtree(folder)
        print(f"{kind}: {counts['kills']} of {kills} kills, {len(problems)} problems", flush=True)
    names = ("kills", "half_written", "runs", "unloadable", "failed_resumes", "diverged", "left_half_written")
    return {name: counts[name] for name in names} | {"fell_into": dict(fell), "problems": problems}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=200, help="kills at random moments")
    parser.add_argument("--aimed", type=int, default=50, help="kills while a checkpoint is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    random.seed(given.seed)
    torch.set_num_threads(1)
    config = OmegaConf.create(common.compose_config(SETTINGS))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        seconds = []
        for name in ("first", "reference"):  # the first is to warm up
            (place / name).mkdir()
            begin = time.monotonic()
            status = os.waitstatus_to_exitcode(os.waitpid(start(config, place / name), 0)[1])
            assert status == 0, (place / name / "log.txt").read_text()
            seconds.append(time.monotonic() - begin)
        content: dict[str, Any] = {"settings": list(SETTINGS), "seconds_of_a_run": common.rounded(seconds)}
        for kind in ("random", "aimed"):
            begin = time.monotonic()
            content[kind] = test(kind, getattr(given, kind), config, seconds[-1], place)
            content[kind]["seconds"] = round(time.monotonic() - begin, 1)
            print(f"{kind}: {content[kind]}", flush=True)
    common.write(given.output, content)
    wrong = ("unloadable", "failed_resumes", "diverged", "left_half_written")
    raise SystemExit(any(content[kind][name] for kind in ("random", "aimed") for name in wrong))


if __name__ == "__main__":
    main()
