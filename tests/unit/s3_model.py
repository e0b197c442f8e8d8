"""S3 and a client of it in virtual time: what a level is judged by, in seconds that take no time.

The server has a latency, as many workers as its capacity asks for, and for each leading prefix a bucket of tokens that
fills at its limit and doubles under sustained pressure if it is told to. The client sends as asyncup does: so many in
flight, at the pace that the level says, backing off with full jitter, at the cost of CPU that it says.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from asyncup.flow.level import Level
from asyncup.flow.search import Sample

TICK = 0.025


class Controller(Protocol):
    """What is judged."""

    limit: int

    def cap_of(self, prefix: str) -> float | None: ...

    def group_of(self, prefix: str) -> str: ...

    def ended(self, prefix: str, *, acknowledged: bool, throttled: bool, latency: float) -> None: ...

    def look(self, at: float, in_flight: int, cpu: float, late: float, waiting: dict[str, int]) -> None: ...


@dataclass
class Bucket:
    """Tokens for requests, at most `burst` seconds' worth of them."""

    limit: float
    burst: float = 0.02
    tokens: float = 0.0
    at: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.limit * self.burst

    def take(self, at: float) -> bool:
        self.tokens = min(max(1.0, self.limit * self.burst), self.tokens + (at - self.at) * self.limit)
        self.at = at
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class World:
    """What the server and the machine are like. Seconds, and requests a second."""

    latency: float = 0.02
    tail: float = 0.0  # sigma of a lognormal distribution
    capacity: float = math.inf
    limits: dict[str, float] = field(default_factory=dict)
    burst: float = 0.02
    split_after: float = math.inf  # seconds of pressure after which a limit doubles
    always: float = 0.0  # share of 503s whatever the rate
    cpu_each: float = 0.0
    changes: tuple[tuple[float, str, float], ...] = ()


@dataclass
class Second:
    """What happened in one second."""

    acknowledged: int = 0
    throttled: int = 0
    answered: int = 0
    limits: list[int] = field(default_factory=list)


