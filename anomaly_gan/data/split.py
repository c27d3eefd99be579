"""Which class is normal, and which of its images are held out, for what."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.randomness import make_rng
from anomaly_gan.types import Labels


class Split(NamedTuple):
    """Normal images of three kinds, by their indices, in ascending order."""

    trained_on: Int64[Tensor, " trained_on"]
    calibrating: Int64[Tensor, " calibrating"]
    validating: Int64[Tensor, " validating"]
    copies: int
    """How many images are exact copies of an earlier one."""
    left_out: int
    """How many of them are of no kind."""


def check_fractions(calibration: float | int, validation: float | int) -> None:
    """Raises UserError where these parts of the normal images cannot be held out, and some be left."""
    for name, part in (("calibration", calibration), ("validation", validation)):
        if not 0 <= part < 1:
            raise UserError(f"data.{name}_fraction={part} must be at least 0 and below 1")
    if calibration + validation >= 1:
        raise UserError(
            f"data.calibration_fraction={calibration} and data.validation_fraction={validation} "
            "must be below 1 together"
        )


def hold_out(
    first: Labels, group: Labels, calibrating: float | int, validating: float | int, seed: int
) -> Split:
    """Hold two parts of the normal images out: one for thresholds, one to choose by.

    Exact copies of an image stay on one side: a held-out image that was trained on would look more normal
    than a new one, and break what the threshold promises. It is held out once; its copies are left out.
    For the same reason what is chosen by (a method, its settings) gives no threshold. Which images
    calibrate does not depend on how many validate.

    Args:
        first: for each of N images the first that is exactly like it, [N].
        group: for each of them the index of one that must lie on the same side, [N].
        calibrating: how much is held out for thresholds, in [0, 1).
        validating: how much is held out to choose by, in [0, 1); below 1 with the other.
        seed: of the draw.
    """
    distinct = first.unique()
    groups, sizes = group[distinct].unique(return_counts=True)
    order = torch.randperm(len(groups), generator=make_rng("cpu", seed, "calibration"))[:-1]
    before = sizes[order].cumsum(0) - sizes[order]
    ends = [round(part * len(distinct)) for part in (calibrating, calibrating + validating)]
    to_calibrate = groups[order[before < ends[0]]]
    to_validate = groups[order[(before >= ends[0]) & (before < ends[1])]]
    calibrates = distinct[torch.isin(group[distinct], to_calibrate)]
    validates = distinct[torch.isin(group[distinct], to_validate)]
    trained_on = (~torch.isin(group, torch.cat([to_calibrate, to_validate]))).nonzero().flatten()
    left_out = len(first) - len(trained_on) - len(calibrates) - len(validates)
    return Split(trained_on, calibrates, validates, len(first) - len(distinct), left_out)


def likely_group(names: Sequence[str]) -> str | None:
    """A regular expression for what file names have in common that look like pictures of one object.

    Such names begin with the same word and a number, then a separator: `tile07_shot1.jpg`. There must be
    three numbers or more and, on average, two files or more of each; None where it is not so.
    """
    starts = [re.match(r"([A-Za-z]+)\d+(?=[ _.-]\w)", Path(name).stem) for name in names]
    found = [start for start in starts if start is not None]
    if not found or len(found) < len(names) or len({start[1] for start in found}) > 1:
        return None
    objects = len({start[0] for start in found})
    return rf"{found[0][1]}\d+" if 3 <= objects <= len(names) / 2 else None


def class_index(wanted: int | str, class_names: tuple[str, ...], dataset: str) -> int:
    """The index of a class given by name, else by index.

    Raises:
        UserError: there is no such class.
    """
    word = str(wanted)
    if word in class_names:
        return class_names.index(word)
    if word.isdecimal() and int(word) < len(class_names):
        return int(word)
    # nearest() may list the classes itself.
    hints = dict.fromkeys((nearest(word, class_names), f"valid: {', '.join(class_names)}"))
    raise UserError(
        f"normal_class={wanted} is no class of {dataset}: {' '.join(hints)} "
        f"(or an index 0..{len(class_names) - 1})"
    )
