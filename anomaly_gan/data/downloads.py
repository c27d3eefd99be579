"""Downloads, one at a time: several runs, or processes of one, may ask for the same files at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomaly_gan.lifetime import alone_in


@contextmanager
def one_at_a_time(root: Path, name: str) -> Iterator[None]:
    """Look for the files of the data set `name` in `root`, and fetch them, while no other process does.

    Where nothing can be written nothing is fetched, and nobody has to wait.
    """
    if root.exists() and not os.access(root, os.W_OK):
        yield
        return
    with alone_in(root / name):
        yield
