"""Speed and gradient of T against kornia's differentiable augmentation: forward and backward, on the CPU.

python benchmarks/augmentation.py --json results/augmentation_kornia.json
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import kornia
import kornia.augmentation as K
import torch
from torch import Tensor, nn

from anomaly_gan.randomness import RowRng, make_rng
from anomaly_gan.transforms.augment import Augment

Transform = Callable[[Tensor], Tensor]


def kornia_layers(side: int, always: bool = False) -> dict[str, nn.Module]:
    """T's counterparts, with parameters per sample; cropping_mode="resample" is the differentiable crop."""
    return {
        "jitter": K.ColorJiggle(0.4, 0.4, 0.4, 0.1, p=1.0 if always else 0.8),
        "gray": K.RandomGrayscale(p=1.0 if always else 0.2),
        "crop": K.RandomResizedCrop(
            (side, side), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), cropping_mode="resample"
        ),
    }


def milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def measure(transforms: dict[str, Transform], images: Tensor, repetitions: int) -> dict[str, Any]:
    """Median and minimum times; the transforms take turns, so that a busy moment hits all of them."""
    times: dict[str, dict[str, list[float]]] = {
        name: {"forward": [], "forward_backward": []} for name in transforms
    }

    def forward_backward(transform: Transform) -> None:
        leaf = images.clone().requires_grad_()
        transform(leaf).sum().backward()

    for repetition in range(repetitions + 2):
        for name, transform in transforms.items():
            with torch.no_grad():
                forward = milliseconds(lambda run=transform: run(images))
            both = milliseconds(lambda run=transform: forward_backward(run))
            if repetition >= 2:  # warm-up
                times[name]["forward"].append(forward)
                times[name]["forward_backward"].append(both)
    return {
        name: {
            f"{kind}_{statistic}_ms": round(function(values), 2)
            for kind, values in kinds.items()
            for statistic, function in (("median", statistics.median), ("minimum", min))
        }
        for name, kinds in times.items()
    }


def gradient_verdict(transform: Transform, images: Tensor) -> str:
    """What torch.autograd.gradcheck says of `transform` at `images` (float64)."""
    try:
        torch.autograd.gradcheck(transform, images.clone().requires_grad_())
    except torch.autograd.gradcheck.GradcheckError as error:
        return "fails: " + str(error).splitlines()[0]
    return "passes"


def gradients() -> dict[str, dict[str, str]]:
    """gradcheck's verdicts with fixed draws, the colours always jittered: ours whole, kornia's by layer."""
    generator = RowRng(make_rng("cpu", 0, "gradient"))
    images = torch.rand(8, 3, 4, 4, dtype=torch.float64, generator=generator.generator)
    augment = Augment(jitter_probability=1.0)
    draws = augment.draw(len(images), generator)
    verdicts = {"ours": {"whole": gradient_verdict(lambda x: augment(x, draws), images)}, "kornia": {}}
    torch.manual_seed(0)  # kornia draws from the global generator
    for name, layer in kornia_layers(side=4, always=True).items():
        fixed = layer.forward_parameters(images.shape)
        verdicts["kornia"][name] = gradient_verdict(partial(layer, params=fixed), images)
    return verdicts


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where to write the measurements")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    generator = RowRng(make_rng("cpu", 0, "benchmark"))
    shape = (arguments.batch, 3, arguments.side, arguments.side)
    images = torch.rand(shape, generator=generator.generator)
    augment = Augment()
    theirs = nn.Sequential(*kornia_layers(arguments.side).values())
    times = measure(
        {"ours": lambda x: augment(x, augment.draw(len(x), generator)), "kornia": theirs},
        images,
        arguments.repetitions,
    )
    ratios = {key: round(times["kornia"][key] / times["ours"][key], 2) for key in times["ours"]}
    record = {
        "command": f"python benchmarks/augmentation.py --batch {arguments.batch} --side {arguments.side} "
        f"--threads {arguments.threads} --repetitions {arguments.repetitions}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "kornia": kornia.__version__,
        },
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
        "shape": list(images.shape),
        "times": times,
        "kornia_over_ours": ratios,
        "gradcheck": gradients(),
    }

    print(f"{'median ms':<10}{'forward':>10}{'+ backward':>12}")
    for name, row in (*times.items(), ("ratio", ratios)):
        print(f"{name:<10}{row['forward_median_ms']:>10.2f}{row['forward_backward_median_ms']:>12.2f}")
    for name, verdicts in record["gradcheck"].items():
        for part, verdict in verdicts.items():
            print(f"gradcheck {name} {part}: {verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
