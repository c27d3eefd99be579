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
from types import FrameType

END_WITH = "ANOMALY_GAN_ENDS_WITH"
"""In the environment: the process whose end is this one's."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What asks a process to end: Ctrl-C, `kill` and schedulers, a closed terminal, a scheduler's warning before
its time limit."""


class Stopped(SystemExit):
    """The process was asked to end. Where nobody catches this, it ends without a word.

    Args:
        number: of the signal; the exit code is 128 more, as shells have it.
        advice: what the user should know, for the message.
    """

    def __init__(self, number: int, advice: str = ""):
        super().__init__(128 + number)
        self.number = number
        self.advice = advice

    def __str__(self) -> str:
        return f"ended by {signal.Signals(self.number).name}{self.advice}"


class _Heard:
    """What this process has heard since it listens."""

    process = 0
    number = 0
    held = False


@contextmanager
def listening() -> Iterator[None]:
    """Within the block a signal of SIGNALS raises Stopped in the main thread; or waits (`hold`).

    A second Ctrl-C never waits. What is ignored (nohup) stays so. Processes forked from this one do not
    listen: this one ends them.
    """
    _Heard.process, _Heard.number, _Heard.held = os.getpid(), 0, False
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _hear) for number in heeded}
    hook, sys.unraisablehook = sys.unraisablehook, _hear_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _hear(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _Heard.process:
        return
    again = number == signal.SIGINT == _Heard.number
    _Heard.number = _Heard.number or number
    if again or not _Heard.held:
        raise Stopped(_Heard.number)


def _hear_again(swallowed: "sys.UnraisableHookArgs") -> None:
    """Where Python swallows what a signal raises (in a destructor, say), send the signal again."""
    if isinstance(swallowed.exc_value, Stopped):
        threading.Timer(0.05, os.kill, (os.getpid(), swallowed.exc_value.number)).start()
    else:
        sys.__unraisablehook__(swallowed)


def hold() -> None:
    """From now on signals wait: who has called this asks `heard`, and calls `release` in the end."""
    _Heard.held = True


def heard() -> int:
    """The signal that this process was asked to end by; 0: none."""
    return _Heard.number


def release() -> None:
    """Take `hold` back; a signal that has waited is not raised."""
    _Heard.held = False


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
