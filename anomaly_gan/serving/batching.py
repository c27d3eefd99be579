"""Pictures of many requests, scored in batches as they come."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Score = Callable[[Sequence[Any]], Sequence[Any]]
"""What is made of each of a batch, in order; called in one thread, a batch at a time."""


PAUSE = 0.004
"""Seconds without a new item after which a batch is scored that is not full."""


class TooManyError(Exception):
    """More wait already than may; try again later."""


class Batches:
    """Scores what waits, once a batch is full or nothing more has come for PAUSE.

    So a single request waits no longer than that for others, and many together get the rate of a large
    batch: without the pause, the first of those who have just been answered and ask again would be scored
    alone.

    Args:
        score: what is done with a batch.
        batch_size: the most of a batch.
        most_waiting: how many may wait.
    """

    def __init__(self, score: Score, batch_size: int, most_waiting: int):
        self.score, self.batch_size, self.most_waiting = score, batch_size, most_waiting
        self._waiting: deque[tuple[Any, asyncio.Future[Any]]] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    async def result(self, items: Sequence[Any]) -> list[Any]:
        """What `score` makes of each item, once it is their turn; given up, they are not scored.

        Raises:
            TooManyError: there is no room for all of them.
            Exception: what `score` raised.
        """
        if len(self._waiting) + len(items) > self.most_waiting:
            raise TooManyError
        futures = [asyncio.get_running_loop().create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        self._filled.set()
        try:
            return list(await asyncio.gather(*futures))
        except asyncio.CancelledError:  # what nobody waits for takes no room
            self._waiting = deque(waiting for waiting in self._waiting if not waiting[1].done())
            raise

    async def run(self) -> None:
        """Score what comes, until this is cancelled; what has begun then is finished first."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="score") as thread:
            while True:
                await self._filled.wait()
                await self._gather()
                batch = self._next()
                try:
                    found = await loop.run_in_executor(thread, self.score, [item for item, _ in batch])
                except Exception as error:  # the requests answer for it
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), result in zip(batch, found, strict=True):
                    if not future.done():  # whoever asked may have gone
                        future.set_result(result)

    async def _gather(self) -> None:
        before = 0
        while before < len(self._waiting) < self.batch_size:
            before = len(self._waiting)
            await asyncio.sleep(PAUSE)

    def _next(self) -> list[tuple[Any, "asyncio.Future[Any]"]]:
        batch: list[tuple[Any, asyncio.Future[Any]]] = []
        while self._waiting and len(batch) < self.batch_size:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        if not self._waiting:
            self._filled.clear()
        return batch
