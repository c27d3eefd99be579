"""Detectors to be released: each is trained, and put beside a card of what it is, into a folder.

    python benchmarks/release.py --data data --tiles tiles --output dist/detectors

`NAME.ckpt` is the run's detector, `NAME.md` its card: data, command, figures, limits, and the file's
checksum. A training that was ended goes on. The tiles are laid out as docs/own_images.md says.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly_gan.results import RunResult


@dataclass(frozen=True)
class Detector:
    """What is trained, and what must be known of it."""

    settings: Sequence[str]
    """Of `anomaly-gan train`; {data} and {tiles} are folders that the maintainer names."""
    what: str
    """What it calls normal."""
    source: str
    """Where its images come from, and under which terms."""
    limits: str


DETECTORS = {
    "digits-4": Detector(
        settings=("experiment=digits_demo", "data.calibration_fraction=0.2"),
        what="handwritten digits 4, as 8 x 8 grey pixels",
        source="scikit-learn's copy of the UCI digits (Alpaydin and Kaynak, 1998; CC BY 4.0)",
        limits="for trying things out; a photograph of a digit is nothing like these images",
    ),
    "fashion-mnist-sneaker": Detector(
        settings=(
            "data=fashion_mnist",
            "paths.data_dir={data}",
            "normal_class=sneaker",
            "budget=10min",
            "data.calibration_fraction=0.1",
        ),
        what="sneakers of Fashion-MNIST, 28 x 28 grey pixels on black",
        source="Fashion-MNIST (Xiao et al., 2017; MIT License)",
        limits="for images cut out and scaled as that data set's are; a photograph of a shoe is an anomaly",
    ),
    "magnetic-tiles": Detector(
        settings=(
            "method=csi_defects",
            "data=folder",
            "data.root={tiles}",
            r"data.group='tile\d+'",
            "data.calibration_fraction=0.25",
            "schedule.total_images=25000",
            "trainer.precision=fastest",
        ),
        what="flawless surfaces of magnetic tiles, under that data set's camera and light",
        source="the magnetic tile defect data set (Huang, Qiu and Yuan, 2020)",
        limits="its recipe was chosen by the blowholes and cracks among these test images; misses about half "
        "of the defects at its threshold, faint cracks most of all; other tiles, cameras and lights need "
        "a training of their own",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="data", help="folder of data sets")
    parser.add_argument("--tiles", default="tiles", help="folder of the magnetic tiles")
    parser.add_argument("--output", type=Path, default=Path("dist/detectors"))
    parser.add_argument("--only", choices=list(DETECTORS), nargs="*", default=list(DETECTORS))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        known = DETECTORS[name]
        settings = [
            word.format(data=arguments.data, tiles=arguments.tiles) if word.count("{") else word
            for word in known.settings
        ]
        run = arguments.output / "runs" / name
        command = [sys.executable, "-m", "anomaly_gan", "train", *settings, "resume=auto"]
        subprocess.run([*command, f"hydra.run.dir={run}"], check=True)
        file = arguments.output / f"{name}.ckpt"
        shutil.copyfile(run / "detector.ckpt", file)
        (arguments.output / f"{name}.md").write_text(card(name, known, RunResult.read(run), file))
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def card(name: str, known: Detector, result: RunResult, file: Path) -> str:
    """The card of a released detector, in Markdown."""
    command = " ".join(["anomaly-gan train", *known.settings]).replace("{data}", "data")
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    trained = f"{result.iterations} iterations, {result.seconds['train']:.0f} seconds on {result.machine}"
    size = file.stat().st_size / 1e6
    lines = [
        f"# {name}",
        f"Normal to it: {known.what}. Everything else is an anomaly.",
        f"**Images**: {known.source}. {_count(result)}. The file holds thumbnails of those it learned from.",
        f"**Trained by** `{command.replace('{tiles}', 'tiles')}`: {trained}; {_versions(result)}.",
        f"**Figures**, on images that it did not learn from: {_auroc(result)}. {_promise(result)}",
        f"**Limits**: {known.limits}.",
        f"**File**: {file.name}, {size:.1f} MB, SHA-256 `{checksum}`.",
    ]
    return "\n\n".join(lines) + "\n"


def _count(result: RunResult) -> str:
    counts = result.counts
    return (
        f"{counts['train']} normal ones to learn from, {counts['calibration']} held out for the threshold, "
        f"{counts['test_normal']} normal and {counts['test_anomalous']} other ones to test"
    )


def _versions(result: RunResult) -> str:
    return ", ".join(f"{key} {result.versions[key]}" for key in ("anomaly-gan", "torch"))


def _auroc(result: RunResult) -> str:
    value, interval = result.auroc[result.primary], result.auroc_interval[result.primary]
    if value is None or interval is None or result.auroc_raw_pixels is None:
        raise SystemExit(f"{result.folder}: no AUROC; {result.auroc_absent_because}")
    low, high = interval
    return (
        f"AUROC {100 * value:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}); raw pixels, nearest "
        f"neighbour: {100 * result.auroc_raw_pixels:.1f} %"
    )


def _promise(result: RunResult) -> str:
    known = result.calibration
    if known is None:
        raise SystemExit(f"{result.folder}: nothing was held out, so that it has no threshold")
    alarms, found = known["false_alarms"]["rate"], known["found"]["rate"]
    return (
        f"Its threshold promises at most {known['false_positive_rate']:.1%} false alarms; found on the test "
        f"images: {alarms:.1%} false alarms, {found:.0%} of the anomalies."
    )


if __name__ == "__main__":
    main()
