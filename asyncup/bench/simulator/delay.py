"""A fixed latency that costs nearly nothing: every answer waits equally long, so one queue and one alarm serve them all.

Timers of event loops count milliseconds, which would be two per cent of a latency of 58.8 ms and spoil what is
measured behind it. On Linux the alarm is a timerfd, exact to some ten microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections import deque
from collections.abc import Callable

from asyncup.bench.simulator.counters import Counters

#: Seconds between two rings, so that 25,000 answers a second are no 25,000 rings.
SPACING = 100e-6

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1


class Delay:
    """Writes answers to their connections `seconds` after they are handed in, in order, never earlier."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, counters: Counters) -> None:
        self._seconds = seconds
        self._counters = counters
        self._waiting: deque[tuple[float, asyncio.Transport, bytes, bool]] = deque()
        self._set_alarm = _alarm(loop, self._ring) if seconds else None

    def send(self, transport: asyncio.Transport, raw: bytes, last: bool) -> None:
        """Write `raw` when its time has come; `last` closes the connection behind it."""
        if self._set_alarm is None:
            write(transport, raw, last)
            return
        due = time.monotonic() + self._seconds
        if not self._waiting:
            self._set_alarm(due)
        self._waiting.append((due, transport, raw, last))
        self._counters.in_flight_peak = max(self._counters.in_flight_peak, len(self._waiting))

    def _ring(self) -> None:
        waiting, now = self._waiting, time.monotonic()
        late = 0.0
        while waiting and waiting[0][0] <= now:
            due, transport, raw, last = waiting.popleft()
            late += now - due
            write(transport, raw, last)
        self._counters.late_seconds += late
        if waiting and self._set_alarm is not None:
            self._set_alarm(max(waiting[0][0], now + SPACING))


def write(transport: asyncio.Transport, raw: bytes, last: bool) -> None:
    """Write an answer now, unless the client has gone; `last` closes the connection behind it."""
    if not transport.is_closing():
        transport.write(raw)
        if last:
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
