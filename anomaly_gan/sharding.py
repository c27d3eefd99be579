"""Which rows of a batch a process has, where several share it."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Shard:
    """One process's rows of a batch of `total` rows: a run of them, as long as the others' give or take one.

    Args:
        total: rows of the whole batch.
        process: this process's number, from 0.
        processes: how many there are.
    """

    total: int
    process: int = 0
    processes: int = 1

    @property
    def first(self) -> int:
        """Place of its first row in the whole batch."""
        return self._start(self.process)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self._start(self.process + 1) - self.first

    @property
    def weight(self) -> float:
        """What a mean over its rows counts for, so that the processes' average is the mean over all rows."""
        return self.rows * self.processes / self.total

    def sizes(self, groups: int) -> list[int]:
        """How many rows each process has of `groups` such batches."""
        starts = [self._start(process) for process in range(self.processes + 1)]
        return [groups * (stop - start) for start, stop in pairwise(starts)]

    def _start(self, process: int) -> int:
        return self.total * process // self.processes
