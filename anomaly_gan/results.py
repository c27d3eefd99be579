"""One schema for what a run found: written by a run, read by all else."""

import json
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anomaly_gan import __version__
from anomaly_gan.before import result_today
from anomaly_gan.durable import replacing_text

RESULT_FILE = "result.json"
SCORES_FILE = "scores.csv"
HELD_OUT_FILE = "held_out.csv"
THRESHOLDS_FILE = "thresholds.csv"
PAGE_FILE = "report.html"
FAILED_FILE = "FAILED"
"""In the folder of a sweep's run that failed: why, one line a try, the latest first."""

Interval = Sequence[float]
"""[low, high]"""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run's `result.json`. AUROCs are in [0, 1]; times in seconds."""

    dataset: str
    normal_class: str
    method: str
    """As `method=` names it: a row of a table."""
    seed: int
    primary: str
    """The score that ranks: a key of `auroc`."""
    auroc: dict[str, float | None]
    """By score that can rank: of CSI `paper`, `csi`, and `paper_ens`, `csi_ens` where the ensemble ran."""
    auroc_interval: dict[str, Interval | None]
    """95 % stratified bootstrap over the test images, by score."""
    auroc_parts: dict[str, float | None]
    """By part of a score: of CSI contrastive, shift and cosine alone, each also `_ens`."""
    auroc_raw_pixels: float | None
    """Nearest neighbour on raw pixels, on the same images: what needs no learning."""
    auroc_raw_pixels_interval: Interval | None
    auroc_absent_because: str | None
    """Why AUROCs are null; null where they are not."""
    curve: list[dict[str, Any]]
    """AUROCs on the way: {"iteration", "images", "auroc": {score or part: value}}; never used to choose."""
    counts: dict[str, int]
    iterations: int
    seconds: dict[str, float]
    """train (without what follows), curve, pictures, fit_scorer, score, raw_pixels, generator, localise,
    total."""
    images_per_second: dict[str, float]
    """train: inliers drawn, by this process; score: test images."""
    config: dict[str, Any]
    versions: dict[str, str]
    machine: str
    command: str
    generator: dict[str, Any] | None = None
    """How near synthetic images come to real ones (`metrics.generator.generator_quality`)."""
    auroc_parts_interval: dict[str, Interval | None] = field(default_factory=dict)
    """As `auroc_interval`, by part; empty in results written before it was kept."""
    classes: list[str] = field(default_factory=list)
    """The classes of the data set that can be normal, in its order; empty in results from before they were
    kept."""
    calibration: dict[str, Any] | None = None
    """Of the primary score's threshold (`runs.record.calibration_entry`); null where no images were held
    out, and in results written before it was kept."""
    notes: list[str] = field(default_factory=list)
    """What the run warned of."""
    validation: dict[str, Any] | None = None
    """What normal images alone say of the detector (`validation.validate`), where it was asked for."""
    localisation: dict[str, float | int] | None = None
    """How well the scores of places find what masks show: pixel_auroc, aupro, in [0, 1], and regions; null
    from a method that scores whole images, without masks, and in results written before it was kept."""
    folder: Path | None = field(default=None, compare=False)
    """Where it was read from; not a part of the file."""

    @classmethod
    def read(cls, path: Path) -> "RunResult":
        """The result in a run's folder, or in a file of its own."""
        file = path / RESULT_FILE if path.is_dir() else path
        return cls(**result_today(json.loads(file.read_text())) | {"folder": file.parent})

    def write(self, folder: Path) -> Path:
        """Write `result.json` into `folder`, whole or not at all."""
        path = folder / RESULT_FILE
        fields = asdict(self)
        del fields["folder"]
        write_atomically(path, json.dumps(fields, indent=2, allow_nan=False) + "\n")
        return path


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, whole or not at all."""
    with replacing_text(path) as file:
        file.write(text)


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write `columns`, by header, as CSV, whole or not at all."""
    with replacing_text(path) as file:
        file.write(csv_row(columns))
        for row in zip(*columns.values(), strict=True):
            file.write(csv_row(row))


QUOTED = re.compile('[",\n\r\v\f\x1c-\x1e\x85\u2028\u2029]')
"""What has a meaning in a CSV, or ends a line to some reader; Python's writer quotes no end but its own."""


def csv_row(cells: Iterable[Any]) -> str:
    """A row of any CSV that is written here, with its end.

    Floats have nine significant digits, which is all of a float32; None is empty.
    """
    return (",".join(map(_cell, cells)) or '""') + "\n"


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
    return f'"{text.replace(chr(34), 2 * chr(34))}"' if QUOTED.search(text) else text


def versions() -> dict[str, str]:
    """Versions of this package, its git revision where it is a checkout, Python and the libraries beneath."""
    found = {"anomaly-gan": __version__, "python": platform.python_version()}
    found |= {package: version(package) for package in ("torch", "torchvision", "pytorch-lightning", "numpy")}
    checkout = Path(__file__).parents[1]
    if (checkout / ".git").exists():
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            revision = subprocess.run(describe, cwd=checkout, capture_output=True, text=True, timeout=10)
            found["git"] = revision.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            pass  # a machine without git can still train
    return found


def machine() -> str:
    """The kind of machine: processor, cores in use and accelerator, never its name."""
    import torch

    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    kind = f"{torch.get_num_threads()} threads of {processor}, {torch.backends.cpu.get_cpu_capability()}"
    if torch.cuda.is_available():
        kind += f"; {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return kind
