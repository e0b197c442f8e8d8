"""Rates: so many a second, and whoever comes too early waits for its turn.

A bucket keeps one number, the time until which everything that it has let through is paid for (the generic cell rate
algorithm, as in ITU-T I.371): it has no timer, and one that is larger than the rate of a second passes all the same
and makes those behind it wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

#: What may be made up for: a loop that was busy for so long has lost nothing of its rate.
SLACK_SECONDS = 0.05
#: Seconds between two turns at least: timers of event loops count milliseconds.
TURN_SECONDS = 0.002


class TokenBucket:
    """`rate` a second, more than nothing. Times in seconds, as they are handed in."""

    __slots__ = ("_paid_until", "rate")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._paid_until = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the next may pass, 0.0 when it may at once."""
        return max(0.0, self._paid_until - now)

    def take(self, now: float, cost: float = 1.0) -> None:
        """Let something pass that costs so much."""
        self._paid_until = max(self._paid_until, now - SLACK_SECONDS) + cost / self.rate

    def resize(self, now: float, rate: float) -> None:
        """Another rate from now on; what is owed stays owed."""
        if self._paid_until > now:
            self._paid_until = now + (self._paid_until - now) * self.rate / rate
        self.rate = rate


class Turnstile:
    """Those who wait at a bucket, first in, first out; the turnstile takes their turns for them, some at a time."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._bucket = TokenBucket(rate)
        self._clock = clock
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._is_open = False

    @property
    def rate(self) -> float:
        """So many a second, or what they cost."""
        return self._bucket.rate

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, cost: float = 1.0) -> bool:
        """Pass without waiting; False when it is too early, or when others wait."""
        if self._is_open:
            return True
        now = self._clock()
        if self._waiting or self._bucket.wait(now) > 0:
            return False
        self._bucket.take(now, cost)
        return True

    def charge(self, cost: float) -> None:
        """What has passed already costs more than it paid: those behind it wait for that."""
        self._bucket.take(self._clock(), cost)

    async def pass_through(self, cost: float = 1.0) -> None:
        """Wait for one's turn and take it."""
        if not self.enter(cost):
            await self.line_up(cost)

    def line_up(self, cost: float = 1.0) -> asyncio.Future[None]:
        """A turn, behind those who wait; done when it has come. One that is done before, or cancelled, is passed over."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append((turn, cost))
        if self._alarm is None:
            self._set_alarm(loop)
        return turn

    def resize(self, rate: float) -> None:
        """Another rate from now on, also for those who wait."""
        self._bucket.resize(self._clock(), rate)
        if self._alarm is not None:
            self._alarm.cancel()
            self._set_alarm(asyncio.get_running_loop())

    def open(self) -> None:
        """Let everybody through, now and from now on."""
        self._is_open = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._waiting:
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _set_alarm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = loop.call_later(max(TURN_SECONDS, self._bucket.wait(self._clock())), self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        now, bucket, waiting = self._clock(), self._bucket, self._waiting
        while waiting and bucket.wait(now) <= 0:
            turn, cost = waiting.popleft()
            if not turn.done():
                bucket.take(now, cost)
                turn.set_result(None)
        if waiting:
            self._set_alarm(loop)

    def __repr__(self) -> str:
        return f"<Turnstile {self.rate:g}/s, {len(self._waiting)} waiting>"
