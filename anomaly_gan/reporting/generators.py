"""How near synthetic images come to real ones, by row of a table: the paper's section 3.2."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anomaly_gan.reporting.tables import Row, Table
from anomaly_gan.results import RunResult

FID = "fid"
"""The name of the distance by FID's own network, the only one to compare with published figures."""

PUBLISHED = {("cifar10", "csi_g"): 69.5, ("cifar10", "full"): 54.1}
"""FID, mean over classes (the paper, section 3.2)."""

HOW_A_DISTANCE = (
    "Fréchet distance of as many synthetic images as a class has training images from these, mean over runs; "
    "the floor is that of the class's test images. Lower is nearer; a distance compares with others of the "
    "same network alone."
)


@dataclass(frozen=True)
class Distance:
    """Of one row of a table, by one network."""

    label: str
    network: str
    """The name of the distance, which has that of the network."""
    value: float
    floor: float | None
    runs: int
    published: float | None
    """None where it is not published, or is of another network."""


def distances(table: Table) -> list[Distance]:
    """Of the rows whose runs have a generator; empty where none has."""
    return [found for row in table.rows for name in _names(row) if (found := _distance(table, row, name))]


def frechet(generator: dict[str, Any] | None) -> tuple[str, float | None]:
    """Name and value of the distance of synthetic images from real ones."""
    for name, value in ((generator or {}).get("generated") or {}).items():
        if name.startswith(("frechet", "fid")):
            return name, value
    return "", None


def _names(row: Row) -> list[str]:
    names = [frechet(run.result.generator)[0] for run in row.runs.values()]
    return [name for name in dict.fromkeys(names) if name]


def _distance(table: Table, row: Row, name: str) -> Distance | None:
    results = [run.result for run in row.runs.values()]
    values = _values(results, "generated", name)
    if not values:
        return None
    floors = _values(results, "floor", name)
    return Distance(
        label=row.label,
        network=name,
        value=statistics.fmean(values),
        floor=statistics.fmean(floors) if floors else None,
        runs=len(values),
        published=PUBLISHED.get((table.dataset, row.kind.method)) if name == FID else None,
    )


def _values(results: Sequence[RunResult], part: str, name: str) -> list[float]:
    found = [((result.generator or {}).get(part) or {}).get(name) for result in results]
    return [value for value in found if value is not None]