class Play:
    """One run of a controller in a world. `rows` are the prefixes of the rows, in order; endless if it is."""

    def __init__(
        self, world: World, controller: Controller, rows: Iterable[str] = (), *, seed: int = 0, ahead: int = 1024
    ) -> None:
        self.world, self.controller = world, controller
        self.dice = random.Random(seed)
        self.rows = iter(rows or itertools.repeat("o/"))
        self.now = 0.0
        self.seconds: list[Second] = []
        self.by_prefix: dict[str, int] = {}
        self.buckets = {prefix: Bucket(limit, world.burst) for prefix, limit in world.limits.items()}
        self.pressed: dict[str, float] = {}
        self.in_flight = self.peak = 0
        self._ahead = ahead
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._waiting: dict[str, deque[tuple[str, int]]] = {}
        self._retries: deque[tuple[str, int]] = deque()
        self._paid: dict[str, float] = {}
        self._workers: list[float] = []
        self._cpu_free = self._cpu_used = 0.0
        self._alarms: set[str] = set()

    def run(self, seconds: float) -> Play:
        self.seconds = [Second() for _ in range(math.ceil(seconds))]
        for at, prefix, limit in self.world.changes:
            self._at(at, lambda prefix=prefix, limit=limit: self._change(prefix, limit))
        self._at(0.0, self._tick)
        while self._events and self._events[0][0] < seconds:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self

    # --- figures ------------------------------------------------------------------------------------------------

    def goodput(self, begin: int, end: int) -> float:
        return sum(second.acknowledged for second in self.seconds[begin:end]) / (end - begin)

    def refused(self, begin: int, end: int) -> float:
        """The share of requests that were throttled."""
        seconds = self.seconds[begin:end]
        return sum(second.throttled for second in seconds) / max(1, sum(second.answered for second in seconds))

    def unrest(self, begin: int, end: int) -> float:
        """How much the goodput of a second differs from that of the next, as a share of it."""
        goodputs = [second.acknowledged for second in self.seconds[begin:end]]
        return sum(abs(a - b) for a, b in itertools.pairwise(goodputs)) / max(1, sum(goodputs[1:]))

    # --- the client -----------------------------------------------------------------------------------------------

    def _at(self, at: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), event))

    def _tick(self) -> None:
        late = max(0.0, self._cpu_free - self.now)
        self.controller.look(
            self.now, self.in_flight, self._cpu_used, late, {group: len(rows) for group, rows in self._waiting.items()}
        )
        self._second().limits.append(self.controller.limit)
        self._send()
        self._at(self.now + max(TICK, late), self._tick)

    def _second(self) -> Second:
        return self.seconds[min(int(self.now), len(self.seconds) - 1)]

    def _send(self) -> None:
        """Send what may be sent; what its pace holds back waits, and others go ahead."""
        controller = self.controller
        for group in list(self._waiting):
            self._release(group)
        while self.in_flight < controller.limit:
            row = self._retries.popleft() if self._retries else None
            if row is None:
                if sum(map(len, self._waiting.values())) >= self._ahead:
                    return
                prefix = next(self.rows, None)
                if prefix is None:
                    return
                row = (prefix, 1)
            group = controller.group_of(row[0])
            if self._waiting.get(group) or not self._may(row[0], group):
                self._waiting.setdefault(group, deque()).append(row)
                self._set_alarm(group)
                if len(self._waiting) == 1 and len(self._waiting[group]) >= controller.limit:
                    return
            else:
                self._start(row)

    def _release(self, group: str) -> None:
        waiting = self._waiting[group]
        while waiting and self.in_flight < self.controller.limit and self._may(waiting[0][0], group):
            self._start(waiting.popleft())
        if waiting:
            self._set_alarm(group)

    def _set_alarm(self, group: str) -> None:
        if group not in self._alarms:
            self._alarms.add(group)
            self._at(max(self.now + 0.002, self._paid.get(group, 0.0)), lambda: self._ring(group))

    def _ring(self, group: str) -> None:
        self._alarms.discard(group)
        if self._waiting.get(group):
            self._release(group)
        self._send()

    def _may(self, prefix: str, group: str) -> bool:
        cap = self.controller.cap_of(prefix)
        if cap is None:
            return True
        paid = self._paid.get(group, 0.0)
        if paid > self.now:
            return False
        self._paid[group] = max(paid, self.now - 0.05) + 1 / cap
        return True

    def _start(self, row: tuple[str, int]) -> None:
        world = self.world
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self._cpu_free = max(self._cpu_free, self.now) + world.cpu_each
        self._cpu_used += world.cpu_each
        begun = self.now
        self._at(self._cpu_free + world.latency / 4, lambda: self._arrive(row, begun))

    def _end(self, row: tuple[str, int], begun: float, *, throttled: bool) -> None:
        self.in_flight -= 1
        second, (prefix, attempt) = self._second(), row
        second.answered += 1
        if throttled:
            second.throttled += 1
            delay = self.dice.random() * min(20.0, 2.0 ** (attempt - 1))
            self._at(self.now + delay, lambda: self._again((prefix, attempt + 1)))
        else:
            second.acknowledged += 1
            self.by_prefix[prefix] = self.by_prefix.get(prefix, 0) + 1
        self.controller.ended(prefix, acknowledged=not throttled, throttled=throttled, latency=self.now - begun)
        self._send()

    def _again(self, row: tuple[str, int]) -> None:
        self._retries.append(row)
        self._send()

    # --- the server -----------------------------------------------------------------------------------------------

    def _change(self, prefix: str, limit: float) -> None:
        self.buckets[prefix].limit = limit

    def _arrive(self, row: tuple[str, int], begun: float) -> None:
        world, dice = self.world, self.dice
        bucket = self.buckets.get(row[0])
        refused = (bucket is not None and not bucket.take(self.now)) or (
            world.always > 0 and dice.random() < world.always
        )
        if refused:
            if bucket is not None:
                self._press(row[0], bucket)
            self._at(self.now + world.latency * 3 / 4, lambda: self._end(row, begun, throttled=True))
            return
        takes = world.latency * 3 / 4
        if world.tail:
            takes *= dice.lognormvariate(0, world.tail)
        start = self.now
        if world.capacity < math.inf:
            if len(self._workers) >= max(1, round(world.capacity * world.latency * 3 / 4)):
                start = max(start, heapq.heappop(self._workers))
            heapq.heappush(self._workers, start + takes)
        self._at(start + takes, lambda: self._end(row, begun, throttled=False))

    def _press(self, prefix: str, bucket: Bucket) -> None:
        """Count the seconds in which something was refused; after so many the limit doubles."""
        second = int(self.now)
        if self.pressed.get(f"{prefix} last") != second:
            self.pressed[f"{prefix} last"] = second
            self.pressed[prefix] = self.pressed.get(prefix, 0.0) + 1
            if self.pressed[prefix] >= self.world.split_after:
                self.pressed[prefix] = 0.0
                bucket.limit *= 2


