"""When a process works on a run, and when it ends."""

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

END_WITH = "ANOMALY_GAN_ENDS_WITH"
"""In the environment: the process whose end is this one's."""


def end_with_parent() -> None:
    """From now on, end within seconds of the process that the environment names (`END_WITH`), if any.

    So that a sweep that is killed leaves nothing running, on any system and whatever started its runs.
    """
    if END_WITH not in os.environ:
        return
    process = int(os.environ[END_WITH])

    def watch() -> None:
        while True:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Work on a run's folder while no other process does; waits for one that does.

    The system takes the lock back from a process that ends, however it ends. The lock's file lies beside the
    folder, which stays free of it.
    """
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / folder.name).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{os.path.relpath(folder)}: another process works on it; waiting", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
