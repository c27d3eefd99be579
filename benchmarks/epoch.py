"""Seconds of one epoch of 5,000 images: all of it, the loader alone, and training without the loader.

python benchmarks/epoch.py --width 16 --json results/epoch_cpu_width16.json
"""

import argparse
import time
from pathlib import Path

from common import Clock, fit, prepare, synchronise, write

from anomaly_gan.allocator import keep_memory
from anomaly_gan.results import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keep_memory()
    overrides = [
        f"width={arguments.width}",
        f"trainer.accelerator={arguments.device}",
        f"trainer.precision={arguments.precision}",
        f"trainer.compile={str(arguments.compile).lower()}",
    ]
    warm_up, per_epoch = 5, 5000 // 32
    method, data, config = prepare(overrides, warm_up + per_epoch)
    clock = Clock(warm_up, window=per_epoch)
    fit(method, data, config, clock)
    epoch = clock.seconds[0] * per_epoch
    synchronise(method.device)
    start = time.perf_counter()
    batches = sum(1 for _ in data.train_dataloader())
    synchronise(method.device)
    loader = (time.perf_counter() - start) * per_epoch / batches
    print(
        f"width {arguments.width}, {arguments.precision}, {machine()}: {epoch:.2f} s an epoch of {per_epoch} "
        f"iterations, {5000 / epoch:.0f} images/s; the loader alone {loader:.3f} s ({loader / epoch:.1%})"
    )
    write(
        arguments.json,
        {
            "width": arguments.width,
            "precision": arguments.precision,
            "seconds_per_epoch": round(epoch, 3),
            "images_per_second": round(per_epoch * 32 / epoch, 1),
            "loader_seconds": round(loader, 4),
        },
    )


if __name__ == "__main__":
    main()
