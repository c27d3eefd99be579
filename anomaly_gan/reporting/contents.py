"""All that a report says, computed once; Markdown, LaTeX, CSV and the page only write it down."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomaly_gan import __version__
from anomaly_gan.metrics.paired import Difference
from anomaly_gan.reporting.collect import Collection, Run
from anomaly_gan.reporting.differences import Comparison, comparisons
from anomaly_gan.reporting.evidence import Evidence, read
from anomaly_gan.reporting.tables import Cell, Table, tables

ABSENT = "—"

HOW_A_CELL = (
    "AUROC in percent, mean ± sample standard deviation over seeds; in brackets, how many seeds. The mean"
    " over classes is taken for each seed that has all of them; where none has, it is over the classes that"
    " are there. Best of our rows in bold. Runs whose configuration differs in more than class, seed and"
    " place are not averaged."
)

HOW_A_DIFFERENCE = (
    "AUROC points, with a 95 % paired bootstrap interval: how far the difference would move with other test"
    " images, not with other training runs. Averaged over the seeds that both have."
)


@dataclass(frozen=True)
class Contents:
    """Of a report."""

    collection: Collection
    score: str | None
    tables: list[Table]
    comparisons: list[list[Comparison]]
    """By table; those that have a class in common."""
    evidence: Mapping[Run, Evidence | str]
    place: Path
    """The folder of the report, to which paths are relative."""

    @property
    def about(self) -> str:
        """What, how many, when and by what."""
        runs, sets = len(self.collection.runs), len(self.tables)
        words = [f"{runs} run{'s' * (runs != 1)} on {sets} data set{'s' * (sets != 1)}"]
        failed = sum(state.startswith("failed") for state in self.collection.unfinished.values())
        words += [f"{failed} failed"] if failed else []
        unfinished = len(self.collection.unfinished) - failed
        words += [f"{unfinished} unfinished"] if unfinished else []
        made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        return f"{', '.join(words)}; made on {made} by anomaly-gan {__version__}"

    def relative(self, path: Path) -> str:
        """`path` as it is reached from the report."""
        return Path(os.path.relpath(path, self.place)).as_posix()


def contents(collection: Collection, score: str | None, place: Path) -> Contents:
    """Compute everything.

    Args:
        collection: what was found.
        score: a score or part; None: the one that ranks in each run.
        place: the report's folder.
    """
    found = tables(collection.runs, score)
    evidence = {run: read(run, score) for run in collection.runs}
    compared = [comparisons(table.rows, table.classes, evidence) for table in found]
    compared = [[c for c in of_table if c.by_class or c.not_paired] for of_table in compared]
    return Contents(collection, score, found, compared, evidence, place)


def percent(cell: Cell | None, table: Table) -> str:
    """A cell in plain text, such as "76.4 ± 0.6 (2)"."""
    if cell is None:
        return ABSENT
    spread = f" ± {cell.sd:.1f}" if cell.sd is not None else ""
    if cell.classes is not None:
        return f"{cell.mean:.1f} ({cell.classes} of {len(table.classes)} classes)"
    return f"{cell.mean:.1f}{spread} ({len(cell.seeds)})"


def points(found: Difference | None) -> str:
    """A difference in plain text, such as "+0.47 (+0.32 to +0.62)"."""
    if found is None:
        return ABSENT
    value, low, high = (f"{100 * v:+.2f}".replace("-", "−") for v in found[:3])
    return f"{value} ({low} to {high})"


def less(difference: float | None) -> str:
    """Points by which our figure is above (+) or below (−) a published one."""
    return ABSENT if difference is None else f"{difference:+.1f}".replace("-", "−")


def overall(comparison: Comparison, table: Table) -> str:
    """The difference over classes, and over how many where not all."""
    count = len(comparison.by_class)
    said = points(comparison.overall)
    if comparison.overall is None or count == len(table.classes):
        return said
    return f"{said}, {count} of {len(table.classes)} classes"


def shown_classes(table: Table, compared: Sequence[Comparison]) -> list[str]:
    """Those that any comparison has."""
    return [name for name in table.classes if any(name in c.by_class for c in compared)]


def unpaired(compared: Sequence[Comparison]) -> list[str]:
    """What could not be compared, and why; the same reason for several pairs is said once."""
    by_reason: dict[str, list[str]] = {}
    for comparison in compared:
        for reason in comparison.not_paired:
            by_reason.setdefault(reason, []).append(comparison.label)
    return [f"not paired: {'; '.join(labels)} ({reason})" for reason, labels in by_reason.items()]


def footnotes(table: Table) -> tuple[list[str], dict[tuple[str, str], int]]:
    """The sources of published rows, and the number of each (method, "classes" or "mean")."""
    sources: list[str] = []
    numbers = {}
    for row in table.all_published:
        for part, source in (("classes", row.source), ("mean", row.mean_source)):
            if source and not (part == "classes" and not row.auroc):
                if source not in sources:
                    sources.append(source)
                numbers[row.method, part] = sources.index(source) + 1
    return sources, numbers
