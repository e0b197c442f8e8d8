"""When answers leave: at once, after a latency that is the same for all, or after one that is drawn for each.

Timers of event loops count milliseconds, which would be two per cent of a latency of 58.8 ms and spoil what is
measured behind it. On Linux the alarm is a timerfd, exact to some ten microseconds. A fixed latency costs nearly nothing:
one queue and one alarm serve all answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import heapq
import math
import os
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from asyncup.bench.simulator.counters import Counters
from asyncup.bench.simulator.misbehaviour import reset
from asyncup.values import parse_duration

#: Seconds between two rings, so that 25,000 answers a second are no 25,000 rings.
SPACING = 100e-6
#: What becomes of a connection behind an answer; False and True are the first two.
STAYS, CLOSES, RESETS = 0, 1, 2

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1


@dataclass(frozen=True, slots=True)
class Latency:
    """`median` seconds; with a `sigma`, drawn from the lognormal distribution whose logarithm deviates by so much."""

    median: float = 0.0
    sigma: float = 0.0


def parse_latency(text: str) -> Latency:
    """From `20ms` or `lognormal:20ms,0.5`. Raises ValueError."""
    kind, colon, rest = text.partition(":")
    if not colon:
        return Latency(parse_duration(text))
    median, _, sigma = rest.partition(",")
    if kind != "lognormal" or not sigma:
        raise ValueError(f"{text!r} is not a latency; write it as 20ms or lognormal:20ms,0.5")
    return Latency(parse_duration(median), float(sigma))


class Delay:
    """Writes answers to their connections `seconds` after they are handed in, in order, never earlier."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, counters: Counters) -> None:
        self._seconds = seconds
        self._counters = counters
        self._waiting: deque[tuple[float, asyncio.Transport, bytes, int]] = deque()
        self._set_alarm = _alarm(loop, self._ring) if seconds else None

    def send(self, transport: asyncio.Transport, raw: bytes, ends: int, after: float) -> float:  # noqa: ARG002
        """Write `raw` when its time has come, and not before the one of `after`, which the connection's last one had."""
        if self._set_alarm is None:
            write(transport, raw, ends)
            return 0.0
        due = time.monotonic() + self._seconds
        if not self._waiting:
            self._set_alarm(due)
        self._waiting.append((due, transport, raw, ends))
        self._counters.in_flight_peak = max(self._counters.in_flight_peak, len(self._waiting))
        return due

    def _ring(self) -> None:
        waiting, now = self._waiting, time.monotonic()
        late = 0.0
        while waiting and waiting[0][0] <= now:
            due, transport, raw, ends = waiting.popleft()
            late += now - due
            write(transport, raw, ends)
        self._counters.late_seconds += late
        if waiting and self._set_alarm is not None:
            self._set_alarm(max(waiting[0][0], now + SPACING))


class DrawnDelay:
    """Writes answers after a latency of their own: out of order between connections, never within one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, latency: Latency, seed: int, counters: Counters) -> None:
        self._mu, self._sigma = math.log(latency.median), latency.sigma
        self._dice = random.Random(f"latency {seed}")  # noqa: S311 - to be drawn again, not to be secret
        self._counters = counters
        self._number = 0  # keeps those that are due at one time in their order
        self._waiting: list[tuple[float, int, asyncio.Transport, bytes, int]] = []
        self._set_alarm = _alarm(loop, self._ring)

    def send(self, transport: asyncio.Transport, raw: bytes, ends: int, after: float) -> float:
        """As that of `Delay`."""
        waiting = self._waiting
        due = max(time.monotonic() + self._dice.lognormvariate(self._mu, self._sigma), after)
        if not waiting or due < waiting[0][0]:
            self._set_alarm(due)
        self._number += 1
        heapq.heappush(waiting, (due, self._number, transport, raw, ends))
        self._counters.in_flight_peak = max(self._counters.in_flight_peak, len(waiting))
        return due

    def _ring(self) -> None:
        waiting, now = self._waiting, time.monotonic()
        while waiting and waiting[0][0] <= now:
            due, _, transport, raw, ends = heapq.heappop(waiting)
            self._counters.late_seconds += now - due
            write(transport, raw, ends)
        if waiting:
            self._set_alarm(max(waiting[0][0], now + SPACING))


def make_delay(loop: asyncio.AbstractEventLoop, latency: Latency, seed: int, counters: Counters) -> Delay | DrawnDelay:
    if latency.sigma and latency.median:
        return DrawnDelay(loop, latency, seed, counters)
    return Delay(loop, latency.median, counters)


def write(transport: asyncio.Transport, raw: bytes, ends: int) -> None:
    """Write an answer now, unless the client has gone; `ends` says what becomes of the connection behind it."""
    if transport.is_closing():
        return
    if ends == RESETS:
        reset(transport)
        return
    transport.write(raw)
    if ends:
        transport.close()


def _alarm(loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> Callable[[float], None]:
    """What sets the alarm to a time of `time.monotonic()`; setting it again replaces the time that was set."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" and sys.maxsize > 2**32 else None
    if libc is None or not hasattr(libc, "timerfd_create"):

        def set_timer(when: float) -> None:
            loop.call_later(when - time.monotonic(), ring)

        return set_timer
    # Python has these calls itself from 3.13 on
    timer = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    set_time = libc.timerfd_settime

    def set_timerfd(when: float) -> None:
        seconds, rest = divmod(int(when * 1e9) + 1, 10**9)
        set_time(timer, _TFD_TIMER_ABSTIME, (ctypes.c_long * 4)(0, 0, seconds, rest), None)

    def rung() -> None:
        with contextlib.suppress(BlockingIOError):  # set anew between the ring and here
            os.read(timer, 8)
        ring()

    loop.add_reader(timer, rung)
    return set_timerfd
