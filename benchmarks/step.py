"""Seconds of one training iteration of CSI, ours in each of its modes against plain PyTorch, in one run.

An iteration: 32 images, flip, shifts, T, F over 256 inputs, both losses, backward, Adam; ours as `anomaly-gan
train` runs it, under Lightning. Beside it the arithmetic floor: counted FLOPs over the best rate that a 3x3
convolution of F reaches here, measured in the same run before and after. Modes take turns.

    python benchmarks/step.py --width 64 --json results/step_cpu_width64.json
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import (
    DTYPES,
    count_flops,
    median,
    peak_flops_per_second,
    rounded,
    seconds,
    seconds_per_iteration,
    write,
)
from torch import Tensor

from anomaly_gan.allocator import keep_memory
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.precision import keep_float32
from anomaly_gan.randomness import RowRng
from anomaly_gan.results import machine
from anomaly_gan.transforms.augment import Augment

PLAIN = "plain"
TUNED = "plain, tuned malloc"


def plain(width: int, images: Tensor) -> Callable[[], None]:
    """The same mathematics as one would first write it: default memory layout, one view after the other."""
    network = FeatureExtractor(32, 3, width).to(images.device, memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    augment, generator = Augment(), torch.Generator(images.device).manual_seed(0)

    def step() -> None:
        views = []
        for _ in range(2):
            flip = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
            flipped = torch.where(flip, images.flip(3), images)
            views += [torch.rot90(flipped, k, (2, 3)) for k in range(4)]
        inputs = torch.cat(views)
        inputs = (augment(inputs, augment.draw(len(inputs), RowRng(generator))) - 0.5) / 0.5
        penultimate = network.body(inputs)
        embedding = F.normalize(network.projection_head(penultimate))
        similarity = embedding @ embedding.T / 0.5
        similarity.fill_diagonal_(-torch.inf)
        n = len(inputs) // 2
        place = torch.arange(n, device=images.device)
        contrastive = F.cross_entropy(similarity, torch.cat([place + n, place]))
        labels = torch.arange(4, device=images.device).repeat_interleave(len(images)).repeat(2)
        loss = contrastive + F.cross_entropy(network.shift_head(penultimate), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def modes(width: int, compiled: bool, device: str) -> dict[str, list[str]]:
    """Settings of `anomaly-gan train` by the name of the mode."""
    common = [f"width={width}", f"trainer.accelerator={device}", "trainer.cuda_graphs=false", "ablation=csi"]
    found = {
        "float32": [*common, "trainer.precision=32-true"],
        "bf16": [*common, "trainer.precision=bf16-mixed"],
    }
    if compiled:
        found |= {f"{name}, compiled": [*of, "trainer.compile=true"] for name, of in dict(found).items()}
    if device == "cuda":
        found |= {f"{name}, captured": [*of, "trainer.cuda_graphs=true"] for name, of in dict(found).items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="compiled modes too: minutes more")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    width, device = arguments.width, arguments.device
    warm_up, window = (2, 1) if device == "cpu" else (30, 50)
    keep_float32()

    def peaks(kind: str = "convolution") -> dict[str, float]:
        return {name: peak_flops_per_second(kind, dtype, width, device) for name, dtype in DTYPES.items()}

    # Plain PyTorch first: once malloc keeps its memory it cannot be told to forget.
    step = plain(width, torch.rand(32, 3, 32, 32, device=device))
    for _ in range(warm_up):
        step()
    times: dict[str, list[float]] = {
        PLAIN: [seconds(step, device, window) for _ in range(arguments.repetitions)]
    }
    flops = count_flops(step)
    if device == "cpu":
        keep_memory()
        step()
        times[TUNED] = [seconds(step) for _ in range(arguments.repetitions)]
    before = peaks()
    for _ in range(2):  # in turns: a busy moment hits all of them
        for name, overrides in modes(width, arguments.compile, device).items():
            half = (arguments.repetitions + 1) // 2
            times.setdefault(name, []).extend(seconds_per_iteration(overrides, warm_up, half, window))
    peak = {name: max(rate, before[name]) for name, rate in peaks().items()}
    matrix = peaks("matrix")
    show(width, times, flops, {"convolution": peak, "matrix product": matrix})
    medians = {name: median(values) for name, values in times.items()}
    floors = {name: flops / rate for name, rate in peak.items()}
    float32 = min(value for name, value in medians.items() if name.startswith("float32"))
    best = min(value for name, value in medians.items() if name not in (PLAIN, TUNED))
    best_is_bf16 = best < float32
    content: dict[str, Any] = {
        "width": width,
        "inputs": 256,
        "seconds": {name: rounded(values) for name, values in times.items()},
        "seconds_median": medians,
        "gflop_per_step": round(flops / 1e9, 1),
        "peak_gflop_per_second": {name: round(rate / 1e9, 1) for name, rate in peak.items()},
        "matrix_gflop_per_second": {name: round(rate / 1e9, 1) for name, rate in matrix.items()},
        "floor_seconds": {name: round(floor, 4) for name, floor in floors.items()},
        "speedup_float32": round(medians[PLAIN] / float32, 3),
        "speedup_best": round(medians[PLAIN] / best, 3),
        "fraction_of_peak_float32": round(floors["32-true"] / float32, 3),
        "fraction_of_peak_best": round(floors["bf16-mixed" if best_is_bf16 else "32-true"] / best, 3),
    }
    write(arguments.json, content)


def show(width: int, times: dict[str, list[float]], flops: int, peaks: dict[str, dict[str, float]]) -> None:
    print(f"width {width}, 256 inputs, {flops / 1e9:.0f} GFLOP, {machine()}")
    for name, values in times.items():
        precision = "bf16-mixed" if name.startswith("bf16") else "32-true"
        shares = [
            f"{flops / median(values) / peak[precision]:.0%} of the {kind}'s {peak[precision] / 1e9:.0f}"
            for kind, peak in peaks.items()
        ]
        print(
            f"  {name:<22}{median(values):8.4f} s   {median(times[PLAIN]) / median(values):5.2f} x plain   "
            f"{', '.join(shares)} GFLOP/s"
        )


if __name__ == "__main__":
    main()
