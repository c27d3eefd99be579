"""Files of tensors: written whole, and read though they may be damaged or come from anybody."""

import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from anomaly_gan.durable import replacing
from anomaly_gan.errors import UserError


def safe_save(path: Path, content: Any, before: Path | None = None) -> None:
    """Write what `safe_load` reads; see `durable.replacing`.

    Raises:
        OSError: it cannot be written; what was there before is as it was.
    """
    with replacing(path, before) as file:
        buffer = io.BytesIO()  # torch has its own words for a full disk
        torch.save(content, buffer)
        file.write(buffer.getbuffer())


def safe_load(path: Path, complaint: str) -> Any:
    """What torch.save wrote at `path`, on the CPU. Nothing in the file is executed.

    Args:
        path: of the file.
        complaint: the message where the file is cut short, damaged in any byte, or something else.

    Raises:
        UserError: with that message.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if any(tensor.nbytes > tensor.untyped_storage().nbytes() for tensor in _tensors(content)):
            raise ValueError("a tensor that repeats itself could be of any size")
        return content
    # What a file of other bytes comes to hangs on the bytes: the reader takes them for instructions.
    except (
        OSError,
        RuntimeError,  # with NotImplementedError and RecursionError
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        MemoryError,
        OverflowError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as damaged:
        raise UserError(complaint) from damaged


def _check_archive(path: Path) -> None:
    """Look at the checksums, which torch writes and does not read (2.15): a flipped bit passes.

    Nothing may be compressed, so that no file grows when it is read. A file in torch's old format has no
    checksums.

    Raises:
        ValueError, zipfile.BadZipFile: it is damaged, or not as torch writes it.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed")
        if archive.testzip() is not None:
            raise ValueError("a checksum does not fit")


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested containers."""
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:  # a container may hold itself
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)
