"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def is_first_process() -> bool:
    """Whether this process is the only one, or the first of several: the one that speaks."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0


class Progress:
    """Shows how far a piece of work is, on standard error; of several processes, the first one's.

    Args:
        description: what is being done, in a few words.
        total: how many steps it has.
        unit: what one step is, for the rate ("it", "images").
        done: how many of them are done already, by an earlier process.
        seconds_between_lines: how often a line is written where standard error is not a terminal.
    """

    def __init__(
        self,
        description: str,
        total: int,
        unit: str = "it",
        done: int = 0,
        seconds_between_lines: float = 10.0,
    ):
        self.description, self.total, self.unit = description, total, unit
        self.seconds_between_lines = seconds_between_lines
        self.done = self.before = done
        self.start = self.last_line = time.monotonic()
        self.bar = None
        self.quiet = not is_first_process()
        if sys.stderr.isatty() and not self.quiet:
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, initial=done, desc=description, unit=unit, leave=False, file=sys.stderr
            )

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` as done; `note` is shown beside (the loss, say)."""
        self.done += steps
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(steps)
        elif time.monotonic() - self.last_line >= self.seconds_between_lines and self.done < self.total:
            self.last_line = time.monotonic()
            self._line(note)

    def close(self) -> None:
        """Remove the bar. Work short enough never to have written a line ends silently."""
        if self.bar is not None:
            self.bar.close()
        elif self.last_line > self.start:
            self._line()

    def _line(self, note: str = "") -> None:
        if self.quiet:
            return
        seconds = time.monotonic() - self.start
        rate = (self.done - self.before) / seconds
        left = (self.total - self.done) / rate
        print(
            f"{self.description}: {self.done}/{self.total} ({self.done / self.total:.0%}), "
            f"{rate:.1f} {self.unit}/s, {left:.0f} s left{', ' + note if note else ''}",
            file=sys.stderr,
            flush=True,
        )


def step(description: str) -> None:
    """Say, in a line on standard error, what begins: work that may take minutes and cannot be counted."""
    if is_first_process():
        print(description, file=sys.stderr, flush=True)


def track(items: Iterable[Item], description: str, total: int, unit: str = "it") -> Iterator[Item]:
    """Yield from `items`, showing progress."""
    progress = Progress(description, total, unit)
    try:
        for item in items:
            yield item
            progress.advance()
    finally:
        progress.close()
