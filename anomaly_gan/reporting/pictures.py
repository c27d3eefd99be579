"""Pictures of runs, made small enough that a page can carry them all."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

WIDEST = 1000
"""Pixels."""

QUALITY = 65
"""Of WebP, of 100."""


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
                return base64.b64encode(shrink(image, share)).decode()
        except (OSError, ValueError, Image.DecompressionBombError):
            return None

    with ThreadPoolExecutor(threads) as pool:  # Pillow's own work lets other threads run
        return list(pool.map(one, paths))


def shrink(image: Image.Image, most: int) -> bytes:
    """`image` as WebP of at most `most` bytes, as large as that allows, and 32 pixels wide at the least."""
    picture = image.convert("RGB")
    if picture.width > WIDEST:
        picture.thumbnail((WIDEST, WIDEST * 4))
    while True:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=QUALITY, method=1)
        if file.tell() <= most or picture.width <= 32:
            return file.getvalue()
        scale = min(0.9, (most / file.tell()) ** 0.5)
        picture.thumbnail((max(32, int(picture.width * scale)), max(32, int(picture.height * scale))))
