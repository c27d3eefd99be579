"""anomaly-gan compare."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anomaly_gan.cli.report import check_score, given_path
from anomaly_gan.errors import UserError
from anomaly_gan.metrics.paired import Difference, t_interval
from anomaly_gan.reporting.collect import Collection, collect
from anomaly_gan.reporting.differences import Comparison, comparisons
from anomaly_gan.reporting.evidence import read
from anomaly_gan.reporting.tables import Row, Table, tables

EXAMPLES = """\
Examples
  anomaly-gan compare runs/csi runs/full            folders of the runs of one kind each
  anomaly-gan compare runs/all:csi runs/all:full    a folder of both, narrowed by method"""


def main(arguments: Sequence[str]) -> int:
    """Compare the two kinds of run that `arguments` name; the exit code."""
    parser = argparse.ArgumentParser(
        prog="anomaly-gan compare",
        description="AUROC of B over that of A, on the same classes, seeds and test images, with intervals.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="folder of runs, a run's folder or a result file; PATH:METHOD")
    parser.add_argument("b", metavar="B", help="likewise")
    parser.add_argument(
        "--score", metavar="NAME", help="a score or part; else the one that ranks in each run"
    )
    given = parser.parse_args(arguments)
    sides = [_collect(given.a), _collect(given.b)]
    for warning in [text for side in sides for text in side.warnings]:
        print(f"anomaly-gan: {warning}", file=sys.stderr)
    check_score(Collection(runs=[run for side in sides for run in side.runs]), given.score)
    (table, a), (_, b) = (
        _one_row(text, side, given.score) for text, side in zip((given.a, given.b), sides, strict=True)
    )
    datasets = [next(iter(row.runs.values())).result.dataset for row in (a, b)]
    if datasets[0] != datasets[1]:
        raise UserError(f"A is of {datasets[0]}, B of {datasets[1]}; give runs on one data set")
    for row, label in ((a, given.a), (b, given.b)):
        row.label = label
    print(report(a, b, table, given.score))
    return 0


def _collect(text: str) -> Collection:
    """The runs that PATH or PATH:METHOD names."""
    path, colon, method = text.rpartition(":")
    if not colon or Path(text).exists():
        return collect([given_path(text)])
    found = collect([given_path(path)])
    kept = [run for run in found.runs if run.result.method == method]
    if not kept:
        there = ", ".join(sorted({run.result.method for run in found.runs}))
        raise UserError(f"{text}: {path} has no run of method {method!r}; there are {there}")
    return Collection(runs=kept, warnings=found.warnings)


def _one_row(text: str, side: Collection, score: str | None) -> tuple[Table, Row]:
    """The only row that a side makes.

    Raises:
        UserError: it makes several.
    """
    rows = [(table, row) for table in tables(side.runs, score) for row in table.rows]
    if len(rows) > 1:
        listed = "; ".join(f"{table.dataset}: {row.label}" for table, row in rows)
        raise UserError(
            f"{text} holds {len(rows)} kinds of run ({listed}); give the folders of one kind of run,"
            " or PATH:METHOD"
        )
    return rows[0]


def report(a: Row, b: Row, table: Table, score: str | None) -> str:
    """What the two rows tell, for a terminal."""
    both = [place for place in a.runs if place in b.runs]
    pairs = []
    for place in both:
        values = [row.runs[place].auroc(score) for row in (a, b)]
        if values[0] is not None and values[1] is not None:
            pairs.append((place, values[0], values[1]))
    if not pairs:
        raise UserError(
            f"{a.label} and {b.label} have no class and seed in common with an AUROC in both;"
            f" A has {_places(a)}, B has {_places(b)}"
        )
    evidence = {row.runs[place]: read(row.runs[place], score) for place in both for row in (a, b)}
    matched = [Row(row.kind, row.label, runs={place: row.runs[place] for place in both}) for row in (a, b)]
    order = list(dict.fromkeys([*table.classes, *sorted({name for name, _ in both})]))
    (comparison,) = comparisons(matched, order, evidence)
    scores = dict.fromkeys(score or row.runs[place].result.primary for place in both for row in (a, b))
    lines = [f"{table.dataset}, score {', '.join(scores)}", f"  A: {a.label}", f"  B: {b.label}", ""]
    lines += _images(comparison, pairs, order)
    lines += ["", *_runs([other - one for _, one, other in pairs])]
    for name, row, other in (("A", a, b), ("B", b, a)):
        alone = [f"{place[0]} seed {place[1]}" for place in sorted(row.runs) if place not in other.runs]
        if alone:
            lines.append(f"only in {name}, left out: {', '.join(alone)}")
    return "\n".join(lines)


def _places(row: Row) -> str:
    return ", ".join(f"{name} seed {seed}" for name, seed in sorted(row.runs))


def _images(
    comparison: Comparison, pairs: Sequence[tuple[tuple[str, int], float, float]], order: Sequence[str]
) -> list[str]:
    """The table by class, with intervals over test images."""
    wide = max(len("all classes"), *(len(name) for (name, _), _, _ in pairs))
    lines = [f"{'class':<{wide}}  seeds      A      B    B - A   95 % interval         p"]
    for name in [*order, None]:
        of_class = [(one, other) for (at, _), one, other in pairs if name is None or at == name]
        if not of_class:
            continue
        if name is None:
            # Each class counts the same, however many seeds it has.
            by_class = [
                np.mean([(one, other) for (at, _), one, other in pairs if at == c], 0)
                for c in dict.fromkeys(at for (at, _), _, _ in pairs)
            ]
            one, other = np.mean(by_class, 0)
        else:
            one, other = np.mean(of_class, 0)
        found = comparison.overall if name is None else comparison.by_class.get(name)
        seeds = "" if name is None else str(len(of_class))
        head = f"{name or 'all classes':<{wide}}  {seeds:>5}  {100 * one:5.1f}  {100 * other:5.1f}"
        lines.append(f"{head}  {100 * (other - one):+7.2f}   {_interval(found)}".rstrip())
    if comparison.overall is None:
        lines.append("Test images: no interval, for " + "; ".join(comparison.not_paired) + ".")
        return lines
    lines.append(
        "These intervals and p-values are about other test images: they say whether these very detectors"
        " differ, not whether others, trained anew, would."
    )
    if comparison.not_paired:
        lines.append(f"Not all of it paired: {'; '.join(comparison.not_paired)}.")
    return lines


def _interval(found: Difference | None) -> str:
    if found is None:
        return "not paired"
    return f"{100 * found.low:+7.2f} to {100 * found.high:+7.2f}   {found.p:7.4f}"


def _runs(differences: Sequence[float]) -> list[str]:
    """What the runs, taken as draws of training, tell."""
    higher, lower = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    count = len(differences)
    lines = [
        f"Training runs: B is higher in {higher} and lower in {lower} of {count} pairs of class and seed."
    ]
    interval = t_interval(differences)
    if interval is None:
        lines.append(
            "One pair: it cannot be told how far the difference would move with other training runs."
        )
        return lines
    low, high = interval
    lines.append(
        f"Mean {100 * np.mean(differences):+.2f}, 95 % t interval {100 * low:+.2f} to {100 * high:+.2f}:"
        " about other pairs of training runs, classes and seeds taken as draws alike."
    )
    return lines
