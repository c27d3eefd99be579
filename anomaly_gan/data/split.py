"""Which class is normal, and which of its images are held out."""

from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from anomaly_gan.errors import UserError, nearest
from anomaly_gan.randomness import make_rng
from anomaly_gan.types import Labels


class Split(NamedTuple):
    """Normal images of two kinds, by their indices, in ascending order."""

    trained_on: Int64[Tensor, " trained_on"]
    held_out: Int64[Tensor, " held_out"]
    copies: int
    """How many images are exact copies of an earlier one."""
    left_out: int
    """How many of them are on neither side."""


def hold_out(first: Labels, group: Labels, fraction: float, seed: int) -> Split:
    """Hold a part of the normal images out.

    Exact copies of an image stay on one side: a held-out image that was trained on would look more normal
    than a new one, and break what the threshold promises. It is held out once; its copies are left out.

    Args:
        first: for each of N images the first that is exactly like it, [N].
        group: for each of them the index of one that must lie on the same side, [N].
        fraction: how much is held out, in (0, 1).
        seed: of the draw.
    """
    distinct = first.unique()
    groups, sizes = group[distinct].unique(return_counts=True)
    order = torch.randperm(len(groups), generator=make_rng("cpu", seed, "calibration"))[:-1]
    wanted = round(fraction * len(distinct))
    before = sizes[order].cumsum(0) - sizes[order]
    held_out = groups[order[before < wanted]]
    chosen = distinct[torch.isin(group[distinct], held_out)]
    trained_on = (~torch.isin(group, held_out)).nonzero().flatten()
    left_out = len(first) - len(trained_on) - len(chosen)
    return Split(trained_on, chosen, len(first) - len(distinct), left_out)


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
