"""What a program may hand over as images -> the tensors that image files become."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeGuard, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from anomaly_gan.data.decode import CorruptImage, decode, decode_content, reason, to_tensor
from anomaly_gan.errors import UserError

OneImage = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Tensor
"""A path, what a file holds (bytes), a PIL image, a numpy array [H, W] or [H, W, C], or a torch tensor
[C, H, W]; C = 1, 3 or 4 (alpha). Arrays and tensors hold uint8, or floats in [0, 1]."""

ManyImages = OneImage | Iterable[Any]
"""One image, a batch of them as an array [N, H, W, C] or a tensor [N, C, H, W], or any sequence of these,
mixed."""

Read = UInt8[Tensor, "channels height width"] | CorruptImage
"""An image as the detector sees it, or why it could not be read."""

ACCEPTED = (
    "accepted: paths, contents of files (bytes), PIL images, numpy arrays [H, W], [H, W, C] or [N, H, W, C], "
    "torch tensors [C, H, W] or [N, C, H, W], of uint8 or of floats in [0, 1], C = 1, 3 or 4, and sequences "
    "of these"
)

PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Number of channels of an array -> PIL mode."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def separate(images: Any) -> Iterator[OneImage]:
    """The images of `images` one by one, in order; what is iterable is iterated as it is asked for.

    Raises:
        UserError: something that is no image, or an array whose shape fits none.
    """
    if isinstance(images, str | os.PathLike | bytes | Image.Image):
        yield images
    elif isinstance(images, np.ndarray) and images.dtype.kind in "UO" and images.ndim == 1:
        for image in images.tolist():
            yield from separate(image)
    elif isinstance(images, np.ndarray | Tensor):
        of_one = (2, 3) if isinstance(images, np.ndarray) else (3,)
        if images.ndim == 4:
            yield from images
        elif images.ndim in of_one:
            yield images
        else:
            raise UserError(f"{_said(images)} is no image; {ACCEPTED}")
    elif isinstance(images, Iterable) and not isinstance(images, dict):
        for image in images:
            yield from separate(image)
    else:
        raise UserError(f"an object of type {type(images).__name__} is no image; {ACCEPTED}")


def read(
    image: OneImage, image_size: int, channels: int, resize: str, bits: int = 16
) -> UInt8[Tensor, "{channels} {image_size} {image_size}"]:
    """Any one image as `decode.decode` reads a file; the other arguments are those of `decode.to_tensor`.

    The array of a file's pixels gives what the file gives, to the bit. Floats are rounded to 8 bits.

    Raises:
        CorruptImage: a file or its content cannot be read, or a PIL image that was opened from one.
        UserError: shape, type or range of an array is none of an image.
    """
    if isinstance(image, str | os.PathLike):
        return decode(os.fspath(image), image_size, channels, resize, bits)
    if isinstance(image, bytes):
        return decode_content(image, image_size, channels, resize, bits)
    if isinstance(image, np.ndarray | Tensor):
        return to_tensor(to_pil(image), image_size, channels, resize)
    try:
        return to_tensor(image, image_size, channels, resize, bits)
    except Exception as error:  # PIL opens lazily: here its decoders meet arbitrary bytes, or a closed file
        raise unreadable(image, error) from error


def unreadable(image: Image.Image, error: Exception) -> CorruptImage:
    """What to say of a PIL image that met `error` when its pixels were asked for."""
    name = getattr(image, "filename", "")
    closed = isinstance(error, AssertionError) or "closed file" in str(error)
    why = "its file is closed: load() it before" if closed else reason(name, error)
    return CorruptImage(f"{name or 'a PIL image'}: not a readable image ({why})")


def is_path(image: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Whether an image is given by the path of its file."""
    return isinstance(image, str | os.PathLike)


def to_pil(image: np.ndarray | Tensor) -> Image.Image:
    """An array or a tensor of one image (`OneImage`) in mode L, RGB or RGBA; floats are rounded to 8 bits.

    Raises:
        UserError: shape, type or range is none of an image.
    """
    if isinstance(image, Tensor):
        tensor = image.detach().cpu()
        pixels = (tensor.float() if tensor.is_floating_point() else tensor).permute(1, 2, 0).numpy()
    else:
        pixels = image[:, :, None] if image.ndim == 2 else image
    if pixels.shape[2] not in PIL_MODES or 0 in pixels.shape:
        hint = "; a batch of grey images is [N, H, W, 1]" if isinstance(image, np.ndarray) else ""
        raise UserError(f"{_said(image)} is no image{hint}; {ACCEPTED}")
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # written so that NaN fails too
            raise UserError(f"{_said(image)} has values from {low:g} to {high:g}; {ACCEPTED}")
        pixels = np.round(pixels.astype(np.float32) * 255).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise UserError(f"{_said(image)} is no image; {ACCEPTED}")
    if pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def read_batches(images: ManyImages, batch_size: int, **form: Any) -> Iterator[list[tuple[Any, Read]]]:
    """Batches of (path, what `read` makes of it); something else stands where an image has no path.

    Paths and contents of files are read ahead by threads. Every other image is read in the moment it is
    drawn, for who yields images may fill the same array or PIL image anew for the next one, or close its
    file: what is read later, or in another thread, has other pixels.

    Args:
        images: any.
        batch_size: images a batch, at least 1.
        **form: arguments of `read`.

    Raises:
        UserError: something that cannot be taken for an image, after all that came before it.
    """

    def try_read(image: OneImage) -> Read:
        try:
            return read(image, **form)
        except CorruptImage as corrupt:
            return corrupt

    def is_file(image: Any) -> bool:
        return is_path(image) or isinstance(image, bytes)

    drawn = (image if is_file(image) else try_read(image) for image in separate(images))
    return read_ahead(drawn, lambda image: try_read(image) if is_file(image) else image, batch_size)


def _said(image: np.ndarray | Tensor) -> str:
    kind = "an array" if isinstance(image, np.ndarray) else "a tensor"
    return f"{kind} of shape {list(image.shape)} and type {str(image.dtype).removeprefix('torch.')}"


def read_ahead(
    items: Iterable[Item], function: Callable[[Item], Result], batch_size: int
) -> Iterator[list[tuple[Item, Result]]]:
    """Batches of items with what `function` makes of each, in order, by threads that work two batches ahead.

    So files are decoded while the batch before is scored, and however many there are, few are held. What
    goes wrong in `items` is raised when all that came before has been handed out.
    """
    threads = os.cpu_count() or 1
    # A task of several files, because small ones decode in less time than a task takes to hand over.
    group = max(1, min(16, batch_size // threads))

    def work(of_group: list[Item]) -> list[tuple[Item, Result]]:
        return [(item, function(item)) for item in of_group]

    remaining = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read_ahead")
    waiting: deque[Future[list[tuple[Item, Result]]]] = deque()
    ready: list[tuple[Item, Result]] = []
    failure: Exception | None = None

    def draw() -> list[Item]:
        nonlocal failure
        of_group = []
        try:
            for item in islice(remaining, 0 if failure else group):
                of_group.append(item)  # those before a failure count
        except Exception as error:
            failure = error
        return of_group

    def refill() -> None:
        while len(waiting) * group < 2 * batch_size and (of_group := draw()):
            waiting.append(pool.submit(work, of_group))

    try:
        refill()
        while waiting:
            ready += waiting.popleft().result()
            refill()
            if len(ready) >= batch_size or not waiting:
                yield ready[:batch_size]
                ready = ready[batch_size:]
        if ready:
            yield ready
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
