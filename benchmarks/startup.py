"""Seconds until a command answers (--help, a command's help, predict's first score), and its memory.

    python benchmarks/startup.py RUN_FOLDER --json results/startup.json

RUN_FOLDER is that of any trained detector, for predict. Every command runs in processes of its own, in turns.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import median, rounded, write
from PIL import Image

PROBE = """
import resource, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
process.stdout.readline()
answered = time.perf_counter() - start
process.stdout.read()
code = process.wait()
ended = time.perf_counter() - start
print(code, answered, ended, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def measure(command: list[str]) -> tuple[float, float, int]:
    """Seconds to the first line, seconds to the end, and peak memory in MiB of one call.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run([sys.executable, "-c", PROBE, *command], capture_output=True, text=True, check=True)
    code, answered, ended, mib = done.stdout.split()
    if code != "0":
        raise SystemExit(f"{' '.join(command)}: exit code {code}")
    return float(answered), float(ended), int(mib)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(image)
        tool = str(Path(sys.executable).with_name("anomaly-gan"))
        predict = [f"checkpoint={arguments.run}", f"inputs={image}", f"output={folder}/scores"]
        commands = {
            "python, nothing imported": [sys.executable, "-c", ""],
            "python, import torch": [sys.executable, "-c", "import torch"],
            "anomaly-gan --help": [tool, "--help"],
            "anomaly-gan train --help": [tool, "train", "--help"],
            "anomaly-gan predict, one image": [tool, "predict", *predict],
        }
        found: dict[str, Any] = {name: {"first_line": [], "end": [], "peak_mib": 0} for name in commands}
        for repetition in range(arguments.repetitions + 1):  # the first fills the file cache
            for name, command in commands.items():
                answered, ended, mib = measure(command)
                if repetition:
                    found[name]["first_line"].append(answered)
                    found[name]["end"].append(ended)
                    found[name]["peak_mib"] = max(mib, found[name]["peak_mib"])
    for name, of in found.items():
        for when in ("first_line", "end"):
            of[f"seconds_to_{when}"] = {"median": median(of[when]), "all": rounded(of.pop(when))}
        first, end = (of[f"seconds_to_{when}"]["median"] for when in ("first_line", "end"))
        print(f"  {name:<32}first line {first:5.2f} s, end {end:5.2f} s{of['peak_mib']:7} MiB")
    write(arguments.json, {"commands": found})


if __name__ == "__main__":
    main()
