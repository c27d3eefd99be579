"""Which picture a mask belongs to, and masks as they lie over the pictures that a detector sees."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from anomaly_gan.data.decode import FORMATS, MOST_PIXELS, TOO_LARGE, CorruptImage, to_tensor
from anomaly_gan.data.scan import MASK_OF

HIGHEST_NUMBER = 127
"""The largest value of a mask that numbers its defects; of one that is drawn, white is more."""


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
    """Where a defect is, resized like its picture: true where more than half of a pixel is marked.

    A mask is white on black or transparent, or numbers the kinds of defects from 1 on (VisA). Of one that is
    too small for half a pixel anywhere, the pixels that have the most of it are true.

    Raises:
        CorruptImage: it cannot be read.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise CorruptImage(f"{path}: this mask is no file")
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise CorruptImage(f"{path}: {TOO_LARGE}")
            values = np.asarray(_on_black(image) if image.has_transparency_data else image)
        values = values.max(axis=2) if values.ndim == 3 else values
        highest = int(values.max())
    except CorruptImage:
        raise
    except Exception as damaged:  # PIL's decoders raise what they meet in arbitrary bytes
        raise CorruptImage(f"{path}: this mask cannot be read") from damaged
    marked = values > (highest / 2 if highest > HIGHEST_NUMBER else 0)
    share = to_tensor(Image.fromarray(marked.astype(np.uint8) * 255), side, 1, resize)[0]
    return share > min(127, max(int(share.max()) - 1, 0))


def _on_black(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA")).convert("RGB")


def _stem(name: str) -> str:
    return os.path.splitext(name.rsplit("/", 1)[-1])[0]


def _folder(name: str) -> str:
    return name.rsplit("/", 2)[-2] if "/" in name else ""
