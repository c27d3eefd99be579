"""Scoring at scale: the exact search in banks of any size, and what it is of an evaluation.

    python benchmarks/scoring.py --json results/scoring_cpu.json

The search compares each image with every row of the bank (embeddings are simulated: 4 shifts of 128 numbers).
Beside it what could replace it: faiss, exact and approximate, where it is installed (pip install faiss-cpu).
An evaluation of 10,000 images against 5,000 is put together from F's measured rate and the search's.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import forget_peak, median, peak_mib, rounded, seconds, write
from torch import Tensor

from anomaly_gan.allocator import keep_memory
from anomaly_gan.networks.feature_extractor import FeatureExtractor
from anomaly_gan.precision import keep_float32
from anomaly_gan.results import machine
from anomaly_gan.scoring.neighbours import BANK_ROWS
from anomaly_gan.scoring.scores import nearest

SHIFTS, SIZE = 4, 128
CHUNK, BATCH = 512, 512
"""As shipped: views through F at a time, and images scored at a time."""


def embeddings(rows: int, seed: int, device: str) -> Tensor:
    """[rows, 4, 128] around 50 centres, as a class with variants has it."""
    generator = torch.Generator(device).manual_seed(0)
    centres = torch.randn(50, SHIFTS, SIZE, generator=generator, device=device)
    generator.manual_seed(seed)
    chosen = torch.randint(50, (rows,), generator=generator, device=device)
    noise = torch.randn(rows, SHIFTS, SIZE, generator=generator, device=device)
    return noise.add_(centres[chosen])


def search(rows: int, queries: int, chunk: int, device: str) -> dict[str, Any]:
    """Seconds of `queries` images in a bank of `rows`, its rate, and memory beyond the bank."""
    bank = F.normalize(embeddings(rows, 1, device), dim=2)
    asked = embeddings(queries, 2, device)
    nearest(asked[:16], bank[:1024], chunk)
    forget_peak(device)
    before = peak_mib(device)

    def work() -> None:
        for images in asked.split(BATCH):
            nearest(images, bank, chunk)

    times = [seconds(work, device) for _ in range(3)]
    after = peak_mib(device)
    flops = 2 * rows * queries * SHIFTS * SIZE
    return {
        "rows": rows,
        "queries": queries,
        "chunk": chunk,
        "seconds": rounded(times),
        "images_per_second": round(queries / median(times), 1),
        "gflop_per_second": round(flops / median(times) / 1e9, 1),
        "bank_mib": bank.nbytes // 2**20,
        "more_mib": after - before,
    }


def with_faiss(rows: int, queries: int) -> dict[str, Any]:
    """The joint search of eq. 11 alone, by faiss: exact, and by inverted lists at several efforts."""
    import faiss

    bank = F.normalize(embeddings(rows, 1, "cpu"), dim=2).flatten(1).numpy()
    asked = embeddings(queries, 2, "cpu").flatten(1).numpy()
    shape = (-1, SHIFTS, SIZE)
    ours = nearest(torch.from_numpy(asked).view(shape), torch.from_numpy(bank).view(shape), CHUNK).joint_row
    exact = faiss.IndexFlatIP(SHIFTS * SIZE)
    exact.add(bank)
    exact.search(asked[:8], 1)
    found: dict[str, Any] = {"rows": rows, "queries": queries, "version": faiss.__version__}
    elapsed = seconds(lambda: exact.search(asked, 1))
    found["exact"] = {"images_per_second": round(queries / elapsed, 1)}
    lists = int(4 * rows**0.5)
    quantizer = faiss.IndexFlatIP(SHIFTS * SIZE)
    inverted = faiss.IndexIVFFlat(quantizer, SHIFTS * SIZE, lists, faiss.METRIC_INNER_PRODUCT)
    training = seconds(lambda: (inverted.train(bank[: 50 * lists]), inverted.add(bank)))
    for probes in (1, 8, 64):
        inverted.nprobe = probes
        elapsed = seconds(lambda: inverted.search(asked, 1))
        rows_found = inverted.search(asked, 1)[1][:, 0]
        found[f"inverted lists, {probes} probed"] = {
            "images_per_second": round(queries / elapsed, 1),
            "same_neighbour": round(float((rows_found == ours.numpy()).mean()), 4),
            "seconds_to_build": round(training, 2),
        }
    return found


def forward(width: int, dtype: torch.dtype, device: str) -> float:
    """Views of 32 pixels a second through F, in chunks as scoring takes them."""
    network = FeatureExtractor(32, 3, width).eval().to(device)
    views = torch.rand(CHUNK, 3, 32, 32, device=device)

    @torch.inference_mode()
    def work() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            network(views)

    work()
    work()
    return CHUNK / min(seconds(work, device, 1 if device == "cpu" else 20) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000, 100_000, 1_000_000])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = arguments.device
    keep_memory()
    keep_float32()
    if arguments.only:
        print(json.dumps(search(*arguments.only, device)))
        return
    print(machine())
    searches = []
    for rows in arguments.rows:
        queries = max(256, min(10_000, 50_000_000 // rows))
        for chunk in (BANK_ROWS * CHUNK, 16_384):
            given = [__file__, "--device", device, "--only", str(rows), str(queries), str(chunk)]
            # Each in a process of its own, for its peak memory.
            done = subprocess.run([sys.executable, *given], check=True, stdout=subprocess.PIPE, text=True)
            searches.append(json.loads(done.stdout.splitlines()[-1]))
            of = searches[-1]
            print(
                f"  {rows:>9} rows, chunks of {chunk:>5}: {of['images_per_second']:9.1f} images/s "
                f"{of['gflop_per_second']:7.1f} GFLOP/s, bank {of['bank_mib']} MiB, {of['more_mib']} MiB more"
            )
    rates = {
        f"width {width}, {str(dtype).removeprefix('torch.')}": forward(width, dtype, device)
        for width in (64, 16)
        for dtype in (torch.float32, torch.bfloat16)
    }
    evaluation = {}
    of_search = 10_000 / next(s["images_per_second"] for s in searches if s["rows"] == arguments.rows[0])
    for name, rate in rates.items():
        of_forward = 10_000 * SHIFTS / rate  # R = 1; the bank's own images not counted
        share = of_search / (of_search + of_forward)
        evaluation[name] = {
            "views_per_second": round(rate, 1),
            "forward_seconds": round(of_forward, 2),
            "search_seconds": round(of_search, 3),
            "search_share": round(share, 4),
        }
        print(
            f"  10,000 images, R = 1, {name:<22}{rate:8.0f} views/s: forward {of_forward:6.1f} s, "
            f"search {of_search:5.2f} s ({share:.1%})"
        )
    content: dict[str, Any] = {"searches": searches, "evaluation_10000_against_5000": evaluation}
    if importlib.util.find_spec("faiss"):
        content["faiss"] = [with_faiss(rows, 1000) for rows in arguments.rows if rows <= 100_000]
        for of in content["faiss"]:
            print(
                f"  faiss, {of['rows']} rows: "
                + ", ".join(f"{k}: {v}" for k, v in of.items() if isinstance(v, dict))
            )
    write(arguments.json, content)


if __name__ == "__main__":
    main()
