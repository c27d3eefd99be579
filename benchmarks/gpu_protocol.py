"""Everything worth knowing from one stay on a GPU machine, in one command that needs no network.

    python benchmarks/gpu_protocol.py --minutes 9 --data DATA_FOLDER --out results/gpu

The cheapest knowledge comes first: the checks that a training hangs on and the seconds of an iteration. Then
the trainings of `gpu_trainings.yaml`, in its order, several at a time. Then what takes long to compile, and
the other benchmarks. No part may take longer than its limit. All that is found goes to OUT/CHIP.json as it
is found; pictures and weights stay in `--work`. When the minutes are over, what runs is ended; the same
command goes on from there, trainings from their checkpoints: calls follow each other while the machine is
held, for `--work` goes with it. A part that fails, takes too long or was cut short twice is noted and does
not stop the others; `--again PART` does it anew.

A bare machine needs this folder's parent on PYTHONPATH and, beside torch, torchvision and Lightning,
hydra-core, omegaconf, antlr4-python3-runtime, hydra-submitit-launcher, submitit, torch-fidelity,
torchmetrics, jaxtyping, matplotlib, scikit-learn and tqdm.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu_checks import PARTS
from gpu_page import NOT_MEASURED
from omegaconf import OmegaConf

from anomaly_gan.results import RESULT_FILE, RunResult, machine, versions, write_atomically

HERE = Path(__file__).parent

FIRST = ("iterations", "check captured", "peaks", "check half precision", "check resume", "kernels")
"""Those parts of `gpu_checks.py` that come before the trainings; the others compile."""

LIMIT = {"iterations": 120, "check compiled": 180, "iterations compiled": 150, "step": 180}
"""Seconds of a part; of the others `USUAL_LIMIT`."""

USUAL_LIMIT = 75

GRACE = 20
"""Seconds that a call keeps for itself at the end."""


@dataclass
class Stay:
    """One call's time, and what has been found in all calls so far."""

    path: Path
    deadline: float
    found: dict[str, Any]
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Of `found`, which several trainings write to."""

    @classmethod
    def open(cls, out: Path, minutes: float, width: int) -> "Stay":
        chip = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        path = out / f"{re.sub(r'[^A-Za-z0-9]+', '_', chip).lower()}.json"
        out.mkdir(parents=True, exist_ok=True)
        found = json.loads(path.read_text()) if path.exists() else {}
        if found.setdefault("width", width) != width:
            raise SystemExit(f"{path} is of width {found['width']}: give another --out for --width {width}")
        found |= {"machine": machine(), "versions": versions()}
        for key in ("parts", "runs", "cut_short"):
            found.setdefault(key, {})
        return cls(path, time.monotonic() + 60 * minutes, found)

    @property
    def left(self) -> float:
        """Seconds of this call."""
        return self.deadline - time.monotonic() - GRACE

    def keep(self, kind: str, name: str, value: dict[str, Any]) -> None:
        with self.lock:
            self.found[kind][name] = value | {"git": self.found["versions"].get("git")}
            write_atomically(self.path, json.dumps(self.found, indent=2) + "\n")

    def part(self, name: str, command: list[str], result: Path | None = None) -> None:
        """Run `command` unless it was done; keep the JSON that it prints last, or writes to `result`."""
        if name in self.found["parts"] or self.left < 30:
            return
        print(f"{name} ...", flush=True)
        limit = LIMIT.get(name, USUAL_LIMIT)
        code, output = run(command, min(limit, self.left))
        if code is None:
            print("  ended: too long")
            if self.left > 0:
                self.keep("parts", name, {"failed": [f"over {limit} s"]})
            elif name in self.found["cut_short"]:
                self.keep("parts", name, {"failed": ["cut short twice"]})
            else:
                self.keep("cut_short", name, {})
            return
        words = output.strip().splitlines()
        try:
            if code:
                raise ValueError(f"exit code {code}")
            self.keep("parts", name, json.loads(result.read_text() if result else words[-1]))
            print(f"  {json.dumps(self.found['parts'][name])[:300]}; {self.left:.0f} s left", flush=True)
        except (ValueError, IndexError, OSError) as error:
            self.keep("parts", name, {"failed": [*words[-8:], str(error)]})
            print("  failed", *words[-3:], sep="\n  ", flush=True)


def run(command: list[str], timeout: float) -> tuple[int | None, str]:
    """Exit code (None where the time was over) and output of a command; its own processes end with it."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=max(timeout, 1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return None, ""
    return process.returncode, output


