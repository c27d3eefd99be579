"""The end of a run, in its order: fit, calibrate, score, measure, record, draw."""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace

from anomaly_gan import checkpoint, evaluation, generation
from anomaly_gan.data.normal_images import NormalImages
from anomaly_gan.distributed import rank
from anomaly_gan.metrics.auroc import bootstrap_interval
from anomaly_gan.metrics.generator import FeatureNetwork
from anomaly_gan.reporting import rates
from anomaly_gan.results import THRESHOLDS_FILE, RunResult
from anomaly_gan.runs.draw import draw, why_not_explained
from anomaly_gan.runs.parts import DETECTOR_FILE, Fitted, Found, Measured, Run, Tested, Training
from anomaly_gan.runs.record import record, thresholds_of, write_held_out, write_scores
from anomaly_gan.scoring.calibration import Calibration, Threshold
from anomaly_gan.scoring.raw_pixels import RawPixels
from anomaly_gan.transforms.convert import to_float
from anomaly_gan.validation import validate


def finish(
    run: Run,
    training: Training,
    *,
    fitted: Fitted | None = None,
    feature_network: FeatureNetwork | None = None,
    log: Callable[[RunResult], None] = lambda _: None,
) -> RunResult | None:
    """Fit the scorer, score held-out and test images; write detector, scores, pictures and `result.json`.

    Several processes score together; the first one writes, and the others get None.

    Args:
        run: what is finished.
        training: what it leaves beside the detector.
        fitted: of a detector that comes from a file; None: it is fitted here, and written to a file.
        feature_network: with whose features synthetic images are compared to real ones; None: they are not.
        log: what else is done with the result before it is written, which says that the run is finished.

    Raises:
        UserError: its scores are not numbers; nothing is written then.
    """
    is_new = fitted is None
    fitted = fitted or calibrate(run, fit(run))
    threshold = threshold_of(run, fitted.calibration)
    tested = score(run)
    if rank() == 0:
        data = run.data
        normal = fitted.normal  # of what the detector has learned, whatever data these are
        if is_new:
            normal = NormalImages.of(data.train.names, data.bank_loader(), data.channels, data.image_size)
            # Not before its scores are known to be numbers.
            file = run.folder / DETECTOR_FILE
            checkpoint.save(file, run.scorer, run.config, data.describe(), fitted.calibration, normal)
    tested = with_raw_pixels(run, tested)
    if rank() > 0:
        return None
    if fitted.held_out is not None:
        write_held_out(run, fitted.held_out)
    if tested.scored is not None:
        write_scores(run, tested.scored, threshold)
    entries = thresholds_of(run, tested.scored, threshold)
    if entries:
        rates.write(run.folder / THRESHOLDS_FILE, entries)
        rates.draw(run.pictures / "thresholds.png", entries, f"{run.title}: test images")
    measured = measure(run, tested, feature_network)
    shown = tested.scored or fitted.held_out
    found = Found(fitted, threshold, tested, measured, shown, why_not_explained(shown, run.scorer))
    result = record(run, training, found)
    draw(run, training, found, result, normal)
    log(result)
    result.write(run.folder)
    return result


def fit(run: Run) -> Fitted:
    """Fit the scorer; what it warns of is noted."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        evaluation.fit_scorer(run.scorer, run.data)
    notes = [str(warning.message) for warning in caught]
    return Fitted(seconds={"fit_scorer": time.perf_counter() - start}, notes=notes)


def calibrate(run: Run, fitted: Fitted) -> Fitted:
    """`fitted` with the scores of the held-out images, if there are any, and the calibration by them.

    Raises:
        UserError: a score is not a number.
    """
    held_out = evaluation.score_held_out(run.scorer, run.data)
    if held_out is None:
        return fitted
    start = time.perf_counter()
    calibration = evaluation.calibrate(run.scorer, held_out)
    seconds = {"calibrate": held_out.seconds + time.perf_counter() - start}
    return replace(fitted, calibration=calibration, held_out=held_out, seconds={**fitted.seconds, **seconds})


def threshold_of(run: Run, calibration: Calibration | None) -> Threshold | None:
    """The primary score's threshold for the rate asked for, or for the smallest that can be promised."""
    asked = run.rate_asked
    if calibration is None:
        return None
    return calibration.threshold(run.scorer.primary, calibration.possible_rate(asked))


def score(run: Run) -> Tested:
    """Score the test images; where there are none, one training image, so that the scores are checked.

    Raises:
        UserError: a score is not a number.
    """
    scorer, data = run.scorer, run.data
    scored = evaluation.score_test_set(scorer, data)
    if scored is not None:
        return Tested(list(scored.scores), scored, {"score": scored.seconds})
    one = scorer.scores(to_float(data.train[[0]].images.to(scorer.device)))
    evaluation.check_finite({name: values.cpu().numpy() for name, values in one.items()})
    return Tested(list(one))


def with_raw_pixels(run: Run, tested: Tested) -> Tested:
    """`tested` with the scores of the nearest neighbour on raw pixels, where there are test images."""
    if tested.scored is None or RawPixels.primary in tested.names:
        return tested
    form = {"image_size": run.data.image_size, "channels": run.data.channels}
    raw = RawPixels(**form).to(run.scorer.device)
    start = time.perf_counter()
    evaluation.fit_scorer(raw, run.data)
    raw_scored = evaluation.score_test_set(raw, run.data)
    assert raw_scored is not None
    seconds = {"raw_pixels": time.perf_counter() - start}
    scores = tested.scored.scores | raw_scored.scores
    return Tested(list(scores), replace(tested.scored, scores=scores), {**tested.seconds, **seconds})


def measure(run: Run, tested: Tested, feature_network: FeatureNetwork | None) -> Measured:
    """How good the scores and the generator are, and the validation where it is asked for."""
    scored = tested.scored
    aurocs: dict[str, float | None] = dict.fromkeys(tested.names)
    intervals = dict.fromkeys(tested.names)
    if scored is not None:
        aurocs = scored.aurocs()
        intervals = {name: bootstrap_interval(scored.scores[name], scored.anomalous) for name in aurocs}
    generator = None
    seconds = {}
    if run.scorer.generates and feature_network is not None:
        start = time.perf_counter()
        generator = generation.quality(run.scorer, run.data, feature_network)
        seconds["generator"] = time.perf_counter() - start
    validation = None
    if run.data.validation_fraction:
        validation = validate(run.scorer, run.data, run.config["seed"])
    localisation = None
    if scored is not None and run.scorer.scores_places:
        start = time.perf_counter()
        localisation = evaluation.localise(run.scorer, run.data, scored)
        seconds["localise"] = time.perf_counter() - start
    return Measured(aurocs, intervals, generator, validation, localisation, seconds)
