"""Farthest points in blocks against one look at all points for each of them: the same choice, seconds, cover.

python benchmarks/coreset.py --json results/defects/coreset.json
"""

import argparse
import time
from pathlib import Path

import torch
from common import write
from torch import Tensor

from anomaly_gan.allocator import keep_memory
from anomaly_gan.results import machine
from anomaly_gan.scoring.coreset import farthest_points


def one_look_a_step(points: Tensor, count: int) -> Tensor:
    """The greedy choice as it is defined."""
    chosen = [int((points - points.mean(dim=0)).norm(dim=1).argmax())]
    nearest = torch.full((len(points),), torch.inf)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).norm(dim=1))
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


def radius(points: Tensor, rows: Tensor) -> float:
    """The largest distance of any point to the nearest chosen one."""
    return float(max(torch.cdist(part, points[rows]).amin(dim=1).max() for part in points.split(4096)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    keep_memory()  # as a training does: one of the two would pay more for memory given back at each step
    found = []
    for number, features, dimensions, count in ((60_000, 152, 12, 600), (100_000, 64, 12, 2000)):
        rng = torch.Generator().manual_seed(0)
        points = torch.randn(number, dimensions, generator=rng) @ torch.randn(
            dimensions, features, generator=rng
        )
        points += 0.1 * torch.randn(number, features, generator=rng)
        seconds: dict[str, list[float]] = {"blocks": [], "one look a step": []}
        for _ in range(given.repetitions):
            for name, choose in (("blocks", farthest_points), ("one look a step", one_look_a_step)):
                start = time.perf_counter()
                rows = choose(points, count)
                seconds[name].append(round(time.perf_counter() - start, 3))
                if name == "blocks":
                    ours = rows
        found.append(
            {
                "points": number, "features": features, "chosen": count, "seconds": seconds,
                "times faster": round(min(seconds["one look a step"]) / min(seconds["blocks"]), 1),
                "same choices": float((ours == rows).float().mean()),
                "radius": [radius(points, ours), radius(points, rows)],
            }
        )  # fmt: skip
        print(found[-1], flush=True)
    write(given.json, {"machine": machine(), "sizes": found})


if __name__ == "__main__":
    main()
