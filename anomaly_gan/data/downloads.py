"""Downloads, one at a time: several runs, or processes of one, may ask for the same files at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from anomaly_gan.lifetime import alone_in


@contextmanager
def one_at_a_time(root: Path, files: str) -> Iterator[None]:
    """Look for `files` in `root`, and fetch what is missing, while no other process does.

    Where no lock can be had (a folder of others, a file system without), it is done without.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(alone_in(root / files))
        yield
