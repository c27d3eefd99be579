"""Finds what runs left: results, and folders of runs that have none."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomaly_gan.before import result_today
from anomaly_gan.errors import UserError
from anomaly_gan.results import FAILED_FILE, RESULT_FILE, RunResult

CONFIG_FILE = "config.yaml"

HOLD_NO_RUNS = {"figures", "checkpoints", "log", "tensorboard", "wandb"}
"""Folders in a run's folder that the run itself makes."""


@dataclass(frozen=True, eq=False)
class Run:
    """A result and where it lies."""

    path: Path
    """Of the result's file."""
    result: RunResult
    modified: float
    """When the file was written, seconds since 1970."""

    @property
    def folder(self) -> Path | None:
        """Where scores and pictures lie; None where the result is a file apart from its run."""
        return self.path.parent if self.path.name == RESULT_FILE else None

    def auroc(self, score: str | None) -> float | None:
        """Of `score`, or of the score that ranks in this run; in [0, 1]; None where it is absent."""
        result = self.result
        return (result.auroc | result.auroc_parts).get(score or result.primary)

    def interval(self, score: str | None) -> Sequence[float] | None:
        """[low, high] of `auroc`, over test images."""
        result = self.result
        return (result.auroc_interval | result.auroc_parts_interval).get(score or result.primary)


@dataclass
class Collection:
    """All that was found."""

    runs: list[Run] = field(default_factory=list)
    unfinished: dict[Path, str] = field(default_factory=dict)
    """Folders of runs without a result, and what is known of them."""
    warnings: list[str] = field(default_factory=list)


def collect(places: Sequence[Path]) -> Collection:
    """Read every result below the folders `places`, and those that are files themselves.

    Raises:
        UserError: a place is not there, or there is no result at all.
    """
    found, seen = Collection(), set()
    for place in places:
        if not place.exists():
            raise UserError(f"{place}: no such folder; give folders of runs, or result files")
        for path in _files(place, found):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                result = _read(path)
            except (OSError, AttributeError, LookupError, ValueError, TypeError) as error:
                reason = " ".join(str(error).replace("RunResult.__init__() ", "").split())
                found.warnings.append(f"{path}: left out, not a readable result ({reason})")
                continue
            if result is not None:
                found.runs.append(Run(path, result, path.stat().st_mtime))
            elif path == place:
                found.warnings.append(f"{path}: left out, not a run's result")
    if not found.runs:
        where = ", ".join(str(place) for place in places)
        more = "; ".join(
            [*found.warnings, *(f"{path} is {state}" for path, state in found.unfinished.items())]
        )
        raise UserError(
            f"{where}: no {RESULT_FILE} in or below it{f' ({more})' if more else ''};"
            " anomaly-gan train leaves one in its run's folder"
        )
    return found


def _files(place: Path, found: Collection) -> Iterator[Path]:
    """JSON files below `place`, in order; run folders without a result go to `found`."""
    if place.is_file():
        yield place
        return
    entered: set[str] = set()
    for at, folders, files in os.walk(place, followlinks=True):
        folder = Path(at)
        real = os.path.realpath(at)
        if real in entered:  # a loop of links, or two links to one run
            folders.clear()
            continue
        entered.add(real)
        is_run = not {RESULT_FILE, FAILED_FILE, CONFIG_FILE}.isdisjoint(files)
        own = HOLD_NO_RUNS if is_run else set()
        folders[:] = sorted(f for f in folders if f not in own and not f.startswith("."))
        if RESULT_FILE not in files:
            if FAILED_FILE in files:
                error = (folder / FAILED_FILE).read_text(errors="replace").strip().partition("\n")[0]
                found.unfinished[folder] = f"failed: {error}"
            elif CONFIG_FILE in files:
                found.unfinished[folder] = "unfinished"
        yield from (folder / name for name in sorted(files) if name.endswith(".json") and name[0] != ".")


def _read(path: Path) -> RunResult | None:
    """The result in a file; None where it is JSON of another kind.

    Raises:
        ValueError, TypeError: it is damaged.
    """
    content = json.loads(path.read_text(), parse_constant=_refuse)
    own = {"dataset", "normal_class", "primary", "auroc"}
    if path.name != RESULT_FILE and not (isinstance(content, dict) and own <= content.keys()):
        return None
    if not isinstance(content, dict):
        raise ValueError("not an object")
    result = RunResult(**result_today(content))
    _check(result)
    return result


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _check(result: RunResult) -> None:
    """Refuse what readers of results would stumble over.

    Raises:
        ValueError: a field is of another kind than it should be.
    """
    kinds: dict[str, Any] = {"dataset": str, "normal_class": str, "method": str, "seed": int}
    kinds |= {"primary": str, "auroc": dict, "auroc_interval": dict, "auroc_parts": dict, "config": dict}
    kinds |= {"auroc_parts_interval": dict, "counts": dict, "seconds": dict, "versions": dict, "curve": list}
    kinds |= {"notes": list, "classes": list, "machine": str, "command": str}
    for name, kind in kinds.items():
        if not isinstance(getattr(result, name), kind):
            raise ValueError(f"{name} is not a {kind.__name__}")
    shares = {"raw pixels": result.auroc_raw_pixels} | result.auroc | result.auroc_parts
    for name, value in shares.items():
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise ValueError(f"AUROC {name} is not a share")
    intervals = [result.auroc_raw_pixels_interval, *result.auroc_interval.values()]
    for interval in [*intervals, *result.auroc_parts_interval.values()]:
        if interval is not None and not (isinstance(interval, list) and len(interval) == 2):
            raise ValueError("an interval is not [low, high]")
    if not all(isinstance(value, int | float) for value in result.seconds.values()):
        raise ValueError("seconds are not numbers")
    if not all(isinstance(point, dict) and {"iteration", "auroc"} <= point.keys() for point in result.curve):
        raise ValueError("curve is not a list of points")
    if not isinstance(result.generator, dict | None):
        raise ValueError("generator is not an object")
