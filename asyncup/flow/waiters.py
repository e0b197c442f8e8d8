"""A first-in, first-out queue of waiting tasks: the one thing that channel, budget and limiter share."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Waiters:
    """Tasks that wait for their turn. A cancelled waiter passes on a wake-up that it had already been given."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: deque[asyncio.Future[None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._futures)

    async def wait(self, *, first: bool = False) -> None:
        """Wait until woken. `first` queues before the others: for one who was woken and found it too early."""
        future = asyncio.get_running_loop().create_future()
        if first:
            self._futures.appendleft(future)
        else:
            self._futures.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.wake()
            else:
                with suppress(ValueError):  # a wake-up that passed over it has removed it already
                    self._futures.remove(future)
            raise

    def wake(self) -> None:
        """Wake the one that has waited longest."""
        while self._futures:
            future = self._futures.popleft()
            if not future.done():
                future.set_result(None)
                return

    def wake_all(self) -> None:
        while self._futures:
            self.wake()
