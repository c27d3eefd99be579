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
from anomaly_gan.distributed import rank
from anomaly_gan.evaluation import TestScores, check_finite, fit_scorer, score_test_set, why_no_auroc
from anomaly_gan.methods.base import AnomalyDetector
from anomaly_gan.methods.raw_pixels import RawPixels
from anomaly_gan.metrics.auroc import bootstrap_interval
from anomaly_gan.metrics.generator import FeatureNetwork
from anomaly_gan.reporting import figures
from anomaly_gan.results import RESULT_FILE, SCORES_FILE, RunResult, machine, versions, write_csv
from anomaly_gan.scoring.scores import PARTS
from anomaly_gan.transforms.convert import to_float

DETECTOR_FILE = "detector.ckpt"
FIGURES_FOLDER = "figures"


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
    log: Callable[[RunResult], None] = lambda _: None,
) -> RunResult | None:
    """Fit the scorer, score the test set and write detector, scores, pictures and `result.json`.

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
        log: what else is done with the result before it is written, which says that the run is finished.

    Raises:
        UserError: its scores are not numbers; nothing is written then.
    """
    seconds = dict(seconds)
    notes = [*notes]
    if data.skipped:
        notes.append(f"left out, could not be read: {', '.join(data.skipped)}")
    if not already_fitted:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            fit_scorer(detector, data)
        notes += [str(warning.message) for warning in caught]
        seconds["fit_scorer"] = time.perf_counter() - start
    scored = score_test_set(detector, data)
    if scored is None:
        one = detector.score_all(to_float(data.train[[0]].images.to(detector.device)))
        check_finite({name: values.cpu().numpy() for name, values in one.items()})
    if rank() == 0 and not already_fitted:
        # Not before its scores are known to be numbers.
        checkpoint.save(folder / DETECTOR_FILE, detector, config, data.describe())
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
    aurocs: dict[str, float | None]
    if scored is not None:
        write_scores(folder, scored, data)
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
    parts = {name for name in aurocs if name.removesuffix("_ens") in PARTS}
    ranking = [name for name in aurocs if name not in parts and name != RawPixels.primary]
    seconds["total"] = sum(seconds.values())
    trained_images = trained_iterations * data.batch_size
    images_per_second = {}
    if seconds.get("train"):
        images_per_second["train"] = trained_images / seconds["train"]
    if scored is not None:
        images_per_second["score"] = len(scored.names) / scored.seconds
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
        notes=notes,
    )
    pictures = folder / FIGURES_FOLDER
    if scored is not None:
        draw(pictures, scored, result, data)
    if detector.generates:
        generation.draw_generator(pictures, detector, data)
    if any(len(point) > 1 for point in losses):  # some phase ran before the end
        title = f"{result.dataset}, normal: {result.normal_class}, {result.ablation}: losses"
        figures.save(figures.losses(losses, title), pictures / "losses.png")
    log(result)
    result.write(folder)
    return result


def write_scores(folder: Path, scored: TestScores, data: OneClassData) -> None:
    """One row a test image: its name, class, whether it is anomalous, every score and part."""
    columns: dict[str, Any] = {
        "name": scored.names,
        "class": [data.class_names[label] for label in scored.labels],
        "anomalous": scored.anomalous.astype(int).tolist(),
    }
    write_csv(folder / SCORES_FILE, columns | {name: v.tolist() for name, v in scored.scores.items()})


def draw(folder: Path, scored: TestScores, result: RunResult, data: OneClassData) -> None:
    """ROC, score histogram by class, and the images at both ends of the ranking."""
    assert data.test is not None
    primary = scored.scores[result.primary]
    title = f"{result.dataset}, normal: {result.normal_class}"
    if result.auroc_absent_because is None:
        aurocs = scored.aurocs()
        shown = [*_ranked(result), RawPixels.primary]
        figure = figures.roc({name: scored.scores[name] for name in shown}, aurocs, scored.anomalous, title)
        figures.save(figure, folder / "roc.png")
    figure = figures.histogram(primary, scored.labels, data.class_names, data.normal_index, title)
    figures.save(figure, folder / "scores_by_class.png")
    ranked = np.argsort(-primary, kind="stable")
    ends = {"most_anomalous": ranked[:32], "least_anomalous": ranked[::-1][:32]}
    for name, rows in ends.items():
        images = data.test[rows.tolist()].images.cpu().numpy()
        captions = [f"{data.class_names[scored.labels[row]]}\n{primary[row]:.3f}" for row in rows]
        heading = f"{title}: {name.replace('_', ' ')} test images (red: anomalous)"
        figure = figures.gallery(images, captions, scored.anomalous[rows].tolist(), heading)
        figures.save(figure, folder / f"{name}.png")


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
    if result.generator is not None:
        floor = result.generator["floor"] or {}
        lines.append("synthetic images (beside: real test images of the class)")
        for name, value in result.generator["generated"].items():
            beside = f"  ({floor[name]:.3g})" if floor.get(name) is not None else ""
            lines.append(f"  {name:<30} {'absent' if value is None else format(value, '.3g')}{beside}")
    lines += [f"note: {note}" for note in result.notes]
    lines += [
        f"pictures:  {folder / FIGURES_FOLDER}" if (folder / FIGURES_FOLDER).exists() else "",
        f"results:   {folder / RESULT_FILE}",
        f"detector:  {folder / DETECTOR_FILE}" if (folder / DETECTOR_FILE).exists() else "",
    ]
    return "\n".join(line for line in lines if line)
