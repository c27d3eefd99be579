"""Everything worth knowing from one stay on a GPU machine, in one command that needs no network.

    python benchmarks/gpu_protocol.py --minutes 9 --stay 28 --data cifar10-jpeg.tar.xz --out results/gpu

Checks (compiled, half-precision and captured steps against plain ones, resuming), then the benchmarks, then
trainings on CIFAR-10-JPEG, class after class, `csi` and `full`, with the schedule that fits what is left of
`--stay`. All that is found goes to OUT/CHIP.json as it is found; pictures, weights and data stay in `--work`.
When the minutes are over, what runs is ended; the same command goes on from there, trainings from their
checkpoints: calls follow each other while the machine is held, for `--work` goes with it. A part that fails,
or was cut short twice, is noted and does not stop the others; `--again PART` does it anew.

A bare machine needs this folder's parent on PYTHONPATH and, beside torch, torchvision and Lightning,
hydra-core, omegaconf, antlr4-python3-runtime, torch-fidelity, torchmetrics, jaxtyping, matplotlib,
scikit-learn and tqdm.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import compose_config
from gpu_checks import PARTS

from anomaly_gan.results import RESULT_FILE, RunResult, machine, versions, write_atomically

HERE = Path(__file__).parent
CLASSES = (
    "automobile", "horse", "ship", "truck", "airplane", "bird", "cat", "deer", "dog", "frog",
)  # fmt: skip
"""Those whose AUROC rises early come first."""

GRACE = 20
"""Seconds that a call keeps for itself at the end."""


@dataclass
class Stay:
    """One call's time, and what has been found in all calls so far."""

    path: Path
    deadline: float
    found: dict[str, Any]

    @classmethod
    def open(cls, out: Path, minutes: float, stay_minutes: float) -> "Stay":
        chip = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        path = out / f"{re.sub(r'[^A-Za-z0-9]+', '_', chip).lower()}.json"
        out.mkdir(parents=True, exist_ok=True)
        found = json.loads(path.read_text()) if path.exists() else {}
        found |= {"machine": machine(), "versions": versions(), "stay_minutes": stay_minutes}
        for key in ("parts", "runs"):
            found.setdefault(key, {})
        found.setdefault("seconds_used", 0.0)
        return cls(path, time.monotonic() + 60 * minutes, found)

    @property
    def left(self) -> float:
        """Seconds of this call."""
        return self.deadline - time.monotonic() - GRACE

    @property
    def left_of_stay(self) -> float:
        """Seconds of all calls."""
        return 60 * self.found["stay_minutes"] - self.found["seconds_used"]

    def keep(self) -> None:
        write_atomically(self.path, json.dumps(self.found, indent=2) + "\n")

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Time inside counts as used, and what was found is kept, whatever happens."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.found["seconds_used"] += time.monotonic() - start
            self.keep()

    def part(self, name: str, command: list[str], result: Path | None = None) -> None:
        """Run `command` unless it was done; keep the JSON that it prints last, or writes to `result`."""
        if name in self.found["parts"] or self.left < 30:
            return
        with self.counted():
            print(f"{name} ...", flush=True)
            code, output = run(command, self.left)
            if code is None:
                print("  ended: the minutes are over")
                cut = self.found.setdefault("cut_short", [])
                if name in cut:  # too long for any call: the others need the time
                    self.found["parts"][name] = {"failed": ["cut short twice"]}
                cut.append(name)
                return
            words = output.strip().splitlines()
            try:
                if code:
                    raise ValueError(f"exit code {code}")
                self.found["parts"][name] = json.loads(result.read_text() if result else words[-1])
            except (ValueError, IndexError, OSError) as error:
                self.found["parts"][name] = {"failed": [*words[-8:], str(error)]}
            failed = "failed" in self.found["parts"][name]
            print(f"  {'failed' if failed else 'done'}; {self.left:.0f} s left", flush=True)


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


def unpack(data: Path, work: Path) -> Path:
    """The folder that holds cifar10-jpeg, from a folder or an archive."""
    if data.is_dir():
        return data
    folder = work / "data"
    if not folder.is_dir():
        partial = work / "data.partial"
        with tarfile.open(data) as archive:
            archive.extractall(partial, filter="data")
        partial.rename(folder)  # whole or not at all
    return folder


