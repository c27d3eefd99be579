"""The pictures of a finished run."""

import numpy as np

from anomaly_gan import generation
from anomaly_gan.data.module import OneClassData
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.evaluation import Scored
from anomaly_gan.explanation import explain, images_an_explanation
from anomaly_gan.reporting import explanations, figures
from anomaly_gan.results import RunResult
from anomaly_gan.runs.parts import Found, Run, Training
from anomaly_gan.runs.record import ranked
from anomaly_gan.scoring.base import Scorer
from anomaly_gan.scoring.calibration import Threshold
from anomaly_gan.scoring.raw_pixels import RawPixels

EXPLAINED = 4
"""Images explained at each end of the ranking."""

SECONDS_TO_EXPLAIN = 10.0
"""Beyond which a run explains none, and says so: `predict explain=10` does it for whoever wants to wait."""


def draw(run: Run, training: Training, found: Found, result: RunResult, normal: NormalImages | None) -> None:
    """Draw all that there is to be seen of a run.

    Args:
        run: whose pictures go into its folder.
        training: of the run.
        found: at its end.
        result: of the run.
        normal: what is shown as the neighbours of images explained; None: a file from before it was kept.
    """
    if found.shown is not None:
        draw_scores(run, found.shown, result)
        if found.unexplained is None:
            draw_explanations(run, found.shown, found.threshold, normal)
    if run.scorer.generates:
        generation.draw_generator(run.pictures, run.scorer, run.data)
    if any(len(point) > 1 for point in training.losses):  # some phase ran before the end
        title = f"{run.title}, {result.method}: losses"
        figures.save(figures.losses(training.losses, title), run.pictures / "losses.png")


def draw_scores(run: Run, scored: Scored, result: RunResult) -> None:
    """ROC where both kinds were tested, score histogram by class, the images at both ends of the ranking."""
    data, primary = run.data, scored.scores[result.primary]
    if scored.what == "test" and result.auroc_absent_because is None:
        shown = {name: scored.scores[name] for name in dict.fromkeys((*ranked(result), RawPixels.primary))}
        figure = figures.roc(shown, scored.aurocs(), scored.anomalous, run.title)
        figures.save(figure, run.pictures / "roc.png")
    title = f"{run.title}: {scored.what} images"
    line = None if result.calibration is None else result.calibration["threshold"]
    figure = figures.histogram(primary, scored.labels, data.class_names, data.normal_index, title, line)
    figures.save(figure, run.pictures / "scores_by_class.png")
    rows = np.argsort(-primary, kind="stable")
    draw_gallery(run, scored, "most_anomalous", rows[:32].tolist())
    draw_gallery(run, scored, "least_anomalous", rows[::-1][:32].tolist())


def draw_gallery(run: Run, scored: Scored, name: str, rows: list[int]) -> None:
    """The images in these rows, each with its name and primary score."""
    primary = scored.scores[run.scorer.primary]
    captions = [
        [scored.images.names[row], *_class_of(row, scored, run.data), f"{primary[row]:.3f}"] for row in rows
    ]
    red = " (red: anomalous)" if scored.anomalous.any() else ""
    title = f"{run.title}: {name.replace('_', ' ')} {scored.what} images{red}"
    images = scored.images[rows].images.cpu().numpy()
    figure = figures.gallery(images, captions, scored.anomalous[rows].tolist(), title)
    figures.save(figure, run.pictures / f"{name}.png")


def _class_of(row: int, scored: Scored, data: OneClassData) -> list[str]:
    """The class of an image, where it is not the same of all."""
    return [data.class_names[scored.labels[row]]] if scored.what == "test" else []


def why_not_explained(scored: Scored | None, scorer: Scorer) -> str | None:
    """What to say where explanations would take longer than SECONDS_TO_EXPLAIN; else None."""
    if scored is None:
        return None
    one = images_an_explanation(scorer) * scored.seconds / len(scored.images)
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
    run: Run, scored: Scored, threshold: Threshold | None, normal: NormalImages | None
) -> None:
    """Explain the images at both ends of the ranking."""
    rows = np.argsort(-scored.scores[run.scorer.primary], kind="stable").tolist()
    rows = rows[:EXPLAINED] + rows[max(EXPLAINED, len(rows) - EXPLAINED) :]
    images = scored.images[rows].images.to(run.scorer.device)
    names = [": ".join([*_class_of(row, scored, run.data), scored.images.names[row]]) for row in rows]
    explained = list(explain(run.scorer, images, names, threshold, normal))
    title = f"{run.title}: the most and the least anomalous"
    figures.save(explanations.sheet(explained, title), run.pictures / "explanation.png")
