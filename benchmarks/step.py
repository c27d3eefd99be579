"""Seconds of one CSI training step, ours against the plainest PyTorch of the same mathematics, in one run.

A step: 32 images, flip, shifts, T, F over 256 inputs, both losses, backward, Adam. Beside it the arithmetic
floor: counted FLOPs over the best rate that a 3x3 convolution of F reaches here, measured in the same run.

    python benchmarks/step.py --width 64 --json results/step_cpu.json
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from anomaly_gan.allocator import keep_memory
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.objectives import Step, feature
from anomaly_gan.randomness import make_generator
from anomaly_gan.results import machine, versions
from anomaly_gan.transforms.augment import Augment
from anomaly_gan.transforms.diff_augment import DiffAugment
from anomaly_gan.transforms.shifts import Rotations
from anomaly_gan.transforms.views import ShiftedViews


def ours(network: FeatureExtractor, images: Tensor) -> Callable[[], None]:
    """The step as `PhasedDetector.descend` takes it."""
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    views = ShiftedViews(Rotations(), Augment())
    iteration = iter(range(10**9))

    def step() -> None:
        inputs = Step(
            networks={"feature_extractor": network},
            images=images,
            latents=torch.empty(0, 0),  # of the autoencoder's lines
            views=views,
            temperature=0.5,
            adversarial="non_saturating",
            diff_augment=DiffAugment(),
            generator_side=32,
            generator=make_generator("cpu", 0, "step", next(iteration)),
        )
        terms = feature(inputs)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    return step


def plain(network: FeatureExtractor, images: Tensor) -> Callable[[], None]:
    """The same mathematics as one would first write it: default memory layout, one view after the other."""
    network.to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    augment, generator = Augment(), torch.Generator().manual_seed(0)

    def step() -> None:
        views = []
        for _ in range(2):
            flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
            flipped = torch.where(flip, images.flip(3), images)
            views += [torch.rot90(flipped, k, (2, 3)) for k in range(4)]
        inputs = torch.cat(views)
        inputs = (augment(inputs, augment.draw(len(inputs), generator)) - 0.5) / 0.5
        penultimate = network.body(inputs)
        embedding = F.normalize(network.projection_head(penultimate))
        similarity = embedding @ embedding.T / 0.5
        similarity.fill_diagonal_(-torch.inf)
        n = len(inputs) // 2
        contrastive = F.cross_entropy(similarity, torch.cat([torch.arange(n) + n, torch.arange(n)]))
        labels = torch.arange(4).repeat_interleave(len(images)).repeat(2)
        loss = contrastive + F.cross_entropy(network.shift_head(penultimate), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    """Of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def count_flops(step: Callable[[], None]) -> int:
    """Of one call: two for each multiply-add of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak_flops_per_second(width: int, batch: int = 256, repetitions: int = 5) -> float:
    """Forward and backward of F's first-stage convolution, `width` channels at 32x32; the best of several."""
    convolution = nn.Conv2d(width, width, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    inputs = torch.rand(batch, width, 32, 32).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.rand_like(inputs)

    def call() -> None:
        convolution(inputs).backward(gradient)

    flops = count_flops(call)
    return flops / min(seconds(call) for _ in range(repetitions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    images = torch.rand(32, 3, 32, 32)
    steps = {
        "plain": plain(FeatureExtractor(32, 3, arguments.width), images),
        "plain, tuned malloc": plain(FeatureExtractor(32, 3, arguments.width), images),
        "ours": ours(FeatureExtractor(32, 3, arguments.width), images),
    }
    # Plain PyTorch first: once malloc keeps its memory it cannot be told to forget.
    times: dict[str, list[float]] = {name: [] for name in steps}
    steps["plain"]()
    for _ in range(arguments.repetitions):
        times["plain"].append(seconds(steps["plain"]))
    keep_memory()
    for name in ("plain, tuned malloc", "ours"):
        steps[name]()
    for _ in range(arguments.repetitions):
        for name in ("plain, tuned malloc", "ours"):
            times[name].append(seconds(steps[name]))
    flops = count_flops(steps["ours"])
    peak = peak_flops_per_second(arguments.width)
    medians = {name: statistics.median(values) for name, values in times.items()}
    floor = flops / peak
    print(f"width {arguments.width}, 256 inputs, float32, {machine()}")
    for name, median in medians.items():
        print(
            f"  {name:<22}{median:7.2f} s   {medians['plain'] / median:5.2f} x plain   "
            f"{floor / median:5.0%} of peak"
        )
    print(f"  {'floor':<22}{floor:7.2f} s   {flops / 1e9:.0f} GFLOP at {peak / 1e9:.0f} GFLOP/s")
    if arguments.json:
        found = {
            "command": " ".join(["python", *sys.argv]),
            "width": arguments.width,
            "inputs": 256,
            "seconds": {name: [round(value, 4) for value in values] for name, values in times.items()},
            "seconds_median": {name: round(value, 4) for name, value in medians.items()},
            "speedup_float32": round(medians["plain"] / medians["ours"], 3),
            "gflop_per_step": round(flops / 1e9, 1),
            "peak_gflop_per_second": round(peak / 1e9, 1),
            "floor_seconds": round(floor, 3),
            "fraction_of_peak_float32": round(floor / medians["ours"], 3),
            "machine": machine(),
            "versions": versions(),
        }
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
