"""Images that a program hands over, as a folder that a training can learn from, now and when it goes on."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from anomaly_gan.data.decode import SUFFIXES, eight_bit
from anomaly_gan.data.inputs import ManyImages, is_path, separate, to_pil, unreadable
from anomaly_gan.errors import UserError
from anomaly_gan.names import LONGEST, end_in_bytes

NAME = "images"
"""Of a new folder, after which the data set is called."""


def laid_out(images: ManyImages, place: Path, bits: int = 16) -> Path:
    """The folder of `images`: the one that they are, or a new one in `place`.

    Files that were given by path become links, contents of files become files; every other image is a PNG
    file of its pixels, from which a detector reads what it would read from the image itself, to the bit. The
    same images in the same order give the same folder, so that `resume=auto` finds the training that they
    were for.

    Args:
        images: the path of a folder, or any images (`inputs.ManyImages`).
        place: where new folders go; it is made where it is needed.
        bits: how many bits of a 16-bit image its camera uses; see `decode.to_tensor`.

    Raises:
        UserError: there are no images, or something is none or cannot be read.
    """
    if is_path(images) and not os.path.isfile(os.path.expanduser(images)):
        return Path(images).expanduser()  # where there is none, the training says so
    place.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=place, prefix=".", suffix=".partial"))
    try:
        (partial / NAME).mkdir()
        digest = hashlib.sha256()
        count = 0
        for count, image in enumerate(separate(images), 1):
            digest.update(_put(image, partial / NAME, count - 1, bits))
        if not count:
            raise UserError("no images to learn from; give a folder, or images of what is normal")
        folder = place / digest.hexdigest()[:12]
        partial.chmod(0o755)  # it was made for nobody else's eyes
        try:
            os.rename(partial, folder)
        except OSError:
            if not folder.exists():  # from before, or by another thread meanwhile
                raise
        return folder / NAME
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put(image: Any, folder: Path, index: int, bits: int) -> bytes:
    """Put an image into `folder`; what tells it from others."""
    start = f"{index:06d}"
    if is_path(image):
        path = Path(os.path.abspath(os.path.expanduser(image)))
        if path.is_dir():
            raise UserError(f"{path}: a folder among images; give it alone, or the paths of its images")
        # Files are read by what they hold, but found by their suffix.
        suffix = path.suffix if path.suffix.lower() in SUFFIXES else f"{path.suffix}.png"
        name = end_in_bytes(path.stem, LONGEST - len(os.fsencode(f"{start}_{suffix}")))
        (folder / f"{start}_{name}{suffix}").symlink_to(path)
        return b"path" + os.fsencode(path) + b"\0"
    if isinstance(image, bytes):  # read by what it holds, whatever its name
        (folder / f"{start}.png").write_bytes(image)
        return b"content" + hashlib.sha256(image).digest()
    try:
        pixels = eight_bit(image if isinstance(image, Image.Image) else to_pil(image), bits)
        pixels.load()
    except Exception as error:  # as in `inputs.read`
        if not isinstance(image, Image.Image):
            raise
        raise unreadable(image, error) from error
    pixels.save(folder / f"{start}.png", compress_level=1)
    return f"{pixels.mode}{pixels.size}".encode() + pixels.tobytes()
