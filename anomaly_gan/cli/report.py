"""anomaly-gan report."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.reporting.collect import Collection, collect
from anomaly_gan.reporting.contents import contents
from anomaly_gan.reporting.report import write

EXAMPLES = """\
Examples
  anomaly-gan report runs                          all runs below a folder
  anomaly-gan report runs old.json --output out    a result's file too; the report elsewhere
  anomaly-gan report runs --score paper            another score than the one that ranks"""


def main(arguments: Sequence[str]) -> int:
    """Report on the runs that `arguments` name; the exit code."""
    parser = argparse.ArgumentParser(
        prog="anomaly-gan report",
        description="Tables of AUROC, paired differences and a page to look through, from the results below\n"
        "folders: report.html, report.md, report.tex and report.csv. No score is computed anew.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "places", metavar="DIR", type=given_path, nargs="+", help="folder of runs, or a result's file"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", type=given_path, help="where the report goes; else the first DIR"
    )
    parser.add_argument(
        "--score",
        metavar="NAME",
        help="a score, or part of one; else the one that ranks in each run",
    )
    given = parser.parse_args(arguments)
    first = given.places[0]
    place = given.output or (first if first.is_dir() else first.parent)
    collection = collect(given.places)
    check_score(collection, given.score)
    for warning in collection.warnings:
        print(f"anomaly-gan: {warning}", file=sys.stderr)
    found = contents(collection, given.score, place)
    paths = write(found)
    print(found.about)
    for path, state in collection.unfinished.items():
        print(f"  {path}: {state}")
    print("\n".join(os.path.relpath(path) for path in paths))
    return 0


def given_path(text: str) -> Path:
    """The path that an argument is.

    Raises:
        UserError: it is empty, as a shell's variable is that is not set; it would be the current folder.
    """
    if not text:
        raise UserError("an empty path: give a folder of runs or a result's file")
    return Path(text)


def check_score(collection: Collection, score: str | None) -> None:
    """Refuse a score that no run has.

    Raises:
        UserError: there is none of this name.
    """
    names = {name: None for run in collection.runs for name in run.result.auroc | run.result.auroc_parts}
    if score is not None and score not in names:
        raise UserError(f"--score {score}: no run has it; {nearest(score, list(names))}")
