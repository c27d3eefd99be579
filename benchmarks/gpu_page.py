"""A page of trainings that `gpu_protocol.py` ran, as `anomaly-gan report` makes it of runs.

    python benchmarks/gpu_page.py results/gpu/nvidia_h100_80gb_hbm3.json --output docs/minutes \\
        --groups "muon 10, seed 2" "muon 30, seed 2"

The protocol keeps of a run what is measured. Configuration and command follow from its settings, composed as
they are now: a group whose settings mean something else today is not to be shown this way.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from common import compose_config

from anomaly_gan.cli.report import main as report
from anomaly_gan.results import RunResult

NOT_MEASURED = ("config", "versions", "machine", "command", "folder")
"""Fields of a result that the protocol does not keep."""


def results(found: dict[str, Any], group: str) -> dict[str, RunResult]:
    """The runs of a group, by name, as if read from their folders.

    Raises:
        SystemExit: there are none.
    """
    runs = {  # a name is the group's, data and class
        name: run
        for name, run in found["runs"].items()
        if name.rsplit(", ", 2)[0] == group and "auroc" in run
    }
    if not runs:
        raise SystemExit(f"--groups: no run of {group!r} is in the file")
    made = {}
    for name, run in runs.items():
        measured = {key: value for key, value in run.items() if key not in ("settings", "git")}
        made[name] = RunResult(
            **measured,
            config=compose_config([*run["settings"], "data.calibration_fraction=0"]),
            versions=found["versions"] | {"git": run["git"]},
            machine=found["machine"],
            command=" ".join(["anomaly-gan train", *run["settings"], "data.calibration_fraction=0"]),
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path, help="of the protocol")
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the page")
    given = parser.parse_args()
    found = json.loads(given.file.read_text())
    kept = given.output / "runs"  # beside the page, which names the places of its runs
    kept.mkdir(parents=True)
    try:
        for group in given.groups:
            for name, result in results(found, group).items():
                folder = kept / "_".join(name.split(", "))
                folder.mkdir()
                result.write(folder)
        code = report([str(kept), "--output", str(given.output)])
    finally:
        shutil.rmtree(kept)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
