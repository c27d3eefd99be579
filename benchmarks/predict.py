"""The command `predict` on many files: its rate beside the bare network's, and its memory.

    python benchmarks/predict.py RUN FOLDER --json results/predict_cpu.json

Bare: the same images as tensors in memory, in the same batches, through `scores`. The command's part reads
the files, scores them and writes both tables. The two take turns, so that a busy machine slows both; on a
very busy one the ratio of the processor's time tells more than that of the clock. Peak
memory is that of processes of their own, for a tenth of the images and for all of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import median, peak_mib, rounded, seconds, write

from anomaly_gan import Detector
from anomaly_gan.allocator import keep_memory
from anomaly_gan.cli.tally import write as write_predictions
from anomaly_gan.data.inputs import read, read_ahead
from anomaly_gan.data.scan import scan
from anomaly_gan.transforms.convert import to_float

BATCH = 256
"""As shipped."""


def command(detector: Detector, paths: list[Path]) -> None:
    """What `predict` does once the detector is there."""
    with tempfile.TemporaryDirectory() as folder:
        write_predictions(detector.examine(paths, BATCH), detector, Path(folder) / "found", 10)


def rates(detector: Detector, paths: list[Path], times: int) -> dict[str, Any]:
    """Images a second: of the command, of the bare network, and of reading alone."""
    batches = []

    def only_read() -> None:
        batches.clear()
        for batch in read_ahead(paths, lambda path: read(path, **detector.form), BATCH):
            batches.append(batch)

    reading = [seconds(only_read) for _ in range(times)]
    tensors = [torch.stack([image for _, image in batch]) for batch in batches]

    def bare() -> None:
        for images in tensors:
            detector.scorer.scores(to_float(images.to(detector.device)))

    command(detector, paths[:BATCH])
    bare_seconds, command_seconds, processor = [], [], []
    for _ in range(times):
        before = time.process_time()
        bare_seconds.append(seconds(bare, detector.device))
        between = time.process_time()
        command_seconds.append(seconds(lambda: command(detector, paths), detector.device))
        processor.append((between - before) / (time.process_time() - between))
    return {
        "images": len(paths),
        "bare_seconds": rounded(bare_seconds),
        "command_seconds": rounded(command_seconds),
        "read_seconds": rounded(reading),
        "bare_images_per_second": round(len(paths) / median(bare_seconds), 1),
        "command_images_per_second": round(len(paths) / median(command_seconds), 1),
        "read_images_per_second": round(len(paths) / median(reading), 1),
        "ratio": round(median(bare_seconds) / median(command_seconds), 3),
        "ratio_of_processor_time": round(median(processor), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder or its detector.ckpt")
    parser.add_argument("folder", type=Path, help="of images")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_memory()
    detector = Detector.load(arguments.run, arguments.device)
    names = scan(arguments.folder).images[: arguments.only or arguments.images]
    paths = [arguments.folder / name for name in names]
    if arguments.only:
        command(detector, paths)
        print(json.dumps(peak_mib("cpu")))
        return
    found = rates(detector, paths, arguments.times)
    print(
        f"{found['images']} files: read {found['read_images_per_second']} images/s, bare network "
        f"{found['bare_images_per_second']}, predict {found['command_images_per_second']}: "
        f"{found['ratio']:.0%}, {found['ratio_of_processor_time']:.0%} by processor time"
    )
    peaks = {}
    for count in (len(paths) // 10, len(paths)):
        given = [__file__, str(arguments.run), str(arguments.folder), f"--device={arguments.device}"]
        done = subprocess.run(
            [sys.executable, *given, f"--only={count}"], check=True, stdout=subprocess.PIPE, text=True
        )
        peaks[count] = int(done.stdout.splitlines()[-1])
        print(f"  {count:>6} files: peak {peaks[count]} MiB")
    write(arguments.json, {"device": arguments.device, "batch_size": BATCH, **found, "peak_mib": peaks})


if __name__ == "__main__":
    main()
