"""What half precision costs in AUROC where a trained scorer scores.

    python benchmarks/precision.py RUN_FOLDER... --json results/precision.json

Each scorer scores its whole test set twice, its bank made anew each time: F in float32,
then in bfloat16.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from common import write

from anomaly_gan import checkpoint
from anomaly_gan.allocator import keep_memory
from anomaly_gan.config import build
from anomaly_gan.evaluation import fit_scorer, score_test_set
from anomaly_gan.results import RunResult


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    keep_memory()
    found: list[dict[str, Any]] = []
    for run in arguments.runs:
        file, result = checkpoint.read(run), RunResult.read(run)
        data = build(file.config["data"], "data", ("data",))
        data.setup()
        of: dict[str, Any] = {
            "dataset": result.dataset,
            "normal_class": result.normal_class,
            "iterations": result.iterations,
            "trained_in": file.config["trainer"]["precision"],
        }
        for precision in ("32-true", "bf16-mixed"):
            file.config["scoring"]["precision"] = precision
            scorer = file.build()
            start = time.perf_counter()
            fit_scorer(scorer, data)
            scored = score_test_set(scorer, data)
            assert scored is not None
            of[f"scored_in_{precision}"] = {
                "auroc": {name: round(value or 0, 5) for name, value in scored.aurocs().items()},
                "seconds": round(time.perf_counter() - start, 1),
            }
        whole, half = (of[f"scored_in_{precision}"]["auroc"] for precision in ("32-true", "bf16-mixed"))
        of["difference"] = {name: round(half[name] - whole[name], 5) for name in whole}
        found.append(of)
        print(f"{run}: trained in {of['trained_in']}")
        for name, value in whole.items():
            print(
                f"  {name:<18}{100 * value:6.2f} in float32, {100 * of['difference'][name]:+.3f} in bfloat16"
            )
    write(arguments.json, {"runs": found})


if __name__ == "__main__":
    main()
