"""What happened when, in bounded memory: spans of time with sums and maxima, which grow as a run does.

However long a run takes, there are at most a thousand of them: when they are too many, each two neighbours become one. Sums stay
exact, and so do maxima, and percentiles are as good as the spread that they are read from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

#: Spans that are kept, and that a curve is drawn from: more than there are pixels tell nothing.
KEPT, DRAWN = 1000, 240
#: Seconds that a span has at least, at first. Progress comes four times a second.
LEAST = 0.2
#: Of a spread of durations each bound is so much above the one before: four in an octave. What has no bound took twelve days.
BOUNDS_APART, UNBOUNDED = 2**0.25, 2.0**20


@dataclass(slots=True)
class Span:
    """What happened between two moments, in seconds since the run began.

    `in_flight`, `limit`, `memory` and `lag` are the most there was; `latencies` how many attempts took up to so many seconds.
    """

    begin: float
    end: float
    put: int = 0
    rows: int = 0
    bytes: int = 0
    retries: int = 0
    throttled: int = 0
    in_flight: int = 0
    limit: int = 0
    memory: int = 0
    lag: float = 0.0
    latencies: dict[float, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def take(self, later: Span) -> None:
        """Become one with the span that follows."""
        self.end = later.end
        self.put += later.put
        self.rows += later.rows
        self.bytes += later.bytes
        self.retries += later.retries
        self.throttled += later.throttled
        self.in_flight = max(self.in_flight, later.in_flight)
        self.limit = max(self.limit, later.limit)
        self.memory = max(self.memory, later.memory)
        self.lag = max(self.lag, later.lag)
        for bound, count in later.latencies.items():
            self.latencies[bound] = self.latencies.get(bound, 0) + count

    def rate(self, what: str) -> float | None:
        """So much of it a second; None for a span without length."""
        amount: int = getattr(self, what)
        return amount / self.seconds if self.seconds > 0 else None


class Timeline:
    """Spans, one after another; `kept` of them at most."""

    def __init__(self, kept: int = KEPT, least: float = LEAST) -> None:
        self._spans: list[Span] = []
        self._kept = kept
        self._least = least

    def add(self, span: Span) -> None:
        """Take in what happened since the last span's end."""
        if self._spans and self._spans[-1].seconds < self._least:
            self._spans[-1].take(span)
            return
        self._spans.append(span)
        if len(self._spans) > self._kept:
            self._spans = list(_joined(self._spans, 2))
            self._least *= 2

    @property
    def end(self) -> float | None:
        """Where the last span ends."""
        return self._spans[-1].end if self._spans else None

    def spans(self, most: int = DRAWN) -> list[Span]:
        """At most so many spans. A last one that is much shorter than the others is part of the one before."""
        found = list(_joined(self._spans, -(-len(self._spans) // most) or 1))
        if len(found) > 1 and found[-1].seconds < found[0].seconds / 2:
            last = found.pop()
            found[-1].take(last)
        return found


def _joined(spans: Sequence[Span], together: int) -> Iterator[Span]:
    for first in range(0, len(spans), together):
        span = replace(spans[first], latencies=dict(spans[first].latencies))
        for later in spans[first + 1 : first + together]:
            span.take(later)
        yield span


def percentile(latencies: Mapping[float, int], share: float) -> float | None:
    """The seconds that `share` (0 to 1) of the durations do not exceed, to some ten per cent; None when there are none."""
    wanted, seen = share * sum(latencies.values()), 0
    for bound, count in sorted(latencies.items()):
        if count and seen + count >= wanted:
            return float(min(bound, UNBOUNDED) / BOUNDS_APART ** (1 - (wanted - seen) / count))
        seen += count
    return None
