"""Runs -> one table a data set: a row a kind of run, a column a class. Only here are cells computed."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from anomaly_gan.reporting.collect import Run
from anomaly_gan.reporting.protocol import protocol
from anomaly_gan.reporting.published import Published, class_order, published
from anomaly_gan.reporting.variants import Kind, kinds, rank

RAW_PIXELS = "raw pixels, nearest neighbour"

MEAN = "mean"
"""Name of the last column."""


@dataclass(frozen=True)
class Cell:
    """AUROC in percent over seeds."""

    mean: float
    sd: float | None
    """Sample standard deviation; None with one seed."""
    seeds: list[int]
    classes: int | None = None
    """In the column of means, where classes are missing: how many are there."""


@dataclass
class Row:
    """One kind of run."""

    kind: Kind
    label: str
    cells: dict[str, Cell] = field(default_factory=dict)
    """By class, and `MEAN`."""
    runs: dict[tuple[str, int], Run] = field(default_factory=dict)
    """By class and seed: those that count."""
    published: Published | None = None
    """The method's published figures, which stand beneath the last of its rows."""
    difference: dict[str, float] = field(default_factory=dict)
    """Ours less the method's published figures, in points, by class and `MEAN`, where there are both."""

    @property
    def spread(self) -> bool:
        """Whether any cell says more than a figure: a deviation, or how many classes there are."""
        return any(cell.sd is not None or cell.classes is not None for cell in self.cells.values())


@dataclass
class Table:
    """A data set's."""

    dataset: str
    classes: list[str]
    rows: list[Row]
    raw: Row | None
    published: list[Published]
    """Of methods without a row of ours."""
    sentence: str
    """What must be said of the published figures."""
    seeds: list[int]
    missing: list[str]
    notes: list[str]
    scores: list[str]
    """Names of the scores that are shown."""

    @property
    def columns(self) -> list[str]:
        """The classes and, of several, their mean."""
        return [*self.classes, MEAN] if len(self.classes) > 1 else self.classes

    @property
    def all_published(self) -> list[Published]:
        """Those beneath rows of ours, then the others."""
        return [row.published for row in self.rows if row.published] + self.published

    @property
    def own(self) -> list[Row]:
        """All rows computed from the runs."""
        return [*self.rows, *([self.raw] if self.raw else [])]

    def best(self, row: Row, column: str) -> bool:
        """Whether no row of ours shows more in `column`, among more than one.

        Means count only where they are over all classes.
        """
        shown = [r.cells[column] for r in self.own if column in r.cells]
        shown = [cell for cell in shown if cell.classes is None]
        cell = row.cells.get(column)
        if cell is None or cell.classes is not None or len(shown) < 2:
            return False
        return round(cell.mean, 1) == max(round(other.mean, 1) for other in shown)


def tables(runs: Sequence[Run], score: str | None = None) -> list[Table]:
    """A table for each data set, in alphabetical order.

    Args:
        runs: all.
        score: a score or part; None: the one that ranks in each run.
    """
    by_dataset = defaultdict(list)
    for run in sorted(runs, key=lambda run: str(run.path)):
        by_dataset[run.result.dataset].append(run)
    return [_table(dataset, by_dataset[dataset], score) for dataset in sorted(by_dataset)]


