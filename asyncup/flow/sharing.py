"""What several runs in one process share: one budget of memory, one bound on requests in flight, the rates that were asked for.

Each run keeps machinery of its own, since what one endpoint takes says nothing about another, and a run whose first upload
goes alone must not stop the others. What bounds them together is made so that the bounds hold whatever each of them does:

- In flight: every run has a part, and the parts add up to the bound.
- Memory: every run has a part of the budget, and the parts add up to it. A row that is larger than its run's part passes when
  the whole has room for it, or alone; it waits in one queue with all others, so that its turn comes.
- Rates: one turnstile for all, first come, first served.

When a run has ended and none follows it, the parts of the others grow. No part ever shrinks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from asyncup.flow.budget import Budget
from asyncup.flow.gate import Gate, Limits
from asyncup.flow.level import MAX_BANDWIDTH, MAX_RATE
from asyncup.flow.rate import Turnstile


class Allotment(Budget):
    """One run's part of a budget that several share. `capacity` is its part; what it holds, the whole holds too."""

    def __init__(self, capacity: int, whole: Budget) -> None:
        super().__init__(capacity)
        self._whole = whole
        self._outside = 0  # reservations that fit here and wait for the whole
        self._aside = 0

    @property
    def is_short(self) -> bool:
        return super().is_short or self._outside > 0

    async def reserve(self, size: int) -> None:
        """See `Budget.reserve`. It waits here first, so that a run only stands in the others' way with what is its own."""
        await super().reserve(size)
        self._outside += 1
        try:
            await self._whole.reserve(size)
        except BaseException:
            super().release(size)
            raise
        finally:
            self._outside -= 1

    def adjust(self, difference: int) -> None:
        """See `Budget.adjust`."""
        super().adjust(difference)
        self._whole.adjust(difference)

    def release(self, size: int) -> None:
        """See `Budget.release`."""
        super().release(size)
        self._whole.release(size)

    def set_aside(self, size: int) -> None:
        """See `Budget.set_aside`. The whole has less too, until the run has ended."""
        super().set_aside(size)
        self._whole.set_aside(size)
        self._aside += size

    def grow(self, capacity: int) -> None:
        """Have a larger part."""
        self.capacity = capacity - self._aside
        self._waiters.wake()

    def give_back(self) -> None:
        """The run has ended: whatever it still held is free."""
        self._whole.set_aside(-self._aside)
        self.release(self.used)


class Lane:
    """One run's way through a turnstile that several share: who waits in it is counted, and let through, apart."""

    def __init__(self, turnstile: Turnstile) -> None:
        self._turnstile = turnstile
        self._turns: set[asyncio.Future[None]] = set()
        self._is_open = False

    @property
    def waiting(self) -> int:
        """How many of this run wait."""
        return len(self._turns)

    async def pass_through(self, cost: float = 1.0) -> None:
        """Wait for one's turn and take it."""
        if self._is_open or self._turnstile.enter(cost):
            return
        turn = self._turnstile.line_up(cost)
        self._turns.add(turn)
        try:
            await turn
        finally:
            self._turns.discard(turn)

    def charge(self, cost: float) -> None:
        """See `Turnstile.charge`."""
        self._turnstile.charge(cost)

    def open(self) -> None:
        """Let this run through, now and from now on; the turnstile passes over those who have gone."""
        self._is_open = True
        for turn in self._turns:
            if not turn.done():
                turn.set_result(None)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What all runs may use together. Bytes, requests in flight, attempts a second, bytes a second; None for no limit."""

    memory: int
    in_flight: int
    rate: float | None = None
    bandwidth: float | None = None


class Share:
    """What one run has of it. To be given back with `leave`, when its connections are closed."""

    def __init__(self, sharing: Sharing, budget: Allotment, in_flight: int, memory: int | None) -> None:
        self._sharing = sharing
        self._memory = memory  # no more than this, whatever the part
        self._limits = Limits()
        self._gate: Gate | None = None
        self.budget = budget
        #: How many may be in flight now.
        self.in_flight = in_flight
        self.lanes = [(reason, Lane(turnstile), has_size) for reason, turnstile, has_size in sharing.turnstiles]

    def within(self, limits: Limits) -> Limits:
        """The limits that this run asked for itself, within its part; a rate that is that of all has its lane."""
        bounds = self._sharing.bounds
        self._limits = replace(
            limits,
            rate=None if limits.rate == bounds.rate else limits.rate,
            bandwidth=None if limits.bandwidth == bounds.bandwidth else limits.bandwidth,
        )
        return self._bounded()

    def attach(self, gate: Gate) -> None:
        """Tell a gate when the part grows."""
        self._gate = gate

    def grow(self, in_flight: int, memory: int) -> None:
        """Have a larger part."""
        self.budget.grow(memory if self._memory is None else min(memory, self._memory))
        if in_flight > self.in_flight:
            self.in_flight = in_flight
            if self._gate is not None:
                self._gate.allow(self._bounded())

    def leave(self) -> None:
        """The run has ended."""
        for _, lane, _ in self.lanes:
            lane.open()
        self.budget.give_back()
        self._sharing.left(self)

    def _bounded(self) -> Limits:
        limits = self._limits
        fixed = None if limits.concurrency is None else min(limits.concurrency, self.in_flight)
        return replace(limits, concurrency=fixed, most=min(limits.most, self.in_flight))


class Sharing:
    """Shares bounds out among `runs` runs, of which no more than `places` are under way at a time."""

    def __init__(self, bounds: Bounds, *, runs: int, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds = bounds
        self.places = max(1, min(runs, places, bounds.in_flight))
        self.budget = Budget(bounds.memory)
        self.turnstiles = [
            (reason, Turnstile(rate, clock), has_size)
            for reason, rate, has_size in ((MAX_RATE, bounds.rate, False), (MAX_BANDWIDTH, bounds.bandwidth, True))
            if rate is not None
        ]
        self._to_end = runs
        self._shares: list[Share] = []

    def join(self, memory: int | None = None) -> Share:
        """A share for one more run, which itself wants no more memory than this."""
        part = self._memory(len(self._shares))
        allotment = Allotment(part if memory is None else min(part, memory), self.budget)
        share = Share(self, allotment, self._in_flight(len(self._shares)), memory)
        self._shares.append(share)
        return share

    def left(self, share: Share) -> None:
        """A run has ended: if none follows it, the parts of the others grow."""
        self._shares.remove(share)
        self.pass_over()

    def pass_over(self) -> None:
        """One run fewer is to come."""
        self._to_end -= 1
        self.places = max(1, min(self.places, self._to_end))
        for place, share in enumerate(self._shares):
            share.grow(self._in_flight(place), self._memory(place))

    def _in_flight(self, place: int) -> int:
        return _part(self.bounds.in_flight, self.places, place)

    def _memory(self, place: int) -> int:
        return max(1, _part(self.bounds.memory, self.places, place))


def _part(whole: int, places: int, place: int) -> int:
    """What one place has of a whole, in whole numbers that add up to it."""
    return whole // places + (place < whole % places)
