"""Files of tensors: written whole, and read though they may be damaged or come from anybody."""

import errno
import io
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from anomaly_gan.durable import replacing
from anomaly_gan.errors import UserError

NAMES = re.compile(r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage")
"""What the pickles of weights name."""

PICKLES_OF_OLD_FORMAT = 5
"""Magic number, protocol, system, content, keys of the tensors."""


def safe_save(path: Path, content: Any, before: Path | None = None) -> None:
    """Write what `safe_load` reads; see `durable.replacing`.

    Raises:
        OSError: it cannot be written; what was there before is as it was.
    """
    with replacing(path, before) as file:
        buffer = io.BytesIO()  # torch has its own words for a full disk
        torch.save(content, buffer)
        file.write(buffer.getbuffer())


NOT_OF_THE_BYTES = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOMEM)
"""Errors of reading that say nothing of what a file holds: it is not called damaged for them."""


def safe_load(path: Path, complaint: str) -> Any:
    """What torch.save wrote at `path`, on the CPU. Nothing in the file is executed.

    Args:
        path: of the file.
        complaint: the message where the file is cut short, damaged in any byte, or something else.

    Raises:
        UserError: with that message.
        OSError: the file may be whole, but cannot be read.
        MemoryError: it does not fit.
    """
    try:
        _check(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if any(tensor.nbytes > tensor.untyped_storage().nbytes() for tensor in _tensors(content)):
            raise ValueError("a tensor that repeats itself could be of any size")
        return content
    except MemoryError:
        raise
    except OSError as error:
        if error.errno in NOT_OF_THE_BYTES:
            raise
        raise UserError(complaint) from error
    except Exception as damaged:  # what a file of other bytes comes to hangs on the bytes
        raise UserError(complaint) from damaged


def _check(path: Path) -> None:
    """Look at what torch does not (2.15): the checksums that it writes; whether a file asks for memory.

    A file in torch's old format has no checksums.

    Raises:
        Exception: it is damaged, or not as torch writes it.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            _check_names(file, PICKLES_OF_OLD_FORMAT)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len({entry.filename.lower() for entry in entries}) < len(entries):
            raise ValueError("two of one name: torch might read the other")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("compressed")
        if archive.testzip() is not None:
            raise ValueError("a checksum does not fit")
        for entry in entries:
            if entry.filename.lower().endswith(".pkl"):
                with archive.open(entry) as file:
                    _check_names(file, 1)


def _check_names(stream: Any, pickles: int) -> None:
    """Let only containers and tensors be made: torch also allows what makes any amount of memory."""
    for _ in range(pickles):
        for opcode, name, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL" and not NAMES.fullmatch(str(name)):
                raise ValueError(f"{name} is not of a file of weights")


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