def _table(dataset: str, runs: list[Run], score: str | None) -> Table:
    found, notes = kinds(runs)
    rows: dict[Kind, Row] = {}
    for kind, run in zip(found, runs, strict=True):
        row = rows.setdefault(kind, Row(kind, kind.label))
        place = (run.result.normal_class, run.result.seed)
        if place not in row.runs:
            row.runs[place] = run
            continue
        older, row.runs[place] = sorted((row.runs[place], run), key=lambda run: run.modified)
        notes.append(
            f"{row.label}, {place[0]}, seed {place[1]}: two runs of the same configuration; the later one"
            f" counts ({row.runs[place].path}, not {older.path})."
        )
    ordered = [rows[kind] for kind in sorted(rows, key=rank)]
    classes = _classes(dataset, runs)
    for row in ordered:
        values = {place: run.auroc(score) for place, run in row.runs.items()}
        for (name, seed), value in values.items():
            if value is None:
                result = row.runs[name, seed].result
                why = result.auroc_absent_because or f"it has no score {score or result.primary}"
                notes.append(f"{row.label}, {name}, seed {seed}: no AUROC, {why}.")
        row.cells = _cells({place: value for place, value in values.items() if value is not None}, classes)
    raw = Row(Kind(RAW_PIXELS, ""), RAW_PIXELS)
    raw_values: dict[tuple[str, int], float] = {}
    of_other_images: dict[str, None] = {}
    for row in ordered:
        for place, run in row.runs.items():
            value = run.result.auroc_raw_pixels
            if value is not None and abs(raw_values.setdefault(place, value) - value) > 5e-4:
                of_other_images[row.label] = None
    if of_other_images:
        labels = "; ".join(of_other_images)
        notes.append(f"raw pixels: theirs are of other images than those that these saw: {labels}.")
    raw.cells = _cells(raw_values, classes)
    seeds = sorted({seed for row in ordered for _, seed in row.runs})
    beside, sentence = published(dataset)
    last_of = {row.kind.method: row for row in ordered}
    for figures in beside:
        if figures.method in last_of:
            last_of[figures.method].published = figures
        for row in ordered:
            if row.kind.method == figures.method:
                row.difference = _difference(row, figures)
    beside_it = [sentence, protocol([r for row in ordered for r in row.runs.values()])] if beside else []
    return Table(
        dataset=dataset,
        classes=classes,
        rows=ordered,
        raw=raw if raw.cells and not _has_all(ordered, raw) else None,
        published=[figures for figures in beside if figures.method not in last_of],
        sentence=" ".join(filter(None, beside_it)),
        seeds=seeds,
        missing=[said for row in ordered if (said := _missing(row, classes, seeds))],
        notes=notes,
        scores=list(dict.fromkeys(score or run.result.primary for run in runs)),
    )


def _classes(dataset: str, runs: Sequence[Run]) -> list[str]:
    """All classes of the data set, as far as results or published figures tell; those seen at the least."""
    known = max((run.result.classes for run in runs), key=len) or class_order(dataset)
    seen = sorted({run.result.normal_class for run in runs}, key=lambda name: (len(name), name))
    return list(dict.fromkeys([*known, *seen]))


def _cells(values: dict[tuple[str, int], float], classes: Sequence[str]) -> dict[str, Cell]:
    """Mean and spread over seeds, by class; and of the means over classes."""
    by_class: dict[str, dict[int, float]] = defaultdict(dict)
    by_seed: dict[int, dict[str, float]] = defaultdict(dict)
    for (name, seed), value in sorted(values.items()):
        by_class[name][seed] = by_seed[seed][name] = 100 * value
    cells = {name: _cell(by_class[name]) for name in classes if name in by_class}
    complete = {
        seed: statistics.fmean(found.values())
        for seed, found in by_seed.items()
        if len(found) == len(classes)
    }
    if complete:
        cells[MEAN] = _cell(complete)
    elif cells:
        # Seeds may cover other classes each: how they spread around this mean cannot be said.
        mean = statistics.fmean(cell.mean for cell in cells.values())
        cells[MEAN] = Cell(mean, None, sorted(by_seed), classes=len(cells))
    return cells


def _cell(by_seed: dict[int, float]) -> Cell:
    values = list(by_seed.values())
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Cell(statistics.fmean(values), sd, sorted(by_seed))


def _difference(row: Row, figures: Published) -> dict[str, float]:
    """See `Row`. Of the means it is over the classes that both have, where classes are published."""
    found = {
        name: cell.mean - figures.auroc[name] for name, cell in row.cells.items() if name in figures.auroc
    }
    mean = row.cells.get(MEAN)
    if found:
        found[MEAN] = statistics.fmean(found.values())
    elif mean is not None and mean.classes is None and figures.mean is not None:
        found[MEAN] = mean.mean - figures.mean
    return found


def _has_all(rows: Sequence[Row], raw: Row) -> bool:
    """Whether the method raw_pixels was run wherever raw pixels stand beside other methods."""
    return any(row.kind.method == "raw_pixels" and raw.cells.keys() <= row.cells.keys() for row in rows)


def _missing(row: Row, classes: Sequence[str], seeds: Sequence[int]) -> str:
    """What of classes x seeds a row lacks; "" where nothing is."""
    absent = [name for name in classes if name not in row.cells]
    there = [name for name in classes if name in row.cells]
    words = []
    if not there:
        words.append("all")
    elif absent:
        most = len(absent) > len(there)
        words.append(f"all but {', '.join(there)}" if most else ", ".join(absent))
    by_lack: dict[str, list[str]] = defaultdict(list)
    for seed in seeds:
        lacking = ", ".join(name for name in there if seed not in row.cells[name].seeds)
        if lacking:
            by_lack[lacking].append(str(seed))
    for lacking, of in by_lack.items():
        words.append(f"seed{'s' * (len(of) > 1)} {', '.join(of)} of {lacking}")
    return f"{row.label}: {'; '.join(words)}" if words else ""