def mode_of_training(parts: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """The fastest measured mode that passed its check, and its seconds per iteration by ablation."""
    measured = parts.get("iterations", {})
    captured = parts.get("check captured", {}).get("passed")
    allowed = {m: s for m, s in measured.items() if m == "bf16" or (m == "bf16, captured" and captured)}
    if not allowed:
        raise SystemExit("no training: the part 'iterations' has not been measured; see the results")
    return min(allowed.items(), key=lambda item: item[1]["csi"])


def train(stay: Stay, arguments: argparse.Namespace, plain: list[str]) -> None:
    """Class after class, csi and full, in the schedule that the first call chose."""
    mode, seconds = mode_of_training(stay.found["parts"])
    with stay.counted():
        data = unpack(arguments.data, arguments.work)
    if "schedule" not in stay.found:
        each = stay.left_of_stay / len(arguments.classes) - 2 * arguments.evaluation_seconds
        iterations = max(20, int(each / (seconds["csi"] + seconds["full"])))
        batch = compose_config(plain)["batch_size"]
        stay.found["schedule"] = {
            "mode": mode, "iterations": iterations, "total_images": iterations * batch,
            "classes": list(arguments.classes),
        }  # fmt: skip
        stay.keep()
    schedule = stay.found["schedule"]
    for normal_class in schedule["classes"]:
        for ablation in ("csi", "full"):
            name = f"{normal_class} {ablation}"
            if name in stay.found["runs"] or stay.left < 30:
                continue
            folder = arguments.work / "runs" / name.replace(" ", "_")
            overrides = [
                *plain,
                "trainer.precision=bf16-mixed",
                f"trainer.cuda_graphs={str('captured' in schedule['mode']).lower()}",
                "data=cifar10_jpeg",
                f"paths.data_dir={data}",
                f"normal_class={normal_class}",
                f"ablation={ablation}",
                f"schedule.total_images={schedule['total_images']}",
                "data.calibration_fraction=0",
                "callbacks.checkpoint.every_minutes=1.0",
                f"hydra.run.dir={folder}",
                *arguments.override,
            ]
            if (folder / "checkpoints" / "last.ckpt").exists():
                overrides.append(f"resume={folder / 'checkpoints' / 'last.ckpt'}")
            with stay.counted():
                print(f"{name}: {schedule['iterations']} iterations ...", flush=True)
                code, output = run([sys.executable, "-m", "anomaly_gan", "train", *overrides], stay.left)
                if code is None:
                    print("  ended: the minutes are over; the next call goes on")
                elif code or not (folder / RESULT_FILE).exists():
                    stay.found["runs"][name] = {"failed": output.strip().splitlines()[-8:]}
                    print("  failed")
                else:
                    stay.found["runs"][name] = kept(RunResult.read(folder))
                    print(f"  {stay.found['runs'][name]['auroc']}", flush=True)


def kept(result: RunResult) -> dict[str, Any]:
    """What is worth carrying home of a result: all but configuration, versions and command."""
    left_out = ("config", "versions", "machine", "command")
    return {key: value for key, value in vars(result).items() if key not in left_out}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of this call")
    parser.add_argument("--stay", type=float, help="minutes of all calls together; else those of this one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the findings")
    parser.add_argument(
        "--data", type=Path, help="cifar10-jpeg.tar.xz, or the folder that holds cifar10-jpeg"
    )
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "gpu_protocol", help="folder of all else"
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--classes", nargs="+", default=CLASSES)
    parser.add_argument("--only", nargs="+", default=["checks", "benchmarks", "training"])
    parser.add_argument("--again", nargs="+", default=[], metavar="PART", help="parts to be done anew")
    parser.add_argument("--override", nargs="+", default=[], help="settings of the trainings")
    parser.add_argument(
        "--evaluation-seconds", type=float, default=60, help="after each training, to plan with"
    )
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stay = Stay.open(arguments.out, arguments.minutes, arguments.stay or arguments.minutes)
    for name in arguments.again:
        stay.found["parts"].pop(name, None)
        stay.found["runs"].pop(name, None)
    wanted = arguments.only
    for name in PARTS:
        is_check = name.startswith("check")
        if ("checks" in wanted) if is_check else ("benchmarks" in wanted or "training" in wanted):
            part = [str(HERE / "gpu_checks.py"), name, "--width", str(arguments.width)]
            stay.part(name, [sys.executable, *part])
    if "benchmarks" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            for name, script in scripts(device, arguments.width).items():
                result = Path(folder) / "result.json"
                command = [sys.executable, str(HERE / script[0]), *script[1:], "--json", str(result)]
                stay.part(name, command, result)
    if "training" in wanted:
        if arguments.data is None:
            raise SystemExit("--data cifar10-jpeg.tar.xz must be given to train")
        train(stay, arguments, [f"width={arguments.width}", f"trainer.accelerator={device}"])
    print(f"{stay.path}: {len(stay.found['parts'])} parts, {len(stay.found['runs'])} trainings")


def scripts(device: str, width: int) -> dict[str, list[str]]:
    """The benchmarks of their own, by the name of the part."""
    common = ["--device", device]
    sized = [*common, "--width", str(width)]
    return {
        "step": ["step.py", *sized, "--compile"],
        "phases": ["phases.py", *sized, "--precision", "bf16-mixed", "--periods", "10"],
        "scoring": ["scoring.py", *common],
        "epoch": ["epoch.py", *sized, "--precision", "bf16-mixed"],
    }


if __name__ == "__main__":
    main()
