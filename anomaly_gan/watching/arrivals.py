"""New pictures in a folder, each once it is whole.

By looking again and again. The system can tell of new files (inotify), but not of what other machines write
on a shared disk, not all of it in a burst, and nothing of what came while nobody watched: looking is needed
in any case, and is enough.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from anomaly_gan.data.scan import scan


@dataclass(frozen=True)
class Arrival:
    """One state of one file. A file that is written anew is another arrival."""

    name: str
    """Path relative to the folder, with forward slashes."""
    modified: int
    """Nanoseconds since 1970, as the file system says."""
    size: int
    """Bytes."""

    @property
    def key(self) -> bytes:
        """Eight bytes that no other arrival has, so that millions can be remembered."""
        told = f"{self.modified} {self.size} ".encode() + os.fsencode(self.name)
        return hashlib.blake2b(told, digest_size=8).digest()


class Arrivals:
    """What has arrived in a folder and its sub-folders, and has not been dealt with.

    Args:
        folder: looked through as by `data.scan.scan`: files known by their suffix, hidden ones left out, and
            sub-folders that cannot be read.
        patience: seconds in which a file that holds no picture may still become one.
        done: keys of what an earlier process has dealt with.

    Attributes:
        left_out: what the last look has left out and why, for a person, in lines.
    """

    def __init__(self, folder: Path, patience: float, done: set[bytes] | None = None):
        self.folder = folder
        self.patience = patience
        self._done = done or set()
        self._waiting: dict[Arrival, float] = {}
        self.left_out: list[str] = []

    @property
    def waiting(self) -> bool:
        """Whether the last look has found files that are not dealt with."""
        return bool(self._waiting)

    def look(self) -> list[Arrival]:
        """What is there as it was at the look before, the oldest first.

        Raises:
            UserError: the folder cannot be read, as where a shared disk is away.
        """
        before, now = self._waiting, time.monotonic()
        found = scan(self.folder, all_of_it=False)
        self.left_out = found.left_out()
        states = (state for name in found.images if (state := self.state(name)) is not None)
        self._waiting = {
            state: before.get(state, now) for state in states if state.key not in self._done
        }  # each with the time since when it has been so
        settled = (state for state in self._waiting if state in before)
        return sorted(settled, key=lambda state: (state.modified, state.name))

    def state(self, name: str) -> Arrival | None:
        """What the file is now; None where it is gone."""
        try:
            status = os.stat(self.folder / name)
        except OSError:
            return None
        return Arrival(name, status.st_mtime_ns, status.st_size)

    def is_final(self, arrival: Arrival, readable: bool) -> bool:
        """Whether what was read of a file stands, now that it has been read.

        It does where the file is still what it was, and holds a picture or has had its time to become one.
        One that has been changed is waited for, one that is gone never arrived.
        """
        if self.state(arrival.name) != arrival:
            return False
        return readable or time.monotonic() - self._waiting[arrival] >= self.patience

    def finish(self, arrival: Arrival) -> None:
        """Deal with it no more."""
        self._done.add(arrival.key)
        self._waiting.pop(arrival, None)
