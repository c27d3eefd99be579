"""Image files and PIL images of any kind -> uint8 tensors of one size, for training and prediction alike."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from anomaly_gan.errors import UserError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""PIL's names of the accepted formats. PIL knows others, some of which start programs (EPS)."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jfif", ".jpe")
"""Lower-case suffixes of files taken for images."""

MODES = {1: "L", 3: "RGB"}
"""Number of channels -> PIL mode."""

MOST_PIXELS = 89_478_485
"""Of one image: a quarter of a gigabyte in RGB. PIL warns from there on, and refuses at twice as many."""

TOO_LARGE = f"it claims more than {MOST_PIXELS:,} pixels; shrink it"

warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata, and of pixels: see above

ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held."""


Result = TypeVar("Result")


class CorruptImage(UserError):  # noqa: N818
    """A file that cannot be read as an image; the message names it."""


def decode(
    path: str | Path, image_size: int, channels: int, resize: str, bits: int = 16
) -> UInt8[Tensor, "{channels} {image_size} {image_size}"]:
    """Read an image file; the arguments are those of `to_tensor`.

    Raises:
        CorruptImage: the file is missing, no regular one, empty, truncated, holds no image that can be used,
            or claims more than MOST_PIXELS; what it claims is looked at before anything is decoded.
    """
    return _read(path, lambda image: to_tensor(image, image_size, channels, resize, bits))


def picture(path: str | Path, bits: int = 16) -> Image.Image:
    """An image file as people see it: in its own resolution, upright, in mode L or RGB.

    Args:
        path: of the file.
        bits: how many bits of a 16-bit image its camera uses.

    Raises:
        CorruptImage: see `decode`.
    """
    return _read(path, lambda image: eight_bit(image, bits))


def _read(path: str | Path, made: Callable[[Image.Image], Result]) -> Result:
    """What `made` makes of an image file, once that is known to be safe to decode."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # whoever opens a pipe waits for its other end
            raise UserError("no regular file")
        return _made(path, made)
    except Exception as error:  # decoders fed arbitrary bytes raise nearly anything
        raise CorruptImage(f"{path}: not a readable image ({reason(path, error)})") from error


def decode_content(
    content: bytes, image_size: int, channels: int, resize: str, bits: int = 16
) -> UInt8[Tensor, "{channels} {image_size} {image_size}"]:
    """What `decode` makes of a file that holds `content`.

    Raises:
        CorruptImage: as `decode` does.
    """
    try:
        if not content:
            raise UserError("the file is empty")
        return _made(io.BytesIO(content), lambda image: to_tensor(image, image_size, channels, resize, bits))
    except Exception as error:  # decoders fed arbitrary bytes raise nearly anything
        raise CorruptImage(f"not a readable image ({reason('', error)})") from error


def _made(file: str | Path | io.BytesIO, made: Callable[[Image.Image], Result]) -> Result:
    with Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise UserError(TOO_LARGE)
        image.load()
        return made(image)


def claimed_pixels(content: bytes) -> int:
    """How many pixels, at least, a file of `content` claims to have, 0 if it is no image; none is decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        return 2 * MOST_PIXELS
    except Exception:  # decoders fed arbitrary bytes raise nearly anything
        return 0


