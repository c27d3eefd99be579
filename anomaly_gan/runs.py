"""A run's folder: what a finished detector leaves there."""

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomaly_gan import checkpoint, generation
from anomaly_gan.data.module import OneClassData
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.distributed import rank
from anomaly_gan.evaluation import (
    Scored,
    calibrate,
    check_finite,
    fit_scorer,
    score_held_out,
    score_test_set,
    why_no_auroc,
)
from anomaly_gan.explanation import IMAGES_AN_EXPLANATION, explain
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.methods.raw_pixels import RawPixels
from anomaly_gan.metrics.auroc import bootstrap_interval
from anomaly_gan.metrics.false_alarms import expected_rates
from anomaly_gan.metrics.generator import FeatureNetwork
from anomaly_gan.reporting import explanations, figures
from anomaly_gan.results import (
    HELD_OUT_FILE,
    PAGE_FILE,
    RESULT_FILE,
    SCORES_FILE,
    RunResult,
    machine,
    versions,
    write_csv,
)
from anomaly_gan.scoring.calibration import (
    DECISION,
    Calibration,
    Threshold,
    check_rate,
    images_needed,
    p_values_among,
)
from anomaly_gan.scoring.scores import PARTS
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.validation import validate

DETECTOR_FILE = "detector.ckpt"
FIGURES_FOLDER = "figures"

EXPLAINED = 4
"""Images explained at each end of the ranking."""

SECONDS_TO_EXPLAIN = 10.0
"""Beyond which a run explains none, and says so: `predict explain=10` does it for whoever wants to wait."""


