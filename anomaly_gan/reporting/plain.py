"""The report as Markdown, LaTeX and CSV."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from anomaly_gan.reporting.contents import (
    ABSENT,
    HOW_A_CELL,
    HOW_A_DIFFERENCE,
    Contents,
    footnotes,
    less,
    overall,
    percent,
    points,
    shown_classes,
    unpaired,
)
from anomaly_gan.reporting.differences import Comparison
from anomaly_gan.reporting.generators import HOW_A_DISTANCE, distances, frechet
from anomaly_gan.reporting.published import Published
from anomaly_gan.reporting.tables import MEAN, Table

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#",
    "$": r"\$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": r"$-$",
    ABSENT: "---", "<": r"\textless{}", ">": r"\textgreater{}", "é": r"\'e",
}  # fmt: skip


def markdown(contents: Contents) -> str:
    """The whole report."""
    parts = ["# Report", contents.about + ".", HOW_A_CELL]
    for table, compared in zip(contents.tables, contents.comparisons, strict=True):
        lines = _lines(table, lambda text: f"**{text}**", lambda number: f" [{number}]", _markdown)
        parts += [f"## {_markdown(table.dataset)}", f"Score: {', '.join(map(_markdown, table.scores))}."]
        parts.append(_grid(["", *map(_markdown, table.columns)], [row for block in lines for row in block]))
        sources, _ = footnotes(table)
        parts += (
            ["  \n".join(f"[{i}] {_markdown(source)}" for i, source in enumerate(sources, 1))]
            if sources
            else []
        )
        parts += [_markdown(text) for text in remarks(table)]
        parts += _synthetic(table)
        if compared:
            parts += [f"### Differences on {_markdown(table.dataset)}", HOW_A_DIFFERENCE]
            classes = shown_classes(table, compared)
            if classes:
                rows = [list(map(_markdown, _difference(c, classes, table))) for c in compared if c.by_class]
                parts.append(_grid(["", "all classes", *map(_markdown, classes)], rows))
            parts += [_markdown(text) for text in unpaired(compared)]
    parts += [f"## Not in the tables\n\n{text}" for text in [_aside(contents, _markdown)] if text]
    return "\n\n".join(parts) + "\n"


def latex(contents: Contents) -> str:
    """The tables, for a document of the reader's own."""
    parts = [
        "% " + contents.about,
        "% needs \\usepackage{booktabs}, and \\usepackage{graphicx} for \\resizebox",
    ]
    for table, compared in zip(contents.tables, contents.comparisons, strict=True):
        blocks = _lines(
            table, lambda text: rf"\textbf{{{text}}}", lambda number: rf"\textsuperscript{{{number}}}", tex
        )
        sources, _ = footnotes(table)
        said = [*remarks(table), *(f"({i}) {source}." for i, source in enumerate(sources, 1))]
        caption = f"{table.dataset}, score {', '.join(table.scores)}. {HOW_A_CELL} {' '.join(said)}"
        parts.append(_tabular(["", *table.columns], blocks, caption))
        classes = shown_classes(table, compared)
        if classes:
            rows = [list(map(tex, _difference(c, classes, table))) for c in compared if c.by_class]
            caption = f"{table.dataset}: differences. {HOW_A_DIFFERENCE} {' '.join(unpaired(compared))}"
            parts.append(_tabular(["", "all classes", *classes], [rows], caption))
    return "\n\n".join(parts) + "\n"


def long_form(contents: Contents) -> dict[str, list[Any]]:
    """Columns of the CSV: a row a run; AUROCs in [0, 1], seconds of training."""
    names = ("dataset", "class", "method", "variant", "seed", "score", "auroc", "low", "high")
    columns: dict[str, list[Any]] = {name: [] for name in (*names, "seconds", "frechet", "path")}
    for table in contents.tables:
        for row in table.rows:
            for run in row.runs.values():
                result = run.result
                low, high = run.interval(contents.score) or ("", "")
                auroc = run.auroc(contents.score)
                values = [result.dataset, result.normal_class, *row.kind, result.seed]
                values += [contents.score or result.primary, "" if auroc is None else auroc, low, high]
                values += [result.seconds.get("train", ""), frechet(result.generator)[1], ""]
                values[-1] = contents.relative(run.path)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append("" if value is None else value)
    return columns


def remarks(table: Table) -> list[str]:
    """What stands under a table."""
    missing = [f"Missing: {' | '.join(table.missing)}."] if table.missing else []
    beside = [table.sentence] if table.all_published and table.sentence else []
    return [*beside, *missing, *table.notes]


def tex(text: str) -> str:
    """Text for LaTeX."""
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _lines(
    table: Table, bold: Callable[[str], str], mark: Callable[[int], str], escape: Callable[[str], str]
) -> list[list[list[str]]]:
    """Blocks of rows of cells: ours, each method's published figures beneath it, then the other published."""
    _, numbers = footnotes(table)

    def of(published: Published) -> list[str]:
        by_class, by_mean = (numbers.get((published.method, part)) for part in ("classes", "mean"))
        cells = [f"published: {escape(published.label)}{mark(by_class) if by_class else ''}"]
        for column in table.columns:
            value = published.mean if column == MEAN else published.auroc.get(column)
            note = mark(by_mean) if column == MEAN and by_mean and by_mean != by_class else ""
            cells.append(escape(ABSENT) if value is None else f"{value:.1f}{note}")
        return cells

    ours = []
    for row in table.own:
        cells = [escape(row.label)]
        for column in table.columns:
            text = escape(percent(row.cells.get(column), table))
            cells.append(bold(text) if table.best(row, column) else text)
        ours.append(cells)
        if row.published:
            ours.append(of(row.published))
        if row.difference:
            differences = [escape(less(row.difference.get(column))) for column in table.columns]
            ours.append(["ours − published", *differences])
    theirs = [of(published) for published in table.published]
    return [ours, theirs] if theirs else [ours]


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _tabular(header: Sequence[str], blocks: Sequence[Sequence[Sequence[str]]], caption: str) -> str:
    body = "\n\\midrule\n".join(
        "\n".join(f"{' & '.join(cells)} \\\\" for cells in block) for block in blocks if block
    )
    head = " & ".join(tex(name) for name in header)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\resizebox{{\\linewidth}}{{!}}{{%\n\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n\\toprule\n"
        f"{head} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}}}\n"
        f"\\caption{{{tex(caption)}}}\n\\end{{table}}"
    )


def _difference(comparison: Comparison, classes: Sequence[str], table: Table) -> list[str]:
    """A row of the table of differences."""
    of_classes = [points(comparison.by_class.get(name)) for name in classes]
    return [comparison.label, overall(comparison, table), *of_classes]


def _synthetic(table: Table) -> list[str]:
    """How near synthetic images come to real ones."""
    found = distances(table)
    if not found:
        return []
    numbers = [
        [ABSENT if value is None else f"{value:.3g}" for value in (row.value, row.floor, row.published)]
        for row in found
    ]
    rows = [
        [_markdown(row.label), _markdown(row.network), *of_row, str(row.runs)]
        for row, of_row in zip(found, numbers, strict=True)
    ]
    header = ["", "network", "distance", "floor", "published", "runs"]
    return [f"### Synthetic images on {_markdown(table.dataset)}", HOW_A_DISTANCE, _grid(header, rows)]


def _aside(contents: Contents, escape: Callable[[str], str]) -> str:
    """What was found and is in no table."""
    collection = contents.collection
    without = [f"{contents.relative(path)}: {state}" for path, state in collection.unfinished.items()]
    return "\n".join(f"- {escape(text)}" for text in [*without, *collection.warnings])
