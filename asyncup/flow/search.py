"""How many requests in flight bring the most, found by trying: more, as long as more brings more.

Starts at 32 and doubles while the goodput rises by a tenth, in windows of two latencies, since a doubling that pays
shows at once. Then small steps, each of which has to pay for itself, and a look every half a minute whether that has
changed. What the limit does not hold back tells nothing about it: then nothing is tried.

Requests that were sent together come back together, so a short window would count one wave too many or too few. Goodput is
therefore what Little's law says: so many in flight, each for so long.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

START = 32
#: Never fewer in flight.
LEAST = 4
#: What doubling has to bring, and what a step of a tenth has to.
DOUBLING_PAYS, STEP, STEP_PAYS = 1.10, 1.10, 1.02
#: What a probe of a quarter more has to bring, among the ups and downs of half a minute.
PROBE, PROBE_PAYS, PROBE_SECONDS = 1.25, 1.05, 30.0
#: A step that brings so much of what it could is followed by a doubling.
MOSTLY = 0.8
#: Steps that brought nothing before the level is found.
FLAT = 3
COMPLETIONS = 30
FAST_SECONDS, CALM_SECONDS = 0.1, 1.0
#: Share of one core's time from which on the event loop is the limit; and the share of the time in which it was late,
#: as it is when 25 ms between two looks become 75.
BUSY, LATE = 0.92, 0.6
#: Share of the looks at which the limit is used up, from which on it is what holds the run back.
FULL = 0.5
#: In flight for each one that a rate leaves in flight: room for answers that take longer.
HEADROOM = 2.0


class Sample(NamedTuple):
    """What there is to see at one moment; sums since the start of the run.

    Attributes:
        at: seconds, monotonic.
        acknowledged: attempts that succeeded.
        answered: attempts that ended, in whatever way.
        took: seconds that those which succeeded took, together.
        in_flight: attempts that are under way now.
        cpu: seconds of CPU time of the thread that the event loop runs in.
        late: seconds by which the loop was late since the last sample.
    """

    at: float
    acknowledged: int
    answered: int
    took: float
    in_flight: int
    cpu: float = 0.0
    late: float = 0.0


class Phase(Enum):
    """Where the search is."""

    DOUBLING = "doubling"
    STEPPING = "stepping"
    SETTLED = "settled"
    PROBING = "probing"


class Search:
    """`limit` follows what pays, from 32 on and up to `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(START, most)
        self.phase = Phase.DOUBLING
        #: Whether this machine is what limits the run: then more in flight brings only waiting.
        self.is_busy = False
        #: Whether the limit holds the run back.
        self.is_full = False
        self.latency = 0.0
        self._paid = 0.0  # the goodput at the last limit that paid
        self._last = self.limit  # that limit
        self._flat = 0
        self._probe_at = float("inf")
        self._from: Sample | None = None
        self._not_before = float("-inf")
        self._looks = self._seen = self._full = self._most_seen = 0
        self._late = 0.0

    def look(self, now: Sample) -> None:
        """Take one more look; at the end of a window, decide."""
        first = self._from
        if first is None:
            if now.at >= self._not_before:
                self._from = now
            return
        self._looks += 1
        self._seen += now.in_flight
        self._most_seen = max(self._most_seen, now.in_flight)
        self._full += now.in_flight >= 0.9 * self.limit
        self._late += now.late
        span, answered = now.at - first.at, now.answered - first.answered
        floor = FAST_SECONDS if self.phase is Phase.DOUBLING else CALM_SECONDS
        if answered < COMPLETIONS or span < floor:
            return
        acknowledged, in_flight = now.acknowledged - first.acknowledged, self._seen / self._looks
        latency = in_flight * span / answered
        if acknowledged:
            latency = (now.took - first.took) / acknowledged
        if span < 2 * latency:
            return
        self.latency = latency
        self.is_full = self._full >= FULL * self._looks
        self.is_busy = self._late > LATE * span or now.cpu - first.cpu > BUSY * span
        before = self.limit
        self._decide(now.at, in_flight / max(1e-6, latency) * acknowledged / answered)
        # what comes back at first was sent under the limit before
        self._begin(now.at + (latency if self.limit != before else 0.0))

    def allow(self, most: int) -> None:
        """More may be in flight than before: where that was the bound, find out whether it pays."""
        if self.limit >= self.most:
            self.phase, self._paid, self._last, self._flat = Phase.DOUBLING, 0.0, self.limit, 0
        self.most = most

    def _begin(self, at: float) -> None:
        self._from, self._not_before = None, at
        self._looks = self._seen = self._full = self._most_seen = 0
        self._late = 0.0

    def _decide(self, at: float, goodput: float) -> None:
        if not self.is_full:
            if self.phase is Phase.PROBING:
                self._settle(at)
            self._follow()
        elif self.is_busy:
            self._freeze(at, goodput)
        elif self.phase is Phase.DOUBLING:
            self._double(goodput)
        elif self.phase is Phase.STEPPING:
            self._step(at, goodput)
        elif self.phase is Phase.SETTLED:
            self._paid += 0.2 * (goodput - self._paid)
            if at >= self._probe_at:
                self.phase, self._last = Phase.PROBING, self.limit
                self._raise(PROBE)
        elif goodput >= PROBE_PAYS * self._paid:
            self.phase, self._flat = Phase.STEPPING, 0
            self._paid, self._last = goodput, self.limit
            self._raise(STEP)
        else:
            self._settle(at)

    def _follow(self) -> None:
        """Something else holds the run back: leave it the room that it uses, and some more."""
        room = max(LEAST, int(HEADROOM * self._most_seen) + 1)
        if room < self.limit:
            self.limit = max(room, int(0.7 * self.limit))
            self.phase, self._paid, self._last, self._flat = Phase.DOUBLING, 0.0, self.limit, 0

    def _freeze(self, at: float, goodput: float) -> None:
        """Stay: this machine is the limit. A limit that has not paid is taken back, no other is tried."""
        if self.phase is Phase.PROBING or (self.limit > self._last and goodput < DOUBLING_PAYS * self._paid):
            self._settle(at)
        elif self.phase is Phase.DOUBLING:
            self._paid, self._last = goodput, self.limit

    def _double(self, goodput: float) -> None:
        if goodput >= DOUBLING_PAYS * self._paid or self.phase is not Phase.DOUBLING:
            self.phase = Phase.DOUBLING
            self._paid, self._last = goodput, self.limit
            self._raise(2.0)
        else:  # between the last one and this one
            self.phase, self._flat = Phase.STEPPING, 0
            self.limit = self._last
            self._raise(PROBE)

    def _step(self, at: float, goodput: float) -> None:
        if goodput >= self._paid * (1 + MOSTLY * (self.limit / self._last - 1)):
            self._double(goodput)
        elif goodput >= STEP_PAYS * self._paid:
            self._paid, self._last, self._flat = goodput, self.limit, 0
            self._raise(STEP)
        else:
            self._flat += 1
            if self._flat >= FLAT:
                self._settle(at)

    def _settle(self, at: float) -> None:
        self.phase, self.limit, self._probe_at = Phase.SETTLED, self._last, at + PROBE_SECONDS

    def _raise(self, factor: float) -> None:
        self.limit = min(self.most, max(self.limit + 1, int(self.limit * factor)))
