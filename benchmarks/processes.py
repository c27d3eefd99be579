"""Seconds of an iteration with 1 and 2 processes on one batch, each process with its share of the cores.

    python benchmarks/processes.py --width 16 --json results/processes_cpu_width16.json

On one CPU, two processes have nothing to win: what is measured is what sharing a batch costs.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import Clock, fit, median, prepare, rounded, write

from anomaly_gan.allocator import keep_memory
from anomaly_gan.launch import in_processes
from anomaly_gan.results import machine


def work(folder: str, overrides: list[str], processes: int, threads: int, iterations: int) -> None:
    """One process's part of a run; the first keeps its seconds."""
    keep_memory()
    torch.set_num_threads(threads)
    detector, data, config = prepare(overrides, 3 + iterations)
    config["trainer"]["devices"] = processes
    clock = Clock(warm_up=3)
    fit(detector, data, config, clock)
    if int(os.environ["RANK"]) == 0:
        (Path(folder) / "seconds.json").write_text(json.dumps(clock.seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    print(f"width {arguments.width}, 32 images a batch, {machine()}")
    found: dict[str, Any] = {}
    for ablation in ("csi", "full"):
        for processes in arguments.processes:
            overrides = [
                f"width={arguments.width}", f"ablation={ablation}", f"trainer.accelerator={arguments.device}"
            ]  # fmt: skip
            with tempfile.TemporaryDirectory() as folder:
                threads = max(1, cores // processes)
                given = (folder, overrides, processes, threads, arguments.iterations)
                in_processes(work, given, processes)
                times = json.loads((Path(folder) / "seconds.json").read_text())
            mean = sum(times) / len(times)  # lines of Algorithm 1 come every fifth iteration
            of_ablation = found.setdefault(ablation, {})
            alone = of_ablation.get(str(arguments.processes[0]), {"seconds_mean": mean})
            of_ablation[str(processes)] = {
                "threads_each": threads,
                "seconds": rounded(times),
                "seconds_median": median(times),
                "seconds_mean": float(f"{mean:.4g}"),
                "speedup": round(alone["seconds_mean"] / mean, 3),
            }
            print(
                f"  {ablation:<6}{processes} processes of {threads} threads: {mean:.3f} s an iteration",
                flush=True,
            )
    write(arguments.json, {"width": arguments.width, "runs": found})


if __name__ == "__main__":
    main()
