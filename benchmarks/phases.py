"""What each line of Algorithm 1 costs: counted FLOPs, measured seconds, and peak memory.

The cost of an ablation over `csi` is that of its lines in N iterations over that of N times `feature`. Every
ablation runs in a process of its own, for its peak memory; `feature` is timed in each of them.

    python benchmarks/phases.py --width 64 --json results/phases_cpu_width64.json
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from common import compose_config, count_flops, fit, median, peak_mib, prepare, synchronise, write

from anomaly_gan.allocator import keep_memory
from anomaly_gan.results import machine
from anomaly_gan.training.phases import Phase, Step

RUNS = {
    "csi": ["ablation=csi"],
    "csi_g, standard": ["ablation=csi_g", "networks=standard"],
    "csi_g, resnet": ["ablation=csi_g", "networks=resnet"],
    "full, standard": ["ablation=full", "networks=standard"],
    "full, resnet": ["ablation=full", "networks=resnet"],
    "full, resnet, shared forward": [
        "ablation=full",
        "networks=resnet",
        "method.share_generator_forward=true",
    ],
}


def measure(overrides: list[str], width: int, periods: int, pixels: int, device: str) -> dict[str, Any]:
    """FLOPs and seconds of each line, over `periods` times N iterations after as many to warm up."""
    keep_memory()
    settings = [f"width={width}", f"trainer.accelerator={device}", "trainer.cuda_graphs=false", *overrides]
    every = compose_config(settings)["method"]["every"]
    method, data, config = prepare(settings, (1 + periods) * every, pixels)
    flops: dict[str, int] = {}
    seconds: dict[str, list[float]] = defaultdict(list)
    descend = method.descend

    def timed(phase: Phase, step: Step) -> None:
        if phase.name not in flops:
            flops[phase.name] = count_flops(lambda: descend(phase, step))
            return
        synchronise(method.device)
        start = time.perf_counter()
        descend(phase, step)
        synchronise(method.device)
        if method.iteration >= every:
            seconds[phase.name].append(time.perf_counter() - start)

    method.descend = timed  # type: ignore[method-assign]
    before = peak_mib(device)
    fit(method, data, config)
    lines = {
        phase.name: {
            "every": phase.every,
            "gflop": round(flops[phase.name] / 1e9, 2),
            "seconds_median": median(seconds[phase.name]),
        }
        for phase in method.plan[0].phases
    }
    return {
        "lines": lines,
        "counted_over_csi": over_csi(lines, "gflop"),
        "measured_over_csi": over_csi(lines, "seconds_median"),
        "peak_mib": peak_mib(device),
        "peak_mib_before_training": before,
    }


def over_csi(lines: dict[str, dict[str, float]], of: str) -> float:
    """Cost of an iteration, on average, over that of its `feature` line alone."""
    return round(sum(line[of] / line["every"] for line in lines.values()) / lines["feature"][of], 3)


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
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    of = [arguments.width, arguments.periods, arguments.pixels, arguments.device]
    if arguments.only:
        print(json.dumps(measure(arguments.only, *of)))
        return
    print(
        f"width {arguments.width}, {arguments.pixels} pixels, 32 images, {arguments.precision}, {machine()}"
    )
    found = {}
    for name, overrides in RUNS.items():
        # Each in a process of its own, for its peak memory.
        given = [*sys.argv, "--only", f"trainer.precision={arguments.precision}", *overrides]
        done = subprocess.run([sys.executable, *given], check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        found[name]["peak_memory_over_csi"] = round(found[name]["peak_mib"] / found["csi"]["peak_mib"], 3)
        show(name, found[name])
    write(
        arguments.json,
        {
            "width": arguments.width,
            "pixels": arguments.pixels,
            "precision": arguments.precision,
            "runs": found,
        },
    )


if __name__ == "__main__":
    main()