def finish(
    folder: Path,
    detector: AnomalyDetector,
    data: OneClassData,
    config: Mapping[str, Any],
    *,
    iterations: int,
    trained_iterations: int,
    seconds: Mapping[str, float],
    curve: list[dict[str, Any]],
    losses: Sequence[dict[str, int | float]] = (),
    notes: Sequence[str] = (),
    feature_network: FeatureNetwork | None = None,
    already_fitted: bool = False,
    calibration: Calibration | None = None,
    log: Callable[[RunResult], None] = lambda _: None,
) -> RunResult | None:
    """Fit the scorer, score held-out and test images; write detector, scores, pictures and `result.json`.

    Several processes score together; the first one writes, and the others get None.

    Args:
        folder: exists; everything goes there.
        detector: trained.
        data: set up.
        config: the run's whole configuration, resolved, in plain containers.
        iterations: how long the whole training was, batches.
        trained_iterations: how many batches "train" in `seconds` stands for.
        seconds: how long things took so far ("train", "curve").
        curve: AUROCs on the way.
        losses: of each phase on the way, for the picture of them.
        notes: what the training warned of.
        feature_network: with whose features synthetic images are compared to real ones; None: they are not.
        already_fitted: the detector comes from a file and has its bank.
        calibration: likewise from the file.
        log: what else is done with the result before it is written, which says that the run is finished.

    Raises:
        UserError: its scores are not numbers; nothing is written then.
    """
    seconds = dict(seconds)
    notes = [*data.notes, *notes]
    if data.skipped:
        notes.append(f"left out, could not be read: {', '.join(data.skipped)}")
    held_out = None
    if not already_fitted:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            fit_scorer(detector, data)
        notes += [str(warning.message) for warning in caught]
        seconds["fit_scorer"] = time.perf_counter() - start
        held_out = score_held_out(detector, data)
        if held_out is not None:
            start = time.perf_counter()
            calibration = calibrate(detector, held_out)
            seconds["calibrate"] = held_out.seconds + time.perf_counter() - start
    asked = check_rate(config["threshold"]["false_positive_rate"])
    threshold = None
    if calibration is not None:
        threshold = calibration.threshold(detector.primary, calibration.possible_rate(asked))
        if threshold.rate > asked:
            notes.append(
                f"{calibration.count} held-out images promise a false positive rate of {threshold.rate:.2g} "
                f"at best, so the threshold is for that; {asked:g} takes {images_needed(asked)} of them "
                "(data.calibration_fraction)"
            )
    scored = score_test_set(detector, data)
    if scored is None:
        one = detector.score_all(to_float(data.train[[0]].images.to(detector.device)))
        check_finite({name: values.cpu().numpy() for name, values in one.items()})
    if rank() == 0:
        normal = NormalImages.of(data.train.names, data.bank_loader(), data.channels, data.image_size)
    if rank() == 0 and not already_fitted:
        # Not before its scores are known to be numbers.
        checkpoint.save(folder / DETECTOR_FILE, detector, config, data.describe(), calibration, normal)
    if scored is not None:
        seconds["score"] = scored.seconds
        raw = RawPixels().to(detector.device)
        start = time.perf_counter()
        fit_scorer(raw, data)
        raw_scored = score_test_set(raw, data)
        assert raw_scored is not None
        seconds["raw_pixels"] = time.perf_counter() - start
        scored.scores.update(raw_scored.scores)
    if rank() > 0:
        return None
    if held_out is not None:
        write_held_out(folder, held_out, detector.primary)
    aurocs: dict[str, float | None]
    if scored is not None:
        write_scores(folder, scored, data, detector.primary, threshold)
        aurocs = scored.aurocs()
        intervals = {name: bootstrap_interval(scored.scores[name], scored.anomalous) for name in aurocs}
    else:
        aurocs = dict.fromkeys(one)
        intervals = dict.fromkeys(aurocs)
    generator = None
    if detector.generates and feature_network is not None:
        start = time.perf_counter()
        generator = generation.quality(detector, data, feature_network)
        seconds["generator"] = time.perf_counter() - start
    validation = validate(detector, data, config["seed"]) if config.get("validate") else None
    shown = scored or held_out
    not_explained = None if shown is None else why_not_explained(shown)
    if not_explained is not None:
        notes.append(not_explained)
    parts = {name for name in aurocs if name.removesuffix("_ens") in PARTS}
    ranking = [name for name in aurocs if name not in parts and name != RawPixels.primary]
    seconds["total"] = sum(seconds.values(), 0.0)
    trained_images = trained_iterations * data.batch_size
    images_per_second = {}
    if seconds.get("train"):
        images_per_second["train"] = trained_images / seconds["train"]
    if scored is not None:
        images_per_second["score"] = len(scored.images) / scored.seconds
    entry = None
    if threshold is not None:
        entry = calibration_entry(threshold, asked, detector.primary, scored)
    result = RunResult(
        dataset=data.name,
        normal_class=data.class_names[data.normal_index],
        method=detector.name,
        ablation=config["ablation"]["name"],
        seed=config["seed"],
        primary=detector.primary,
        auroc={name: aurocs[name] for name in ranking},
        auroc_interval={name: intervals[name] for name in ranking},
        auroc_parts={name: aurocs[name] for name in aurocs if name in parts},
        auroc_parts_interval={name: intervals[name] for name in aurocs if name in parts},
        auroc_raw_pixels=aurocs.get(RawPixels.primary),
        auroc_raw_pixels_interval=intervals.get(RawPixels.primary),
        auroc_absent_because=why_no_auroc(data),
        curve=curve,
        counts=data.describe()["counts"],
        iterations=iterations,
        seconds={name: round(value, 3) for name, value in seconds.items()},
        images_per_second={name: round(value, 1) for name, value in images_per_second.items()},
        config=dict(config),
        versions=versions(),
        machine=machine(),
        command=" ".join(sys.argv),
        generator=generator,
        calibration=entry,
        notes=notes,
        validation=validation,
        classes=data.can_be_normal(),
    )
    pictures = folder / FIGURES_FOLDER
    if shown is not None:
        draw(pictures, shown, result, data)
        if not_explained is None:
            draw_explanations(pictures, detector, data, shown, threshold, normal)
    if detector.generates:
        generation.draw_generator(pictures, detector, data)
    if any(len(point) > 1 for point in losses):  # some phase ran before the end
        title = f"{result.dataset}, normal: {result.normal_class}, {result.ablation}: losses"
        figures.save(figures.losses(losses, title), pictures / "losses.png")
    log(result)
    result.write(folder)
    return result


