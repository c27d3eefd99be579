"""Which picture a mask belongs to, and masks as they lie over the pictures that a detector sees."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from jaxtyping import Bool
from torch import Tensor

from anomaly_gan.data.decode import decode
from anomaly_gan.data.scan import MASK_OF


def masks_of(pictures: Iterable[str], masks: Iterable[str]) -> dict[str, str]:
    """The mask of each picture that has one; all are paths below one folder, with forward slashes.

    A mask has the name of its picture, or that with "_mask" behind it (MVTec AD, VisA, anomalib), whatever
    the suffix. Of several pictures of one name, each has the mask in a folder named like its own.
    """
    by_stem: dict[str, list[str]] = {}
    for mask in masks:
        stem = _stem(mask)
        match = MASK_OF.fullmatch(stem)
        by_stem.setdefault(match[1] if match else stem, []).append(mask)
    found, named = {}, list(pictures)
    alike = Counter(map(_stem, named))
    for picture in named:
        candidates = by_stem.get(_stem(picture), [])
        same_folder = [mask for mask in candidates if _folder(mask) == _folder(picture)]
        if len(same_folder) == 1:
            found[picture] = same_folder[0]
        elif len(candidates) == 1 and alike[_stem(picture)] == 1:
            found[picture] = candidates[0]
    return found


def read_mask(path: Path, side: int, resize: str) -> Bool[Tensor, "height width"]:
    """True where a mask, resized like its picture, is more than half white."""
    return decode(path, side, 1, resize)[0] > 127


def _stem(name: str) -> str:
    return os.path.splitext(name.rsplit("/", 1)[-1])[0]


def _folder(name: str) -> str:
    return name.rsplit("/", 2)[-2] if "/" in name else ""
