"""Pictures made small enough that a page can carry them all: of runs, and those that were predicted on."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image

WIDEST = 1000
"""Pixels, of a run's pictures."""

LARGEST = 1600
"""Pixels a side of a picture that was predicted on, where it is opened."""

SMALL = 320
"""Pixels a side of the same in the list."""

QUALITY = 65
"""Of WebP, of 100."""

FINE = 85
"""The same of a picture that is opened to look for small defects."""

HEAT = (233, 30, 120)
"""Red, green and blue of what looks unusual: a colour that few products have."""

OPAQUE = 0.8
"""How much of a picture the strongest heat covers."""


@dataclass(frozen=True)
class Picture:
    """A picture in two sizes, each as WebP in base64."""

    width: int
    """Of the file, in pixels, as `height`."""
    height: int
    large: str
    small: str

    @classmethod
    def of(cls, image: Image.Image, most: int) -> "Picture":
        """From an image in mode L or RGB; both sizes together take at most `most` bytes, if that is possible.

        Up to `LARGEST` pixels a side it keeps its own resolution, where the bytes are enough for that.
        """
        room = int(most * 3 / 4)  # base64
        small = shrink(image, room // 5, (SMALL, SMALL))
        large = shrink(image, room - len(small), (LARGEST, LARGEST), FINE)
        return cls(*image.size, in_base64(large), in_base64(small))


def embed(paths: Sequence[Path], budget: int, threads: int = 2) -> list[str | None]:
    """Each picture as WebP, in base64; None where it cannot be read.

    Args:
        paths: of PNG files.
        budget: bytes for all together, in base64; each may take as much as any other.
        threads: that work beside each other.
    """
    if not paths:
        return []
    share = int(budget / len(paths) * 3 / 4)

    def one(path: Path) -> str | None:
        try:
            with Image.open(path) as image:
                image.load()
                return in_base64(shrink(image, share))
        except (OSError, ValueError, Image.DecompressionBombError):
            return None

    with ThreadPoolExecutor(threads) as pool:  # Pillow's own work lets other threads run
        return list(pool.map(one, paths))


def shrink(
    image: Image.Image, most: int, largest: tuple[int, int] = (WIDEST, 4 * WIDEST), quality: int = QUALITY
) -> bytes:
    """`image` as WebP of at most `most` bytes, as large as that allows, and 32 pixels wide at the least.

    Args:
        image: left as it is.
        most: bytes.
        largest: width and height, pixels.
        quality: of 100.
    """
    picture = image.convert("RGBA" if image.has_transparency_data else "RGB")
    picture.thumbnail(largest)
    while True:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality, method=1)
        if file.tell() <= most or picture.width <= 32:
            return file.getvalue()
        scale = min(0.9, (most / file.tell()) ** 0.5)
        picture.thumbnail((max(32, int(picture.width * scale)), max(32, int(picture.height * scale))))


def heat(scores: Float[ndarray, "height width"], threshold: float | None) -> str:
    """A map of scores as a layer to lie over its picture, WebP in base64: clear where it is normal.

    The colour is full at the picture's most unusual place, or at the threshold where no place reaches that,
    and clear up to the map's median.
    """
    low, high = float(np.median(scores)), float(scores.max())
    high = high if threshold is None else max(high, threshold)
    strength = ((scores - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(scores)
    layer = np.empty((*scores.shape, 4), np.uint8)
    layer[..., :3] = HEAT
    layer[..., 3] = np.round(255 * OPAQUE * strength**2)
    file = io.BytesIO()
    Image.fromarray(layer).save(file, "WEBP", quality=QUALITY, method=0, alpha_quality=QUALITY)
    return in_base64(file.getvalue())


def in_base64(data: bytes) -> str:
    """As it stands in a page."""
    return base64.b64encode(data).decode()
