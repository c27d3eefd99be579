"""Standard output and error that outlive their readers: after `| head`, or on a terminal that hangs up."""

import errno
import io
import os
import stat
import sys
from typing import Any


class _Descriptor(io.FileIO):
    """Writes to a descriptor; from when nobody reads there any more, what is written is dropped."""

    def __init__(self, number: int):
        super().__init__(number, "w", closefd=False)
        # A terminal that has hung up is none any more by isatty(); of a disk, EIO is another matter.
        may_hang_up = stat.S_ISCHR(os.fstat(number).st_mode)
        self.gone = (errno.EPIPE, errno.EIO) if may_hang_up else (errno.EPIPE,)

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in self.gone:
                raise
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(
            nothing, self.fileno()
        )  # also for libraries and new processes, which write there by themselves
        os.close(nothing)
        return super().write(data)


def outlive_readers() -> None:
    """From now on, what this process prints after its reader has gone is dropped, and raises nothing.

    Streams that a program has put in the place of Python's own stay as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        descriptor: Any = _Descriptor(stream.fileno())
        if isinstance(stream.buffer, io.BufferedWriter):  # which python -u has not
            descriptor = io.BufferedWriter(descriptor)
        outlives = io.TextIOWrapper(
            descriptor,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, outlives)
