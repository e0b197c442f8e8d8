"""What a run has done so far beside settling rows: attempts, retries, throttled answers, latencies."""

from __future__ import annotations

from collections import deque

from asyncup.errors import AsyncupError, Throttled
from asyncup.flow.histogram import Histogram

#: Looks at the latencies that a recent one goes back.
_LOOKS = 8


class Tally:
    """Plain numbers that the senders add to, read by whoever shows or reports them."""

    def __init__(self) -> None:
        self.attempts = 0
        self.retries = 0
        self.throttled = 0
        #: Requests of objects in parts that were acknowledged: such an object is one attempt, which may take an hour.
        self.parts = 0
        #: Seconds of the attempts that were acknowledged.
        self.latency = Histogram()
        self._looks: deque[Histogram] = deque([Histogram()], maxlen=_LOOKS)

    def recent_latency(self) -> Histogram:
        """What was acknowledged since eight calls ago: whoever shows progress calls four times a second."""
        recent = self.latency.since(self._looks[0])
        self._looks.append(self.latency.copy())
        return recent

    def part(self) -> None:
        """One more request of an object in parts was acknowledged."""
        self.parts += 1

    def retry(self, error: AsyncupError) -> None:
        """Take down `error`, which is to be followed by one more try. That counts among `retries` when it is sent."""
        if isinstance(error, Throttled):
            self.throttled += 1
