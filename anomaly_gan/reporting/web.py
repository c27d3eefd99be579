"""The report as one HTML page that needs no network: a template, a style sheet and a script put together.

Names of classes, folders and notes come from users' files: the template escapes them, and the script sets
them only as text.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape

from anomaly_gan.reporting import contents as words
from anomaly_gan.reporting import wording
from anomaly_gan.reporting.collect import Run
from anomaly_gan.reporting.contents import Contents
from anomaly_gan.reporting.evidence import Evidence, least_normal, losses
from anomaly_gan.reporting.generators import HOW_A_DISTANCE, distances, frechet
from anomaly_gan.reporting.only_run import only_run
from anomaly_gan.reporting.pictures import embed
from anomaly_gan.reporting.tables import Row, Table
from anomaly_gan.reporting.template import as_json, asset, environment
from anomaly_gan.reporting.variants import flat
from anomaly_gan.results import SCORES_FILE

FIGURES_FOLDER = "figures"
"""Of a run's pictures, in its folder."""

PICTURE_NAMES = {
    "most_anomalous": "highest scores",
    "least_anomalous": "lowest scores",
    "scores_by_class": "all scores",
    "explanation": "where the scores come from",
    "thresholds": "what thresholds cost and find",
}
"""What is on a picture, by its file's name; else that name."""

PICTURE_BUDGET = 11_000_000
"""Bytes that all pictures together may take of the page."""

MANY_PICTURES = 250
"""With more than that, only the first seed of each row and class has any."""


def page(contents: Contents) -> str:
    """The whole page."""
    row_of = {run: row for table in contents.tables for row in table.rows for run in row.runs.values()}
    runs = _ordered(contents, row_of)
    chosen, first_seeds = _pictures(runs, row_of, contents)
    pictures, shown = _embedded(chosen)
    common, configs = _configs(runs)
    details = []
    for run, config in zip(runs, configs, strict=True):
        known = _detail(run, contents)
        left_out = len(_files(run)) if run not in chosen else 0
        known |= {"config": config, "pictures": shown[run], "pictures_left_out": left_out}
        details.append(known)
    return (
        environment()
        .get_template("report.html")
        .render(
            contents=contents,
            runs=[_line(i, run, row_of.get(run), contents) for i, run in enumerate(runs)],
            filters=_filters(runs),
            pictures=pictures,
            pictures_of_first_seeds=first_seeds,
            data=as_json({"common": common, "runs": details}),
            css=asset("report.css"),
            js=asset("report.js"),
            only=only_run(contents) if len(runs) == 1 else None,
            not_promised=wording.NOT_PROMISED,
            how_a_cell=words.HOW_A_CELL,
            how_a_difference=words.HOW_A_DIFFERENCE,
            how_a_distance=HOW_A_DISTANCE,
            distances=distances,
            points=words.less,
            footnotes=words.footnotes,
            shown_classes=words.shown_classes,
            unpaired=words.unpaired,
            signed=lambda value: f"{100 * value:+.2f}".replace("-", "−"),
            same_seeds=_same_seeds,
            link=_link,
            breakable=_breakable,
        )
    )


def _embedded(chosen: Mapping[Run, list[Path]]) -> tuple[list[str], dict[Run, list[tuple[int, str]]]]:
    """The data of all pictures; and for each run the numbers and names of its own."""
    paths = [path for of_run in chosen.values() for path in of_run]
    pictures: list[str] = []
    shown: dict[Run, list[tuple[int, str]]] = defaultdict(list)
    encoded = iter(embed(paths, PICTURE_BUDGET))
    for run, of_run in chosen.items():
        for path in of_run:
            data = next(encoded)
            if data is not None:
                shown[run].append((len(pictures), _picture_name(run, path)))
                pictures.append(data)
    return pictures, shown


def _picture_name(run: Run, path: Path) -> str:
    """What a picture shows, by its file's name."""
    assert run.folder is not None  # it has pictures
    name = path.relative_to(run.folder / FIGURES_FOLDER).with_suffix("")
    return PICTURE_NAMES.get(name.as_posix(), " ".join(name.parts).replace("_", " "))


def _link(dataset: str, name: str | None, row: str) -> str:
    """The part of an address that shows the runs of a cell."""
    query = {"dataset": dataset, **({"class": name} if name else {}), "row": row}
    return urlencode(query, errors="backslashreplace")  # a class is named as its folder is: by any bytes


def _breakable(text: str) -> Markup:
    """`text` that may be broken into lines within its long words, those of settings and classes."""
    return Markup(re.sub(r"(_|=|\.(?=[a-zA-Z]))", r"\1<wbr>", str(escape(text))))


def _ordered(contents: Contents, row_of: Mapping[Run, Row]) -> list[Run]:
    """By data set, class, row and seed, as the tables are; in each data set those that do not count last."""
    places: dict[Run, tuple[int, ...]] = {}
    for i, table in enumerate(contents.tables):
        for j, row in enumerate(table.rows):
            for (name, seed), run in row.runs.items():
                places[run] = (i, 0, table.classes.index(name), j, seed)
        for run in contents.collection.runs:
            if run.result.dataset == table.dataset and run not in row_of:
                places[run] = (i, 1, 0, 0, run.result.seed)
    return sorted(contents.collection.runs, key=places.__getitem__)


