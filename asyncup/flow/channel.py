"""A bounded channel between stages, closed explicitly; its bound is the pipeline's backpressure.

Whoever waits for room waits until half of it is free: stages then take turns that are worth it, instead of handing
over item by item. `statistics()` shows the backpressure.
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
    """A look at a channel: what it holds now, and its bound."""

    items: int
    capacity: int
    closed: bool


class Channel(Generic[T]):
    """Many senders, many receivers, first in first out. Nothing that is sent may be None."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._half = capacity // 2
        self._queue: deque[T] = deque()
        self._closed = False
        self._senders = Waiters()
        self._receivers = Waiters()

    def offer(self, item: T) -> bool:
        """Put without waiting; False when there is no room, or when others wait for it.

        Raises:
            ChannelClosed: the channel was closed.
        """
        if self._closed:
            raise ChannelClosed
        queue = self._queue
        if self._senders.queue or len(queue) >= self._capacity:
            return False
        queue.append(item)
        if self._receivers.queue:
            self._receivers.wake()
        return True

    async def send(self, item: T) -> None:
        """Put, waiting for room. Senders are served in the order in which they came.

        Raises:
            ChannelClosed: the channel was closed, before or while waiting.
        """
        if not self.offer(item):
            await self._senders.wait(self._has_room)
            if self._closed:
                raise ChannelClosed
            self._queue.append(item)
            self._receivers.wake()
            self._senders.wake()

    def take(self) -> T | None:
        """Get without waiting; None when the channel is empty."""
        queue = self._queue
        if not queue:
            return None
        item = queue.popleft()
        if self._senders.queue and len(queue) <= self._half:
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
            await self._receivers.wait(self._has_something)
            if len(self._queue) > 1:  # more than its own
                self._receivers.wake()

    def close(self, *, discard: bool = False) -> None:
        """Let nothing more in; receivers get what is left, or nothing with `discard`."""
        self._closed = True
        if discard:
            self._queue.clear()
        self._receivers.wake_all()
        self._senders.wake_all()

    def _has_room(self) -> bool:
        return self._closed or len(self._queue) < self._capacity

    def _has_something(self) -> bool:
        return self._closed or bool(self._queue)

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(len(self._queue), self._capacity, self._closed)

    def __repr__(self) -> str:
        return f"<Channel {len(self._queue)}/{self._capacity}>"
