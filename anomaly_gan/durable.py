"""Files that are there whole or not at all, whatever ends the process or the machine."""

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from anomaly_gan.names import LONGEST, end_in_bytes

PARTIAL = ".partial"
"""How the name of a file ends that is still being written; its first character is a dot."""


@contextmanager
def replacing(path: Path, before: Path | None = None) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well, and is removed when it does not.

    What is renamed has reached the disk, and so has the renaming when this returns.

    Args:
        path: of the file; its folder exists.
        before: where the file that is at `path` now goes; None: it is given up. In between there is a moment
            in which only `before` is there.

    Raises:
        OSError: it cannot be written (a full disk, say); the error names `path`.
    """
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=prefix_beside(path), suffix=PARTIAL, delete=False
        ) as file:
            try:
                yield file  # type: ignore[misc]  # a wrapper of the file
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                if before is not None and path.exists():
                    os.replace(path, before)
                os.replace(file.name, path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        sync_folder(path.parent)
    except OSError as error:
        if error.strerror is None:  # not from the file system
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing_text(path: Path) -> Iterator[TextIO]:
    """As `replacing`, for text; what of a file's name is no text is written as its code."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        try:
            yield text
            text.flush()
        finally:
            text.detach()


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be made, before the long work that it is to hold.

    Raises:
        OSError: its folder is not there or cannot be written, it is a folder itself, or its name is too long;
            the error names `path`.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def prefix_beside(path: Path) -> str:
    """How the name of a temporary file or folder beside `path` begins; with as much of its name as fits."""
    drawn = 8  # letters, by `tempfile`
    return f".{end_in_bytes(path.name, LONGEST - len('..') - drawn - len(PARTIAL))}."


def remove_partial(folder: Path) -> None:
    """Take away what killed processes have left half-written under `folder`; nobody may be writing there."""
    for left in folder.rglob(f".*{PARTIAL}"):
        left.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names of the files in `folder` reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems know no such thing
    finally:
        os.close(descriptor)
