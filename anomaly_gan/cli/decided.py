"""What was decided of all images together: a line for the terminal, a sentence for the page."""

import math

from anomaly_gan.checkpoint import NO_CALIBRATION
from anomaly_gan.cli.tally import Tally
from anomaly_gan.inference import Detector
from anomaly_gan.reporting import wording
from anomaly_gan.scoring.calibration import Threshold, images_needed, smallest_rate

ENOUGH = 20
"""Images from which on it is said that too many are called anomalous."""


def in_a_line(found: Tally, detector: Detector, fdr: float | None) -> str:
    """How many images are called anomalous, and what that is worth.

    Args:
        found: of the images.
        detector: that scored them.
        fdr: the false discovery rate by which they were judged together; None: each alone.
    """
    threshold = detector.threshold
    if threshold is None:
        return f"no decisions: the detector has {NO_CALIBRATION}"
    called = f"{found.anomalous} called anomalous"
    if fdr is None:
        above = f"score above {threshold.value:.4f}"
        return f"{called}: {above}, which at most {threshold.rate:.2%} of normal images exceed"
    if found.anomalous or not found.scored:
        return (
            f"{called}: all images judged together, at most {fdr:.2%} of those called are normal, on average"
        )
    return f"{called}: {_why_none(found, threshold, fdr)}"


def in_words(found: Tally, detector: Detector, fdr: float | None) -> tuple[str, str]:
    """The same as a headline and a sentence, for those who look at pictures."""
    threshold = detector.threshold
    if not found.scored:
        return "No picture could be read", ""
    if threshold is None:
        return f"{found.scored:,} pictures, by their scores", wording.NO_THRESHOLD
    headline = wording.looks(found.anomalous, found.scored)
    if fdr is None:
        return headline, wording.promise(threshold.rate, len(threshold.held_out))
    if found.anomalous:
        return headline, wording.promise_together(fdr)
    return headline, f"They were judged together: {_why_none(found, threshold, fdr)}."


def doubt(found: Tally) -> str | None:
    """What to say where so many images are called anomalous that the promise is in doubt; None otherwise."""
    if found.scored < ENOUGH or found.anomalous <= found.scored / 2:
        return None
    return (
        "note: more than half are called anomalous. If most of them are good, the promise does not hold for "
        "them: train with good pictures taken as these were, and where several are of one object, with "
        "data.group, which keeps those on one side of the threshold"
    )


def _why_none(found: Tally, threshold: Threshold, fdr: float) -> str:
    """What it would take for any image to be called anomalous where all are judged together."""
    held_out = len(threshold.held_out)
    if smallest_rate(held_out) > fdr:
        return f"fdr={fdr:g} takes {images_needed(fdr)} held-out images at least; there are {held_out}"
    least = math.ceil(found.scored * smallest_rate(held_out) / fdr - 1e-9)  # 3 * 0.1 / 0.1 is above 3
    return f"at least {least} of these {found.scored} would have to score above all {held_out} held-out ones"
