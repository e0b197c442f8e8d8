"""What a run has done so far beside settling rows: attempts, retries, throttled answers, latencies."""

from __future__ import annotations

from asyncup.errors import AsyncupError, Throttled
from asyncup.flow.histogram import Histogram


class Tally:
    """Plain numbers that the senders add to, read by whoever shows or reports them."""

    def __init__(self) -> None:
        self.attempts = 0
        self.retries = 0
        self.throttled = 0
        #: Seconds of the attempts that were acknowledged.
        self.latency = Histogram()

    def retry(self, error: AsyncupError) -> None:
        """Take down `error`, which is to be followed by one more try. That counts among `retries` when it is sent."""
        if isinstance(error, Throttled):
            self.throttled += 1
