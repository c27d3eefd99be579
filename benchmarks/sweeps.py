"""A sweep that is killed five times against one that is not; what 40 runs do to memory and to wandb's folder.

    python benchmarks/sweeps.py --json results/sweeps.json

Tiny runs on digits: what is measured is the sweep, not the detector.
"""

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import write
from offline_runs import read

TOOL = str(Path(sys.executable).with_name("anomaly-gan"))


def sweep(folder: Path, *settings: str) -> "subprocess.Popen[bytes]":
    """Start a sweep of tiny runs, below `folder`."""
    folder.mkdir(exist_ok=True)
    log = (folder / "log").open("ab")
    return subprocess.Popen(
        [TOOL, "train", "-m", "debug=fast", *settings], cwd=folder, stdout=log, stderr=log
    )


def table(folder: Path) -> dict[str, list[list[str]]]:
    """The scores of every test image, by run."""
    return {
        path.parent.name: list(csv.reader(path.open())) for path in folder.glob("runs/digits/*/scores.csv")
    }


def killed(work: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a sweep again and again, and compare what it finds in the end with an uninterrupted one."""
    settings = ["ablation=csi,csi_g,full", "normal_class=3,4", "schedule.total_images=400"]
    settings += ["callbacks.checkpoint.every_minutes=0"]
    whole, often = work / "whole", work / "often"
    start = time.perf_counter()
    assert sweep(whole, *settings).wait() == 0, (whole / "log").read_text()
    elapsed = time.perf_counter() - start
    moments = random.Random(seed)
    killed_after = []
    for _ in range(kills):
        process = sweep(often, *settings)
        # Between them they last about as long as the sweep, so that each meets another run.
        killed_after.append(moments.uniform(0.2, 1.4) * elapsed / kills)
        time.sleep(killed_after[-1])
        process.kill()
        process.wait()
    assert sweep(often, *settings).wait() == 0, (often / "log").read_text()
    return {
        "runs": len(table(whole)),
        "killed_after_seconds": [round(seconds, 1) for seconds in killed_after],
        "seconds_uninterrupted": round(elapsed, 1),
        "same_scores": table(whole) == table(often),
    }


def resident_mib(process: int) -> float:
    """Resident memory of a process, MiB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)


def many(work: Path, seeds: int) -> dict[str, Any]:
    """Memory of the parent over four times `seeds` runs, and the runs that wandb keeps of them."""
    folder = work / "many"
    process = sweep(folder, "ablation=csi,full", "normal_class=3,4", f"seed=range({seeds})", "logger=wandb")
    memory = []
    while process.poll() is None:
        memory.append(resident_mib(process.pid))
        time.sleep(0.5)
    runs = folder / "runs" / "digits"
    offline = [read(path) for path in runs.glob("wandb/offline-run-*/run-*.wandb")]
    steady = [value for value in memory[len(memory) // 20 :] if value]
    return {
        "runs": 4 * seeds,
        "exit_code": process.returncode,
        "results": len(list(runs.glob("*/result.json"))),
        "parent_resident_mib": {
            "least": round(min(steady), 1),
            "most": round(max(steady), 1),
            "last": round(steady[-1], 1),
        },
        "offline_runs": len({run.identity for run in offline}),
        "offline_runs_finished": sum(run.exit_code == 0 for run in offline),
        "groups": sorted({run.group for run in offline}),
        "job_types": sorted({run.job_type for run in offline}),
        "names": len({(run.job_type, run.name) for run in offline}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10, help="4 runs each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of killing")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = {
            "killed": killed(Path(work), arguments.kills, arguments.seed),
            "many": many(Path(work), arguments.seeds),
        }
    print(json.dumps(found, indent=2))
    write(arguments.json, found)


if __name__ == "__main__":
    main()
