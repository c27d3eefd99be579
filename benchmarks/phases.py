"""What each line of Algorithm 1 costs: counted FLOPs, measured seconds, and peak memory.

The cost of an ablation over `csi` is that of its lines in N iterations over that of N times `feature`. Every
ablation runs in a process of its own, for its peak memory; `feature` is timed in each of them.

    python benchmarks/phases.py --width 64 --json results/phases_cpu_width64.json
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from anomaly_gan.algorithm import Phase
from anomaly_gan.allocator import keep_memory
from anomaly_gan.checkpoint import build_method
from anomaly_gan.cli.main import config_folder
from anomaly_gan.data.image_set import Batch
from anomaly_gan.methods.anomaly_gan import AnomalyGAN
from anomaly_gan.objectives import Step
from anomaly_gan.results import machine, versions

RUNS = {
    "csi": ["ablation=csi"],
    "csi_g, standard": ["ablation=csi_g", "networks=standard"],
    "full, standard": ["ablation=full", "networks=standard"],
    "full, resnet": ["ablation=full", "networks=resnet"],
    "full, resnet, shared forward": [
        "ablation=full",
        "networks=resnet",
        "method.share_generator_forward=true",
    ],
}


def measure(overrides: list[str], width: int, periods: int, pixels: int) -> dict[str, Any]:
    """FLOPs and seconds of each line, over `periods` times N iterations after as many to warm up."""
    keep_memory()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.manual_seed(0)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config: Any = OmegaConf.to_container(
            compose("train", [f"width={width}", *overrides]).method, resolve=True
        )
    every = config["every"]
    iterations = (1 + periods) * every
    data = {"image_size": pixels, "channels": 3, "iterations": iterations}
    detector = build_method(config, data)
    assert isinstance(detector, AnomalyGAN)
    flops: dict[str, int] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    descend = detector.descend

    def timed(phase: Phase, step: Step) -> None:
        if phase.name not in flops:
            with FlopCounterMode(display=False) as counter:
                descend(phase, step)
            flops[phase.name] = counter.get_total_flops()
            return
        start = time.perf_counter()
        descend(phase, step)
        if detector.iteration >= every:
            seconds[phase.name].append(time.perf_counter() - start)

    detector.descend = timed  # type: ignore[method-assign]
    raw = torch.randint(0, 256, (iterations, 32, 3, pixels, pixels), dtype=torch.uint8)
    batches = [Batch(images, torch.zeros(32, dtype=torch.int64), torch.arange(32)) for images in raw]
    before = peak_mib()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        ).fit(detector, DataLoader(batches, batch_size=None))
    lines = {
        phase.name: {
            "every": phase.every,
            "gflop": round(flops[phase.name] / 1e9, 2),
            "seconds_median": round(statistics.median(seconds[phase.name]), 4),
        }
        for phase in detector.phases
    }
    return {
        "lines": lines,
        "counted_over_csi": over_csi(lines, "gflop"),
        "measured_over_csi": over_csi(lines, "seconds_median"),
        "peak_mib": peak_mib(),
        "peak_mib_before_training": before,
    }


def over_csi(lines: dict[str, dict[str, float]], of: str) -> float:
    """Cost of an iteration, on average, over that of its `feature` line alone."""
    return round(sum(line[of] / line["every"] for line in lines.values()) / lines["feature"][of], 3)


def peak_mib() -> int:
    """The most memory this process has had so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}")
    for line, of in found["lines"].items():
        rate = of["gflop"] / of["seconds_median"]
        print(
            f"  {line:<24}every {of['every']}{of['gflop']:10.1f} GFLOP{of['seconds_median']:9.3f} s"
            f"{rate:8.0f} GFLOP/s"
        )
    print(
        f"  over csi: counted {found['counted_over_csi']:.2f}, measured {found['measured_over_csi']:.2f}; "
        f"peak memory {found['peak_mib']} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--periods", type=int, default=3, help="times N iterations that are measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.width, arguments.periods, arguments.pixels)))
        return
    print(f"width {arguments.width}, {arguments.pixels} pixels, 32 images, float32, {machine()}")
    found = {}
    for name, overrides in RUNS.items():
        size = [
            f"--width={arguments.width}",
            f"--pixels={arguments.pixels}",
            f"--periods={arguments.periods}",
        ]
        command = [sys.executable, __file__, *size, "--only", *overrides]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        found[name]["peak_memory_over_csi"] = round(found[name]["peak_mib"] / found["csi"]["peak_mib"], 3)
        show(name, found[name])
    if arguments.json:
        content = {
            "command": " ".join(["python", *sys.argv]),
            "width": arguments.width,
            "pixels": arguments.pixels,
            "runs": found,
            "machine": machine(),
            "versions": versions(),
        }
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