class Recipe:
    """The plain recipe to be beaten.

    Windows of max(1 s, 2 p50) with at least 30 completions; 32, doubling while the goodput rises by 10 %, then +5 %
    while it rises by 2 %, settled after three flat windows, a probe every 30 s; frozen while the loop is late. Throttles
    under 1 % hold, to 5 % times 0.9, above times 0.7, with a cap of the rate at 0.95 of the goodput that grows back by CUBIC.
    """

    def __init__(self, most: int) -> None:
        self.limit, self._most = 32, most
        self.cap: float | None = None
        self._goal = self._since = self._last = 0.0
        self._begun, self._late, self._probe_at = 0.0, 0.0, math.inf
        self._acknowledged = self._throttled = self._flat = 0
        self._latencies: list[float] = []
        self._doubling = True

    def cap_of(self, prefix: str) -> float | None:
        return self.cap

    def group_of(self, prefix: str) -> str:
        return ""

    def ended(self, prefix: str, *, acknowledged: bool, throttled: bool, latency: float) -> None:
        self._acknowledged += acknowledged
        self._throttled += throttled
        self._latencies.append(latency)

    def look(self, at: float, in_flight: int, cpu: float, late: float, waiting: dict[str, int]) -> None:
        self._late = max(self._late, late)
        if self.cap is not None:  # https://www.rfc-editor.org/rfc/rfc9438: C = 0.4 and beta = 0.7, in units of its own
            k = (0.05 / 0.0148) ** (1 / 3)
            self.cap = max(4.0, self._goal * (1 + 0.0148 * (at - self._since - k) ** 3))
        count, span = len(self._latencies), at - self._begun
        if count < 30 or span < max(1.0, 2 * sorted(self._latencies)[count // 2]):
            return
        goodput, share = self._acknowledged / span, self._throttled / count
        if share > 0.01:
            self.limit = max(4, int(self.limit * (0.7 if share > 0.05 else 0.9)))
            if share > 0.05:
                self.cap, self._goal, self._since = max(4.0, 0.95 * goodput), goodput, at
            self._doubling = False
        elif not self._throttled and self._late <= 0.05:
            self._grow(at, goodput)
        self._last, self._begun, self._late = goodput, at, 0.0
        self._acknowledged = self._throttled = 0
        self._latencies.clear()

    def _grow(self, at: float, goodput: float) -> None:
        if self._doubling and goodput >= 1.1 * self._last:
            self.limit = min(self._most, self.limit * 2)
            return
        self._doubling = False
        if self._flat < 3:
            self._flat = 0 if goodput >= 1.02 * self._last else self._flat + 1
            self._probe_at = at + 30
        elif at < self._probe_at:
            return
        else:
            self._flat = 0
        self.limit = min(self._most, math.ceil(self.limit * 1.05))


class Ours:
    """asyncup's level."""

    def __init__(self, most: int) -> None:
        self.level = Level(most)
        self.took = 0.0
        self.acknowledged = self.throttled = self.answered = 0

    @property
    def limit(self) -> int:
        return self.level.limit

    def group_of(self, prefix: str) -> str:
        account = self.level.accounts.get(prefix)
        return prefix if account is not None and account.is_apart else ""

    def cap_of(self, prefix: str) -> float | None:
        group = self.group_of(prefix)
        return (self.level.accounts[group] if group else self.level.rest).pace.cap

    def ended(self, prefix: str, *, acknowledged: bool, throttled: bool, latency: float) -> None:
        self.acknowledged += acknowledged
        self.throttled += throttled
        self.answered += 1
        self.took += latency if acknowledged else 0.0
        if self.level.is_counting:
            account = self.level.account_of(prefix)
            account.acknowledged += acknowledged
            account.throttled += throttled
            account.answered += 1

    def look(self, at: float, in_flight: int, cpu: float, late: float, waiting: dict[str, int]) -> None:
        level = self.level
        level.rest.waiting = waiting.get("", 0)
        for prefix, account in level.accounts.items():
            account.waiting = waiting.get(prefix, 0)
        now = Sample(at, self.acknowledged, self.answered, self.took, in_flight, cpu, late)
        level.look(now, self.throttled)
