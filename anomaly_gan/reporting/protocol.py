"""How our figures came about, in a sentence, to be read beside published ones."""

from collections.abc import Iterable, Sequence
from typing import Any

from anomaly_gan.reporting.collect import Run
from anomaly_gan.results import RunResult


def protocol(runs: Sequence[Run]) -> str:
    """How long `runs` trained, on what and how large; "" where no result says it.

    A pass is as many images as the class has training images. The width is that of F's first stage, or what
    other networks' channels are in proportion to; 64 is the published networks'.
    """
    results = [run.result for run in runs]
    passes = [found for result in results if (found := _passes(result))]
    if not passes:
        return ""
    limits = [limit for result in results if (limit := _limit(result))]
    said = [f"{_range(passes, '.3g')} passes over a class's training images"]
    said += [f"at most {_range(limits, 'd')} of these learned from"] if limits else []
    widths = {width for result in results if (width := result.config.get("width"))}
    said += [f"networks of width {_range(widths, 'd')}"] if widths else []
    whole = [r for r in results if "calibration" in r.counts and not _limit(r)]
    held_out = [r.counts["calibration"] / _normal(r) for r in whole]
    said += [f"{_range([100 * part for part in held_out], '.0f')} % of these held out"] if held_out else []
    return (
        f"Ours: {', '.join(said)}. Published figures come after the lengths that their papers name (CSI:"
        " 1,000 passes), with networks of width 64 and nothing held out. The difference of two means is over"
        " the classes that both have."
    )


def _passes(result: RunResult) -> float | None:
    """How often a run saw each of the images that it learned from; None of what learns nothing in passes."""
    batch = result.config.get("batch_size")
    if not batch or not result.iterations or not result.counts.get("train"):
        return None
    return float(result.iterations * batch / result.counts["train"])


def _limit(result: RunResult) -> int | None:
    """How many training images it learned from at most; None: all that were not held out."""
    limit: int | None = result.config.get("data", {}).get("train_limit")
    return limit


def _normal(result: RunResult) -> int:
    return result.counts["train"] + result.counts["calibration"]


def _range(values: Iterable[Any], form: str) -> str:
    low, high = (format(end(values), form) for end in (min, max))
    return low if low == high else f"{low} to {high}"