def trainings(path: Path, groups: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Name and settings of each training of a file's groups, of all where none is given, in its order."""
    for group in OmegaConf.load(path).groups:
        if groups and group.name not in groups:
            continue
        for more in group.of:
            values = [setting.split("=", 1)[1] for setting in more.split()]
            yield ", ".join([group.name, *values]), f"{group.settings} {more}".split()


def graphs_are_right(parts: dict[str, Any]) -> bool:
    """Whether recorded steps passed their check here."""
    return bool(parts.get("check captured", {}).get("passed"))


def train(stay: Stay, name: str, settings: list[str], data: Path, work: Path) -> None:
    """One training, unless it was done or no time is left; from its checkpoint, if it was ended."""
    if name in stay.found["runs"] or stay.left < 10:
        return
    folder = work / "runs" / re.sub(r"[^A-Za-z0-9.]+", "_", name)
    common = ["data.calibration_fraction=0", "callbacks.checkpoint.every_minutes=1.0", "resume=auto"]
    command = [*settings, *common, f"paths.data_dir={data}", f"hydra.run.dir={folder}"]
    code, output = run([sys.executable, "-m", "anomaly_gan", "train", *command], stay.left)
    if code is None:
        print(f"{name}: ended, the minutes are over; the next call goes on")
    elif code or not (folder / RESULT_FILE).exists():
        stay.keep("runs", name, {"failed": output.strip().splitlines()[-8:]})
        print(f"{name}: failed", *output.strip().splitlines()[-4:], sep="\n  ", flush=True)
    else:
        result = RunResult.read(folder)
        stay.keep("runs", name, {"settings": settings} | kept(result))
        auroc = (result.auroc[result.primary] or 0) * 100
        print(
            f"{name}: {auroc:.2f}, trained {result.seconds['train']:.0f} s; {stay.left:.0f} left", flush=True
        )


def kept(result: RunResult) -> dict[str, Any]:
    """What is worth carrying home of a result: all but configuration, versions, command and place."""
    return {key: value for key, value in vars(result).items() if key not in NOT_MEASURED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of this call")
    parser.add_argument("--out", type=Path, required=True, help="folder of the findings")
    parser.add_argument("--data", type=Path, help="folder that holds cifar10-jpeg, FashionMNIST")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "gpu_protocol", help="folder of all else"
    )
    parser.add_argument("--width", type=int, default=64, help="of the checks and benchmarks")
    parser.add_argument("--trainings", type=Path, default=HERE / "gpu_trainings.yaml")
    parser.add_argument("--groups", nargs="+", default=[], help="of the trainings; all unless given")
    parser.add_argument("--workers", type=int, default=4, help="trainings at a time")
    parser.add_argument("--only", nargs="+", default=["first", "trainings", "benchmarks"])
    parser.add_argument("--again", nargs="+", default=[], metavar="PART", help="parts to be done anew")
    parser.add_argument("--override", nargs="+", default=[], help="settings of the trainings")
    given = parser.parse_args()
    if "trainings" in given.only and given.data is None:
        raise SystemExit("--data, the folder that holds cifar10-jpeg, must be given to train")
    known = {group.name for group in OmegaConf.load(given.trainings).groups}
    if unknown := set(given.groups) - known:
        raise SystemExit(f"--groups: there is no {sorted(unknown)}; there are {sorted(known)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stay = Stay.open(given.out, given.minutes, given.width)
    for name in given.again:
        for kind in ("parts", "runs", "cut_short"):
            stay.found[kind].pop(name, None)

    def check(name: str) -> None:
        command = [sys.executable, str(HERE / "gpu_checks.py"), name, "--width", str(given.width)]
        stay.part(name, command)

    if "first" in given.only:
        for name in FIRST:
            check(name)
    if "trainings" in given.only:
        graphs = f"trainer.cuda_graphs={str(graphs_are_right(stay.found['parts'])).lower()}"
        common = [f"trainer.accelerator={device}", "trainer.precision=bf16-mixed", graphs]
        started = []
        with ThreadPoolExecutor(given.workers) as pool:
            for name, settings in trainings(given.trainings, given.groups):
                every = [*common, *settings, *given.override]
                started.append(pool.submit(train, stay, name, every, given.data, given.work))
        for training in started:
            training.result()  # an error of ours is not kept quiet
    if "benchmarks" in given.only:
        for name in PARTS:
            if name not in FIRST:
                check(name)
        with tempfile.TemporaryDirectory() as folder:
            for name, script in scripts(device, given.width).items():
                result = Path(folder) / "result.json"
                command = [sys.executable, str(HERE / script[0]), *script[1:], "--json", str(result)]
                stay.part(name, command, result)
    print(f"{stay.path}: {len(stay.found['parts'])} parts, {len(stay.found['runs'])} trainings")


def scripts(device: str, width: int) -> dict[str, list[str]]:
    """The benchmarks of their own, by the name of the part."""
    common = ["--device", device]
    sized = [*common, "--width", str(width)]
    return {
        "phases": ["phases.py", *sized, "--precision", "bf16-mixed", "--periods", "10"],
        "scoring": ["scoring.py", *common],
        "epoch": ["epoch.py", *sized, "--precision", "bf16-mixed"],
        "step": ["step.py", *sized, "--compile"],
    }


if __name__ == "__main__":
    main()
