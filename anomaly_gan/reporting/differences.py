"""Paired differences between the rows of a table, on the same test images."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from anomaly_gan.metrics.paired import Difference, difference, moves
from anomaly_gan.reporting.collect import Run
from anomaly_gan.reporting.evidence import Evidence
from anomaly_gan.reporting.tables import Row
from anomaly_gan.results import SCORES_FILE

Found = Mapping[Run, Evidence | str]

NO_SCORES = f"no {SCORES_FILE} of the test images beside the results"


@dataclass
class Comparison:
    """The second row's AUROCs over the first's."""

    first: Row
    second: Row
    by_class: dict[str, Difference] = field(default_factory=dict)
    seeds: dict[str, list[int]] = field(default_factory=dict)
    """By class: those that are averaged."""
    overall: Difference | None = None
    """Over the classes in `by_class`, each the same."""
    not_paired: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """For a person."""
        return f"{self.second.label} − {self.first.label}"


def comparisons(rows: Sequence[Row], classes: Sequence[str], found: Found) -> list[Comparison]:
    """Every two of `rows`, the later over the earlier.

    Args:
        rows: of one table.
        classes: of it, in order.
        found: what is known of each of their runs.
    """
    moved = _moves([run for row in rows for run in row.runs.values()], found)
    return [_compare(first, second, classes, found, moved) for first, second in combinations(rows, 2)]


def _moves(runs: Sequence[Run], found: Found) -> dict[Run, np.ndarray]:
    """Of each run with scores, how far each resample of the test images moves its AUROC.

    Runs on the same images, of whatever class, see the same resamples.
    """
    groups = defaultdict(list)
    for run in runs:
        evidence = found[run]
        if isinstance(evidence, Evidence):
            groups[evidence.images].append((run, evidence.influence))
    moved: dict[Run, np.ndarray] = {}
    for seed, group in enumerate(groups.values()):
        columns = moves(np.stack([influences for _, influences in group], 1), seed=seed)
        moved |= {run: columns[:, i] for i, (run, _) in enumerate(group)}
    return moved


def _compare(
    first: Row, second: Row, classes: Sequence[str], found: Found, moved: Mapping[Run, np.ndarray]
) -> Comparison:
    comparison = Comparison(first, second)
    values, resampled = [], []
    reasons = defaultdict(list)
    for name in classes:
        seeds, differences, of_resamples = [], [], []
        of_both = [{seed for at, seed in row.runs if at == name} for row in (first, second)]
        if not of_both[0] or not of_both[1]:
            continue
        if not of_both[0] & of_both[1]:
            reasons["no seed in common"].append(name)
        for seed in sorted(of_both[0] & of_both[1]):
            one, other = (row.runs[name, seed] for row in (first, second))
            a, b = found[one], found[other]
            if isinstance(a, str) or isinstance(b, str):
                unreadable = next(said for said in (a, b) if isinstance(said, str))
                absent = unreadable.startswith("no ")
                reasons[NO_SCORES if absent else unreadable].append(name)
            elif (a.images, a.kinds) != (b.images, b.kinds):
                reasons["other test images"].append(name)
            else:
                seeds.append(seed)
                differences.append(b.auroc - a.auroc)
                of_resamples.append(moved[other] - moved[one])
        if seeds:
            values.append(float(np.mean(differences)))
            resampled.append(np.mean(of_resamples, axis=0))
            comparison.by_class[name] = difference(values[-1], resampled[-1])
            comparison.seeds[name] = seeds
    if values:
        comparison.overall = difference(float(np.mean(values)), np.mean(resampled, axis=0))
    comparison.not_paired = [
        f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()
    ]
    return comparison
