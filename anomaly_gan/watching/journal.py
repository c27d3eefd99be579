"""A file of rows that only grows: what has been written stays, whatever ends the process or the machine."""

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anomaly_gan.durable import sync_folder
from anomaly_gan.errors import UserError

Row = dict[str, Any]

KEYS = {"file", "modified", "size", "score", "p_value", "rank", "test", "detector"}
"""What a later process reads of a row."""

BEGINNING = b'{"file": '
"""Of every row."""


class Journal:
    """Rows of JSON, one a line, for one process at a time.

    The only state that there is: what a process goes on with is read from these rows. A row that a kill has
    cut off is taken away when they are read again.

    Args:
        path: of the file, ending in .jsonl; its folder exists. A new one is made where there is none.

    Raises:
        UserError: another process writes it.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        new = not path.exists()
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UserError(f"{path}: another process writes it; output=NAME chooses another") from error
        if new:
            sync_folder(path.parent)

    def rows(self) -> Iterator[Row]:
        """All whole rows, in order; what is left of one more, at the end, is taken away.

        Raises:
            UserError: a line that is no row: the file is of something else, or damaged.
        """
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
                if not line.endswith(b"\n") and _cut_off(line):
                    break
            if not isinstance(row, dict) or not row.keys() >= KEYS:
                raise UserError(
                    f"{self.path}: line {number} is no row of a watch; output=NAME chooses another file"
                )
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            yield row
        os.ftruncate(self._file.fileno(), whole)

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows; they have reached the disk when this returns.

        Raises:
            OSError: they cannot be written (a full disk, say): none of them is there then.
        """
        end = self._file.seek(0, os.SEEK_END)
        left = memoryview("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode())
        descriptor = self._file.fileno()
        try:
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, end)
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(self.path)) from error

    def close(self) -> None:
        """Let other processes have it."""
        self._file.close()


def _cut_off(line: bytes) -> bool:
    """Whether a last line without an end is what a kill, or zeros are what a lost power, left of a row."""
    written = line.rstrip(b"\0")
    return written.startswith(BEGINNING) or BEGINNING.startswith(written)