def _filters(runs: Sequence[Run]) -> list[tuple[str, str, list[str]]]:
    """Key, label and values of those that can choose between runs."""
    results = [run.result for run in runs]
    values: dict[tuple[str, str], list[Any]] = {
        ("dataset", "data set"): [r.dataset for r in results],
        ("class", "class"): [r.normal_class for r in results],
        ("method", "method"): [r.method for r in results],
        ("seed", "seed"): sorted({r.seed for r in results}),
    }
    distinct = {key: [str(v) for v in dict.fromkeys(found)] for key, found in values.items()}
    return [(*key, found) for key, found in distinct.items() if len(found) > 1]


def _same_seeds(table: Table) -> int | None:
    """How many seeds every cell of a class has, where that is one number."""
    counts = {len(cell.seeds) for row in table.own for cell in row.cells.values() if cell.classes is None}
    return counts.pop() if len(counts) == 1 else None


def _line(number: int, run: Run, row: Row | None, contents: Contents) -> dict[str, Any]:
    """What the list of runs shows."""
    result = run.result
    name, distance = frechet(result.generator)
    seconds = result.seconds.get("train")
    return {
        "id": number,
        "dataset": result.dataset,
        "class": result.normal_class,
        "row": row.label if row else "",
        "method": result.method,
        "variant": row.kind.variant if row else "",
        "superseded": row is None,
        "seed": result.seed,
        "auroc": run.auroc(contents.score),
        "interval": run.interval(contents.score),
        "frechet": distance,
        "frechet_name": name,
        "minutes": None if seconds is None else seconds / 60,
        "notes": result.notes,
    }


def _detail(run: Run, contents: Contents) -> dict[str, Any]:
    """What an opened run shows, but for configuration and pictures."""
    result = run.result
    evidence = contents.evidence[run]
    known = evidence if isinstance(evidence, Evidence) else None
    generator = result.generator or {}
    return {
        "title": f"{result.dataset}, {result.normal_class}, {result.method}, seed {result.seed}",
        "score": contents.score or result.primary,
        "auroc": run.auroc(contents.score),
        "scores": [
            *([name, value, result.auroc_interval.get(name)] for name, value in result.auroc.items()),
            ["raw pixels", result.auroc_raw_pixels, result.auroc_raw_pixels_interval],
        ],
        "parts": [
            [name, value, result.auroc_parts_interval.get(name)] for name, value in result.auroc_parts.items()
        ],
        "curve": result.curve,
        "losses": losses(run),
        "held_out": least_normal(run),
        "calibration": result.calibration,
        "localisation": result.localisation,
        "no_auroc": result.auroc_absent_because,
        "roc": known.roc if known else [],
        "histogram": known.histogram if known else None,
        "no_scores": "" if known else str(evidence).partition(" beside ")[0],
        "generator": {
            "generated": generator.get("generated") or {},
            "floor": generator.get("floor") or {},
        },
        "counts": result.counts,
        "seconds": result.seconds,
        "versions": result.versions,
        "machine": result.machine,
        "command": result.command,
        "notes": result.notes,
        "path": contents.relative(run.path),
    }


def _configs(runs: Sequence[Run]) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """What configurations share, by data set and method; and for each run which of these, and its own.

    Three hundred whole configurations would be most of the page.
    """
    groups = defaultdict(list)
    for run in runs:
        groups[run.result.dataset, run.result.method].append(_shown(run))
    common: list[dict[str, str]] = []
    numbers = {}
    for key, configs in groups.items():
        counted = Counter(item for config in configs for item in config.items())
        shared: dict[str, str] = {}
        for (name, value), count in counted.items():
            if 2 * count > len(configs):
                shared[name] = value
        numbers[key] = len(common)
        common.append(shared)
    found = []
    for run in runs:
        number = numbers[run.result.dataset, run.result.method]
        shared, config = common[number], _shown(run)
        own = {name: value for name, value in config.items() if shared.get(name) != value}
        without = [name for name in shared if name not in config]
        found.append({"common": number, "own": own, "without": without})
    return common, found


def _shown(run: Run) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in flat(run.result.config).items()
    }


def _files(run: Run) -> list[Path]:
    """The pictures beside a run that the page does not draw anew; what came on the way last."""
    if run.folder is None:
        return []
    figures = run.folder / FIGURES_FOLDER
    drawn = {"roc"} if (run.folder / SCORES_FILE).exists() else set()
    drawn |= {"losses"} if (run.folder / "log" / "metrics.csv").exists() else set()
    order = ("most_anomalous", "least_anomalous", "scores_by_class", "synthetic", "reconstructions")
    found = [path for path in figures.rglob("*.png") if path.stem not in drawn]

    def place(path: Path) -> tuple[Any, ...]:
        known = order.index(path.stem) if path.stem in order else len(order)
        return len(path.parts), known, path.as_posix()

    return sorted(found, key=place)


def _pictures(
    runs: Sequence[Run], row_of: Mapping[Run, Row], contents: Contents
) -> tuple[dict[Run, list[Path]], bool]:
    """Which runs show which pictures; whether these are only the first seed's of each row and class."""
    found = {run: files for run in runs if (files := _files(run))}
    if sum(len(files) for files in found.values()) <= MANY_PICTURES:
        return found, False
    first: dict[tuple[int, str], int] = {}
    for run, row in row_of.items():
        if run in found:
            key = (id(row), run.result.normal_class)
            first[key] = min(run.result.seed, first.get(key, run.result.seed))
    kept = {
        run: files
        for run, files in found.items()
        if run in row_of and first[id(row_of[run]), run.result.normal_class] == run.result.seed
    }
    return kept, True
