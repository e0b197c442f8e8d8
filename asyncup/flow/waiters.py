"""A first-in, first-out queue of waiting tasks: the one thing that channel, budget and limiter share."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Waiters:
    """Tasks that wait for their turn.

    A task keeps its place until its turn has come: nobody overtakes it, and one that was woken too early loses
    nothing. Whoever has taken its turn wakes the next if there is room for more; a cancelled one does so always.
    """

    __slots__ = ("_asleep", "queue")

    def __init__(self) -> None:
        #: Those who wait, the first of them at the left. Whether there are any is asked for every row.
        self.queue: deque[asyncio.Future[None]] = deque()
        #: Those of them who have not been woken, so that nobody looks through the others for every row.
        self._asleep: deque[asyncio.Future[None]] = deque()

    async def wait(self, ready: Callable[[], bool]) -> None:
        """Wait until all who came before have had their turn and `ready` holds; the caller then takes its turn at once."""
        create = asyncio.get_running_loop().create_future
        future = create()
        self.queue.append(future)
        self._asleep.append(future)
        try:
            await future
            while self.queue[0] is not future or not ready():
                place = self.queue.index(future)
                self.queue[place] = future = create()
                self._asleep = deque(waiting for waiting in self.queue if not waiting.done())
                await future
        except BaseException:
            self.queue.remove(future)
            self.wake()
            raise
        self.queue.popleft()
        self.wake()  # the next may have been woken while it was not the first, and has gone back to waiting

    def wake(self, count: int = 1) -> None:
        """Let the `count` that have waited longest look whether their turn has come."""
        asleep = self._asleep
        while count > 0 and asleep:
            future = asleep.popleft()
            if not future.done():  # it may have been cancelled
                future.set_result(None)
                count -= 1

    def wake_all(self) -> None:
        self.wake(len(self._asleep))
