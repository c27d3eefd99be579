"""What a finished run writes down: its result, and its scores image by image."""

import shlex
import sys
from typing import Any

import numpy as np

from anomaly_gan.evaluation import Scored, why_no_auroc
from anomaly_gan.metrics.false_alarms import expected_rates
from anomaly_gan.metrics.generator import NEEDED
from anomaly_gan.metrics.rates import AtRate, at_rates
from anomaly_gan.results import HELD_OUT_FILE, SCORES_FILE, RunResult, machine, versions, write_csv
from anomaly_gan.runs.parts import Found, Measured, Run, Training
from anomaly_gan.scoring.calibration import DECISION, Threshold, images_needed, p_values_among
from anomaly_gan.scoring.raw_pixels import RawPixels


def record(run: Run, training: Training, found: Found) -> RunResult:
    """The result of a run; it is not written here."""
    data, scored = run.data, found.tested.scored
    seconds = {**training.seconds, **found.fitted.seconds, **found.tested.seconds, **found.measured.seconds}
    seconds["total"] = sum(seconds.values(), 0.0)
    images_per_second = {}
    if seconds.get("train"):
        images_per_second["train"] = training.iterations_here * data.batch_size / seconds["train"]
    if scored is not None:
        images_per_second["score"] = len(scored.images) / scored.seconds
    calibration = None
    if found.threshold is not None:
        calibration = calibration_entry(run, found.threshold, scored)
    return RunResult(
        dataset=data.name,
        normal_class=data.class_names[data.normal_index],
        method=run.method,
        seed=run.config["seed"],
        primary=run.scorer.primary,
        **_aurocs(run, found.measured),
        auroc_absent_because=why_no_auroc(data),
        curve=training.curve,
        counts=data.describe()["counts"],
        iterations=training.iterations,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        images_per_second={name: round(value, 1) for name, value in images_per_second.items()},
        config=dict(run.config),
        versions=versions(),
        machine=machine(),
        command=f"{sys.argv[0]} {shlex.join(sys.argv[1:])}",
        generator=found.measured.generator,
        calibration=calibration,
        notes=_notes(run, training, found),
        validation=found.measured.validation,
        localisation=found.measured.localisation,
        classes=data.can_be_normal(),
    )


def _aurocs(run: Run, measured: Measured) -> dict[str, Any]:
    """The fields of a result that say how well each score, each part and raw pixels tell images apart."""
    aurocs, intervals = measured.aurocs, measured.intervals
    parts = [name for name in aurocs if name in run.scorer.parts]
    beside = {*parts, RawPixels.primary} - {run.scorer.primary}
    ranking = [name for name in aurocs if name not in beside]
    return {
        "auroc": {name: aurocs[name] for name in ranking},
        "auroc_interval": {name: intervals[name] for name in ranking},
        "auroc_parts": {name: aurocs[name] for name in parts},
        "auroc_parts_interval": {name: intervals[name] for name in parts},
        "auroc_raw_pixels": aurocs.get(RawPixels.primary),
        "auroc_raw_pixels_interval": intervals.get(RawPixels.primary),
    }


def _notes(run: Run, training: Training, found: Found) -> list[str]:
    """What the data, the training and the steps after it warned of, in the order of time."""
    notes = [*run.data.notes, *training.notes]
    if run.data.skipped:
        notes.append(f"left out, could not be read: {', '.join(run.data.skipped)}")
    notes += found.fitted.notes
    asked, threshold = run.rate_asked, found.threshold
    if threshold is not None and threshold.rate > asked:
        notes.append(
            f"{len(threshold.held_out)} held-out images promise a false positive rate of "
            f"{threshold.rate:.2g} at best, so the threshold is for that; "
            f"{asked:g} takes {images_needed(asked)} of them "
            "(data.calibration_fraction)"
        )
    if run.scorer.generates and found.measured.generator is None:
        notes.append(f"the generator is not measured: {NEEDED} brings what it takes")
    if found.unexplained is not None:
        notes.append(found.unexplained)
    return notes


def ranked(result: RunResult) -> list[str]:
    """The names of the scores, the one that ranks first."""
    return sorted(result.auroc, key=lambda name: name != result.primary)


def calibration_entry(run: Run, threshold: Threshold, scored: Scored | None) -> dict[str, Any]:
    """What `result.json` says of the threshold; rates in [0, 1].

    `false_alarms` and `found` count what was tested; null where there is nothing to test.
    """
    entry: dict[str, Any] = {
        "score": run.scorer.primary,
        "held_out": len(threshold.held_out),
        "false_positive_rate_asked": run.rate_asked,
        "false_positive_rate": threshold.rate,
        "threshold": threshold.value,
        "false_alarms": None,
        "found": None,
    }
    if scored is None:
        return entry
    above = threshold.anomalous(scored.scores[run.scorer.primary])
    for name, tested in (("false_alarms", ~scored.anomalous), ("found", scored.anomalous)):
        if tested.any():
            entry[name] = {"tested": int(tested.sum()), "rate": float(above[tested].mean())}
    if entry["false_alarms"] is not None:
        entry["false_alarms"]["expected_interval"] = expected_rates(
            len(threshold.held_out), threshold.allowed, entry["false_alarms"]["tested"]
        )
    return entry


def thresholds_of(run: Run, scored: Scored | None, threshold: Threshold | None) -> list[AtRate]:
    """What thresholds for other rates do with the test images; empty where there are none to count."""
    if scored is None or threshold is None:
        return []
    return at_rates(threshold.at_other_rates(), scored.scores[run.scorer.primary], scored.anomalous)


def write_scores(run: Run, scored: Scored, threshold: Threshold | None) -> None:
    """One row a test image: name, class, whether it is anomalous, p-value and decision, every score and part.

    p-value and decision are the primary score's, and empty where there is no threshold.
    """
    primary = scored.scores[run.scorer.primary]
    columns: dict[str, Any] = {
        "name": scored.images.names,
        "class": [run.data.class_names[label] for label in scored.labels],
        "anomalous": scored.anomalous.astype(int).tolist(),
        "p_value": [None] * len(scored.images),
        "decision": [None] * len(scored.images),
    }
    if threshold is not None:
        above = threshold.anomalous(primary).tolist()
        columns["p_value"] = threshold.p_values(primary).tolist()
        columns["decision"] = [DECISION[flag] for flag in above]
    write_csv(run.folder / SCORES_FILE, columns | {name: v.tolist() for name, v in scored.scores.items()})


def write_held_out(run: Run, held_out: Scored) -> None:
    """One row a held-out image, the least normal first: name, p-value among the others, every score and part.

    The p-value is the primary score's, which comes before the others.
    """
    primary = run.scorer.primary
    scores = {primary: held_out.scores[primary]} | held_out.scores
    rows = np.argsort(-scores[primary], kind="stable")
    columns: dict[str, Any] = {
        "name": [held_out.images.names[row] for row in rows],
        "p_value": p_values_among(scores[primary])[rows].tolist(),
    }
    write_csv(run.folder / HELD_OUT_FILE, columns | {name: v[rows].tolist() for name, v in scores.items()})