def calibration_entry(
    threshold: Threshold, asked: float, primary: str, scored: Scored | None
) -> dict[str, Any]:
    """What `result.json` says of the threshold; rates in [0, 1].

    `false_alarms` and `found` count what was tested; null where there is nothing to test.
    """
    entry: dict[str, Any] = {
        "score": primary,
        "held_out": len(threshold.held_out),
        "false_positive_rate_asked": asked,
        "false_positive_rate": threshold.rate,
        "threshold": threshold.value,
        "false_alarms": None,
        "found": None,
    }
    if scored is None:
        return entry
    above = threshold.anomalous(scored.scores[primary])
    for name, tested in (("false_alarms", ~scored.anomalous), ("found", scored.anomalous)):
        if tested.any():
            entry[name] = {"tested": int(tested.sum()), "rate": float(above[tested].mean())}
    if entry["false_alarms"] is not None:
        entry["false_alarms"]["expected_interval"] = expected_rates(
            len(threshold.held_out), threshold.allowed, entry["false_alarms"]["tested"]
        )
    return entry


def write_scores(
    folder: Path, scored: Scored, data: OneClassData, primary: str, threshold: Threshold | None
) -> None:
    """One row a test image: name, class, whether it is anomalous, p-value and decision, every score and part.

    p-value and decision are the primary score's, and empty where there is no threshold.
    """
    columns: dict[str, Any] = {
        "name": scored.images.names,
        "class": [data.class_names[label] for label in scored.labels],
        "anomalous": scored.anomalous.astype(int).tolist(),
        "p_value": [None] * len(scored.images),
        "decision": [None] * len(scored.images),
    }
    if threshold is not None:
        above = threshold.anomalous(scored.scores[primary]).tolist()
        columns["p_value"] = threshold.p_values(scored.scores[primary]).tolist()
        columns["decision"] = [DECISION[flag] for flag in above]
    write_csv(folder / SCORES_FILE, columns | {name: v.tolist() for name, v in scored.scores.items()})


def write_held_out(folder: Path, held_out: Scored, primary: str) -> None:
    """One row a held-out image, the least normal first: name, p-value among the others, every score and part.

    The p-value is the primary score's, which comes before the others.
    """
    scores = {primary: held_out.scores[primary]} | held_out.scores
    ranked = np.argsort(-scores[primary], kind="stable")
    columns: dict[str, Any] = {
        "name": [held_out.images.names[row] for row in ranked],
        "p_value": p_values_among(scores[primary])[ranked].tolist(),
    }
    write_csv(folder / HELD_OUT_FILE, columns | {name: v[ranked].tolist() for name, v in scores.items()})


def draw(folder: Path, scored: Scored, result: RunResult, data: OneClassData) -> None:
    """ROC where both kinds were tested, score histogram by class, the images at both ends of the ranking."""
    primary = scored.scores[result.primary]
    title = f"{result.dataset}, normal: {result.normal_class}"
    if scored.what == "test" and result.auroc_absent_because is None:
        aurocs = scored.aurocs()
        shown = [*_ranked(result), RawPixels.primary]
        figure = figures.roc({name: scored.scores[name] for name in shown}, aurocs, scored.anomalous, title)
        figures.save(figure, folder / "roc.png")
    line = None if result.calibration is None else result.calibration["threshold"]
    figure = figures.histogram(
        primary, scored.labels, data.class_names, data.normal_index, f"{title}: {scored.what} images", line
    )
    figures.save(figure, folder / "scores_by_class.png")
    ranked = np.argsort(-primary, kind="stable")
    red = " (red: anomalous)" if scored.anomalous.any() else ""
    ends = {"most_anomalous": ranked[:32], "least_anomalous": ranked[::-1][:32]}
    for name, rows in ends.items():
        images = scored.images[rows.tolist()].images.cpu().numpy()
        captions = [
            [scored.images.names[row], *_class_of(row, scored, data), f"{primary[row]:.3f}"]
            for row in rows.tolist()
        ]
        heading = f"{title}: {name.replace('_', ' ')} {scored.what} images{red}"
        figure = figures.gallery(images, captions, scored.anomalous[rows].tolist(), heading)
        figures.save(figure, folder / f"{name}.png")


def _class_of(row: int, scored: Scored, data: OneClassData) -> list[str]:
    """The class of an image, where it is not the same of all."""
    return [data.class_names[scored.labels[row]]] if scored.what == "test" else []


