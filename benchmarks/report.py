"""How long `anomaly-gan report` takes over 300 runs of 10,000 test images each, and how large its page is.

python benchmarks/report.py --output results/report_cpu.json

The runs are made up: 3 methods of 10 classes with 10 seeds, eleven scores an image, pictures like a run's.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import rounded, write
from matplotlib import pyplot as plt
from PIL import Image

from anomaly_gan.reporting import figures
from anomaly_gan.results import RunResult

METHODS, CLASSES, SEEDS, IMAGES = ("csi", "csi_g", "full"), [f"class_{i}" for i in range(10)], 10, 10_000
SCORES = ["paper", "csi", "contrastive", "shift", "cosine"]
SCORES += [*(f"{name}_ens" for name in SCORES), "raw_pixels"]


def make_runs(folder: Path) -> None:
    """Write what the runs leave, but for detectors."""
    random = np.random.default_rng(0)
    classes = np.arange(IMAGES) % len(CLASSES)
    starts = [f"test/{i:05d},{CLASSES[c]}," for i, c in enumerate(classes)]
    # Only the score that is read differs from run to run: writing takes longer than the report.
    rest = ["," + ",".join(f"{v:.9g}" for v in row) for row in random.normal(size=(IMAGES, len(SCORES) - 1))]
    header = ",".join(["name", "class", "anomalous", "csi_ens", *(s for s in SCORES if s != "csi_ens")])
    pictures = draw(folder, random)
    for a, method in enumerate(METHODS):
        for number, name in enumerate(CLASSES):
            anomalous = classes != number
            flags = anomalous.astype(int).tolist()
            for seed in range(SEEDS):
                run = folder / f"{name}_{method}_{seed}"
                (run / "figures").mkdir(parents=True)
                (run / "log").mkdir()
                scores = (random.normal(size=IMAGES) + (1 + a / 10) * anomalous).tolist()
                lines = zip(starts, flags, scores, rest, strict=True)
                text = "\n".join(f"{start}{flag},{score:.9g}{more}" for start, flag, score, more in lines)
                (run / "scores.csv").write_text(f"{header}\n{text}\n")
                losses = (f"{i},{5 / i:.6g},{4 / i:.6g}" for i in range(10, 1000, 10))
                lines = ["step,train/feature/total,train/joint/total", *losses]
                (run / "log" / "metrics.csv").write_text("\n".join(lines))
                for picture in pictures:
                    (run / "figures" / picture.name).write_bytes(picture.read_bytes())
                result(name, method, seed).write(run)
    for picture in pictures:
        picture.unlink()


def draw(folder: Path, random: np.random.Generator) -> list[Path]:
    """Pictures as a run draws them."""
    # As smooth as photographs are: noise would compress like nothing that a run draws.
    coarse = random.integers(0, 255, (64, 8, 8, 3), np.uint8)
    smooth = np.stack([np.asarray(Image.fromarray(image).resize((32, 32))) for image in coarse])
    images = smooth.transpose(0, 3, 1, 2)
    paths = [folder / f"{name}.png" for name in ("most_anomalous", "least_anomalous", "synthetic")]
    for path in paths[:2]:
        figures.save(figures.gallery(images[:32], [["class", "0.1"]] * 32, [True] * 32, path.stem), path)
    figures.save(figures.grid(images / 255, "synthetic"), paths[2])
    plt.close("all")
    return paths


def result(name: str, method: str, seed: int) -> RunResult:
    """A run's result with as much in it as a real one has."""
    aurocs: dict[str, Any] = dict.fromkeys(SCORES[:2] + SCORES[5:7], 0.8 + seed / 100)
    intervals: dict[str, Any] = {score: [0.78, 0.86] for score in aurocs}
    settings = {f"setting_{i}": i for i in range(120)} | {"name": method, "seed": seed}
    return RunResult(
        dataset="made up",
        normal_class=name,
        method=method,
        seed=seed,
        primary="csi_ens",
        auroc=aurocs,
        auroc_interval=intervals,
        auroc_parts=dict.fromkeys(SCORES[2:5] + SCORES[7:10], 0.7),
        auroc_raw_pixels=0.6,
        auroc_raw_pixels_interval=[0.58, 0.62],
        auroc_absent_because=None,
        curve=[{"iteration": i, "images": i, "auroc": aurocs} for i in range(0, 1000, 100)],
        counts={"train": 5000, "test": IMAGES},
        iterations=1000,
        seconds={"train": 100.0, "total": 150.0},
        images_per_second={"train": 300.0},
        config={"normal_class": name, "seed": seed, "method": settings},
        versions={"anomaly-gan": "0"},
        machine="none",
        command="anomaly-gan train",
        classes=CLASSES,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, help="write JSON there")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_runs(folder)
        seconds, processor_seconds = [], []
        for _ in range(given.times):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "anomaly_gan", "report", str(folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor_seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        megabytes = {p.name: p.stat().st_size / 1e6 for p in sorted(folder.glob("report.*"))}
    runs = len(METHODS) * len(CLASSES) * SEEDS
    print(f"{runs} runs of {IMAGES} test images: {min(seconds):.1f} to {max(seconds):.1f} s")
    print(f"{min(processor_seconds):.1f} s of processor time")
    print("\n".join(f"{name}: {size:.2f} MB" for name, size in megabytes.items()))
    found = {
        "runs": runs,
        "test_images": IMAGES,
        "seconds": rounded(seconds),
        "processor_seconds": rounded(processor_seconds),
    }
    write(given.output, found | {"megabytes": {name: round(size, 3) for name, size in megabytes.items()}})


if __name__ == "__main__":
    main()
