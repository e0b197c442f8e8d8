"""What a run has done so far: plain integers that the senders add to, read by whoever shows or reports them."""

from __future__ import annotations

from asyncup.errors import AsyncupError, Throttled
from asyncup.flow.histogram import Histogram
from asyncup.model import Counts, Outcome


class Tally:
    """Settled rows by outcome, acknowledged bytes, attempts, retries, throttled answers, latencies."""

    def __init__(self) -> None:
        self.outcomes = [0] * len(Outcome)
        self.bytes = 0
        self.attempts = 0
        self.retries = 0
        self.throttled = 0
        self.latency = Histogram()

    def settle(self, outcome: Outcome, size: int = 0) -> None:
        self.outcomes[outcome] += 1
        self.bytes += size

    def retry(self, error: AsyncupError) -> None:
        """Count one more try after `error`."""
        self.retries += 1
        if isinstance(error, Throttled):
            self.throttled += 1

    def counts(self) -> Counts:
        put, skipped, failed = self.outcomes
        return Counts(put, skipped, failed, self.bytes)