def why_not_explained(scored: Scored) -> str | None:
    """What to say where explanations would take longer than SECONDS_TO_EXPLAIN; else None."""
    one = IMAGES_AN_EXPLANATION * scored.seconds / len(scored.images)
    count = min(2 * EXPLAINED, len(scored.images))
    if count * one <= SECONDS_TO_EXPLAIN:
        return None
    return (
        f"explanations left out: {count} would take about {_duration(count * one)}; `predict explain=10` "
        f"explains the 10 most anomalous of the images that it is given, in about {_duration(10 * one)}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def draw_explanations(
    folder: Path,
    detector: AnomalyDetector,
    data: OneClassData,
    scored: Scored,
    threshold: Threshold | None,
    normal: NormalImages,
) -> None:
    """Explain the images at both ends of the ranking."""
    rows = np.argsort(-scored.scores[detector.primary], kind="stable").tolist()
    rows = rows[:EXPLAINED] + rows[max(EXPLAINED, len(rows) - EXPLAINED) :]
    images = scored.images[rows].images.to(detector.device)
    names = [": ".join([*_class_of(row, scored, data), scored.images.names[row]]) for row in rows]
    found = list(explain(detector, images, names, threshold, normal))
    title = f"{data.name}, normal: {data.class_names[data.normal_index]}: the most and the least anomalous"
    figures.save(explanations.sheet(found, title), folder / "explanation.png")


def _ranked(result: RunResult) -> list[str]:
    """The names of the scores, the one that ranks first."""
    return sorted(result.auroc, key=lambda name: name != result.primary)


def summary(result: RunResult, folder: Path) -> str:
    """What a person wants to read at the end of a run."""
    lines = [f"{result.dataset}, normal class {result.normal_class!r}, seed {result.seed}"]
    if result.auroc_absent_because:
        lines.append(f"AUROC: absent, {result.auroc_absent_because}")
    else:
        rows = [(name, result.auroc[name], result.auroc_interval[name]) for name in _ranked(result)]
        rows += [(name, value, None) for name, value in result.auroc_parts.items()]
        yardstick = "raw pixels, nearest neighbour"
        rows.append((yardstick, result.auroc_raw_pixels, result.auroc_raw_pixels_interval))
        lines.append("AUROC, %")
        for name, value, interval in rows:
            assert value is not None
            spread = f"  ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else ""
            mark = "  <- ranks" if name == result.primary else ""
            lines.append(f"  {name:<30} {100 * value:5.1f}{spread}{mark}")
    lines += _of_threshold(result.calibration)
    if result.generator is not None:
        floor = result.generator["floor"] or {}
        lines.append("synthetic images (beside: real test images of the class)")
        for name, value in result.generator["generated"].items():
            beside = f"  ({floor[name]:.3g})" if floor.get(name) is not None else ""
            lines.append(f"  {name:<30} {'absent' if value is None else format(value, '.3g')}{beside}")
    lines += [f"note: {note}" for note in result.notes]
    lines += [
        f"page:      {folder / PAGE_FILE}" if (folder / PAGE_FILE).exists() else "",
        f"held out:  {folder / HELD_OUT_FILE}" if (folder / HELD_OUT_FILE).exists() else "",
        f"pictures:  {folder / FIGURES_FOLDER}" if (folder / FIGURES_FOLDER).exists() else "",
        f"results:   {folder / RESULT_FILE}",
        f"detector:  {folder / DETECTOR_FILE}" if (folder / DETECTOR_FILE).exists() else "",
    ]
    return "\n".join(line for line in lines if line)


def _of_threshold(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["threshold: none, no normal images were held out (data.calibration_fraction)"]
    lines = [
        f"threshold: {found['score']} above {found['threshold']:.4g} is anomalous; promised: at most "
        f"{found['false_positive_rate']:.2%} false alarms ({found['held_out']} held-out images)"
    ]
    for key, what in (("false_alarms", "false alarms in {} normal"), ("found", "found of {} anomalous")):
        if found[key] is not None:
            spread = found[key].get("expected_interval")
            beside = f"  (95 % of such tests: {spread[0]:.2%} to {spread[1]:.2%})" if spread else ""
            what = what.format(found[key]["tested"]) + " test images"
            lines.append(f"  {what:<42} {found[key]['rate']:7.2%}{beside}")
    return lines