def highest_value(path: Path) -> float:
    """The highest value of a grey image file's pixels, in its own units; 0 where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return float(np.asarray(image).max())
    except Exception:  # decoders fed arbitrary bytes raise nearly anything
        return 0.0


def to_tensor(
    image: Image.Image, image_size: int, channels: int, resize: str, bits: int = 16
) -> UInt8[Tensor, "{channels} {image_size} {image_size}"]:
    """Convert a PIL image of any mode and size.

    EXIF orientation is applied; transparency is composited on white; 16-bit values are scaled by the full
    range of `bits` (65535 -> 255 with 16 of them), never by what one image happens to hold.

    Args:
        image: left as it is.
        image_size: side of the square result, pixels.
        channels: 1 (grey) or 3 (RGB).
        resize: "stretch", "crop" or "pad"; see RESIZERS.
        bits: how many bits of a 16-bit image its camera uses: 12 makes 4095 white.

    Returns:
        uint8 [channels, image_size, image_size], 0..255.

    Raises:
        UserError: pixels whose scale is unknown (32-bit values beyond 16 bits, fractions).
    """
    image = eight_bit(image, bits)
    if image.mode != MODES[channels]:
        image = image.convert(MODES[channels])
    if image.size != (image_size, image_size) or resize == "crop":
        image = RESIZERS[resize](image, image_size)
    pixels = np.array(image).reshape(image_size, image_size, channels)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def eight_bit(image: Image.Image, bits: int = 16) -> Image.Image:
    """A PIL image of any mode -> the same upright, in mode L or RGB; see `to_tensor`, whose first step it is.

    Raises:
        UserError: pixels whose scale is unknown.
    """
    image = _upright(image)
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _from_sixteen_bit(image, bits)
    if image.mode == "La":  # premultiplied; PIL converts it to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _stretch(image: Image.Image, side: int) -> Image.Image:
    """The whole image squeezed to the square."""
    return image.resize((side, side), Image.Resampling.BILINEAR)


def _crop(image: Image.Image, side: int) -> Image.Image:
    """The central square of 224/256 of the short side, ImageNet's way, in one step.

    One step, because scaling the whole of a very long image first can take any amount of memory.
    """
    return image.resize((side, side), Image.Resampling.BILINEAR, box=_central(image.size))


def _central(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what `_crop` keeps, pixels."""
    width, height = size
    kept = min(width, height) * 224 / 256
    left, top = (width - kept) / 2, (height - kept) / 2
    return left, top, left + kept, top + kept


def _pad(image: Image.Image, side: int) -> Image.Image:
    """The image as it is in the middle of a black square; shrunk only if it does not fit."""
    if max(image.size) > side:
        image = image.resize(_shrunk(image.size, side), Image.Resampling.BILINEAR)
    square = Image.new(image.mode, (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _shrunk(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The largest size of the same proportions that fits into a square, but none larger than `size`."""
    scale = min(1.0, side / max(size))
    width, height = (max(1, round(length * scale)) for length in size)
    return width, height


RESIZERS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "stretch": _stretch,
    "crop": _crop,
    "pad": _pad,
}
"""How an image becomes a square."""


def place_in_picture(size: tuple[int, int], side: int, resize: str) -> tuple[float, float, float, float]:
    """Where in a picture the square lies that `RESIZERS` makes of it.

    Args:
        size: width and height of the picture, pixels.
        side: of the square, pixels.
        resize: how it was made.

    Returns:
        left, top, width and height of the square, in shares of the picture's width and height; beyond [0, 1]
        where the square is the larger one.
    """
    width, height = size
    if resize == "stretch":
        return 0.0, 0.0, 1.0, 1.0
    if resize == "crop":
        left, top, right, bottom = _central(size)
        return left / width, top / height, (right - left) / width, (bottom - top) / height
    inner_width, inner_height = _shrunk(size, side)
    left, top = -((side - inner_width) // 2), -((side - inner_height) // 2)
    return left / inner_width, top / inner_height, side / inner_width, side / inner_height


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata around intact pixels
        return image
    # exif_transpose copies even where there is nothing to do.
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _from_sixteen_bit(image: Image.Image, bits: int) -> Image.Image:
    values, white = np.asarray(image), 2**bits - 1
    low, high = values.min(), values.max()
    if white < high <= 65535:
        raise UserError(f"values up to {high:g} take more than {bits} bits: set data.bits higher")
    # Written so that NaN fails too. Floats up to 1 or 255 would come out black: their scale is not 16-bit.
    readable = low >= 0 and high <= 65535 and not (image.mode == "F" and 0 < high <= 255)
    if not readable:
        raise UserError(
            f"values from {low:g} to {high:g} in mode {image.mode} are not on the 16-bit scale 0..65535; "
            "save it with 8 or 16 bits"
        )
    return Image.fromarray(np.round(values / np.float32(white / 255)).astype(np.uint8))


def reason(path: str | Path, error: Exception) -> str:
    """Why an image cannot be read, by what its decoder raised; `path` of its file, "" where there is none."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return TOO_LARGE
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"neither {', '.join(FORMATS[:-1])} nor {FORMATS[-1]}"
    return " ".join(str(error).split()) or type(error).__name__
