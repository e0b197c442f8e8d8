"""A bounded channel between stages, closed explicitly; its bounds are the pipeline's backpressure.

It holds at most `max_items` things and `max_weight` of their weight; one that is heavier than the whole bound
passes alone. `statistics()` shows the backpressure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from asyncup.flow.waiters import Waiters

T = TypeVar("T")


class ChannelClosed(Exception):
    """Nothing more will come, or nothing more may be sent."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """A look at a channel: what it holds now and at most, and its bounds."""

    items: int
    weight: int
    peak_items: int
    peak_weight: int
    max_items: int
    max_weight: int
    closed: bool


class Channel(Generic[T]):
    """Many senders, many receivers, first in first out."""

    def __init__(self, max_items: int, max_weight: int) -> None:
        self._max_items = max_items
        self._max_weight = max_weight
        self._queue: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._peak_items = 0
        self._peak_weight = 0
        self._closed = False
        self._senders = Waiters()
        self._receivers = Waiters()

    def offer(self, item: T, weight: int = 0) -> bool:
        """Put without waiting; False when there is no room, or when others wait for it.

        Raises:
            ChannelClosed: the channel was closed.
        """
        if self._closed:
            raise ChannelClosed
        if self._senders or not self._fits(weight):
            return False
        self._put(item, weight)
        return True

    async def send(self, item: T, weight: int = 0) -> None:
        """Put, waiting for room. Senders are served in the order in which they came.

        Raises:
            ChannelClosed: the channel was closed, before or while waiting.
        """
        if not self.offer(item, weight):
            await self._senders.wait(lambda: self._closed or self._fits(weight))
            if self._closed:
                raise ChannelClosed
            self._put(item, weight)
            self._senders.wake()

    def take(self) -> T | None:
        """Get without waiting; None when the channel is empty."""
        if not self._queue:
            return None
        item, weight = self._queue.popleft()
        self._weight -= weight
        if self._senders:
            self._senders.wake()
        return item

    async def receive(self) -> T:
        """Get the oldest item, waiting for one.

        Raises:
            ChannelClosed: the channel is closed and empty.
        """
        while True:
            item = self.take()
            if item is not None:
                return item
            if self._closed:
                raise ChannelClosed
            await self._receivers.wait(lambda: self._closed or bool(self._queue))
            if len(self._queue) > 1:  # more than its own
                self._receivers.wake()

    def close(self, *, discard: bool = False) -> None:
        """Let nothing more in; receivers get what is left, or nothing with `discard`."""
        self._closed = True
        if discard:
            self._queue.clear()
            self._weight = 0
        self._receivers.wake_all()
        self._senders.wake_all()

    def _fits(self, weight: int) -> bool:
        queue = self._queue
        return not queue or (len(queue) < self._max_items and self._weight + weight <= self._max_weight)

    def _put(self, item: T, weight: int) -> None:
        queue = self._queue
        queue.append((item, weight))
        self._weight += weight
        self._peak_items = max(self._peak_items, len(queue))
        self._peak_weight = max(self._peak_weight, self._weight)
        if self._receivers:
            self._receivers.wake()

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            len(self._queue),
            self._weight,
            self._peak_items,
            self._peak_weight,
            self._max_items,
            self._max_weight,
            self._closed,
        )

    def __repr__(self) -> str:
        return f"<Channel {len(self._queue)}/{self._max_items} items, {self._weight}/{self._max_weight}>"
