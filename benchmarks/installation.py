"""What an installation takes: a wheel, installed plain and with each extra into environments of their own.

    python benchmarks/installation.py tests/recorded/before --json results/installation.json

In each, `anomaly-gan --help` and a prediction by the detector named have to work, and its size on disk is
counted. An extra's environment is a copy of the plain one, by hard links, into which pip installs what is
missing. Needs a network, 7 GB of disk and some ten minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]

NOT_FOR_USERS = ("dev",)

UNCONSTRAINED = ("demo",)
"""Its packages want another Pillow than `constraints.txt` has."""

CUDA = (
    "nvidia",
    "cuda",
    "triton",
    "torch/lib/libtorch_cuda",
    "torch/lib/libc10_cuda",
    "torch/lib/libtorch_nvshmem",
)
"""What of site-packages is for NVIDIA's GPUs alone."""


def call(*words: str | Path, folder: Path | None = None) -> str:
    """What a command prints; it has to end well."""
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def sizes(environment: Path) -> dict[str, int]:
    """MB of an environment's packages: all, and those for GPUs; pip and setuptools left out."""
    (site,) = environment.glob("lib/python*/site-packages")
    files = [path for path in site.rglob("*") if path.is_file() and not path.is_symlink()]
    found = {path.relative_to(site).as_posix(): path.stat().st_size for path in files}
    ours = {
        name: size for name, size in found.items() if not name.startswith(("pip", "setuptools", "_distutils"))
    }
    gpu = sum(size for name, size in ours.items() if name.startswith(CUDA))
    return {"all": round(sum(ours.values()) / 1e6), "for GPUs": round(gpu / 1e6)}


def tried(environment: Path, run: Path) -> dict[str, Any]:
    """Use an environment as its owner would, from a folder that is empty but for a picture; its sizes."""
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(np.full((20, 20, 3), 128, np.uint8)).save(Path(folder) / "picture.png")
        command = environment / "bin" / "python", "-m", "anomaly_gan"
        assert "anomaly-gan COMMAND --help" in call(*command, "--help", folder=Path(folder))
        call(*command, "predict", f"checkpoint={run}", "inputs=picture.png", folder=Path(folder))
        assert "picture.png," in (Path(folder) / "predictions.csv").read_text()
    return sizes(environment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder or its detector.ckpt")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        plain = Path(work) / "plain"
        call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", work, folder=ROOT)
        (wheel,) = Path(work).glob("*.whl")
        call(sys.executable, "-m", "venv", plain)
        for extra in ("", *(name for name in extras if name not in NOT_FOR_USERS)):
            environment = Path(work) / extra if extra else plain
            if extra:
                call("cp", "-al", plain, environment)
            constraint = [] if extra in UNCONSTRAINED else ["-c", ROOT / "constraints.txt"]
            python, asked = environment / "bin" / "python", f"{wheel}[{extra}]" if extra else wheel
            call(python, "-m", "pip", "install", "--quiet", *constraint, asked)
            found[extra or "plain"] = tried(environment, arguments.run.resolve())
            print(extra or "plain", found[extra or "plain"], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"command": sys.argv, "MB": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
