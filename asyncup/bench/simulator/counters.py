"""What has happened since the start or the last reset: what a benchmark checks its own figures against."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Sums; `GET /-/counters` shows them. Requests below `/-/` are not counted, their connections are.

    `bytes` are those of complete bodies. `in_flight_peak` is the most answers that the latency held back at one time,
    `late_seconds` the sum of what they left too late by; both are 0 without a latency. `answers` are those that were
    meant to arrive whole: a request that a fault took the answer from is counted among `requests` and `faults` alone.
    `throttled` are those that a limit refused; a `slowdown` that was drawn is a fault.
    """

    requests: dict[str, int] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    throttled: int = 0
    bytes: int = 0
    connections_opened: int = 0
    connections_open: int = 0
    connections_peak: int = 0
    in_flight_peak: int = 0
    late_seconds: float = 0.0
    cpu_start: float = field(default_factory=time.process_time)
    first_second: int = field(default_factory=lambda: int(time.time()))
    by_second: dict[int, tuple[int, int]] = field(default_factory=dict)
    _second: int = 0
    _before: tuple[int, int] = (0, 0)

    def opened(self) -> None:
        self.connections_opened += 1
        self.connections_open += 1
        self.connections_peak = max(self.connections_peak, self.connections_open)

    def closed(self) -> None:
        self.connections_open -= 1

    def answered(self, method: str, status: int, length: int) -> None:
        self.requests[method] = self.requests.get(method, 0) + 1
        self.answers[status] = self.answers.get(status, 0) + 1
        self.bytes += length

    def unanswered(self, method: str, length: int) -> None:
        """A request that gets no whole answer."""
        self.requests[method] = self.requests.get(method, 0) + 1
        self.bytes += length

    def fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1

    def second(self, now: int) -> None:
        """A second has begun: what was counted since the last call was of the one before.

        This is what makes counting by seconds cost nothing for each request.
        """
        if self._second:
            accepted = sum(number for status, number in self.answers.items() if 200 <= status < 300)
            before = self._before
            self._before = (accepted, self.throttled)
            earlier = self.by_second.get(self._second, (0, 0))
            self.by_second[self._second] = (
                earlier[0] + accepted - before[0],
                earlier[1] + self.throttled - before[1],
            )
        self._second = now

    def reset(self) -> None:
        """Begin again from zero; connections that are open stay counted as open."""
        still_open = self.connections_open
        self.__init__()  # type: ignore[misc]
        self.connections_open = self.connections_peak = still_open
        self._second = self.first_second

    def as_json(self) -> dict[str, Any]:
        """JSON values. `cpu_seconds` is the CPU time of the server itself, user and system.

        `accepted_by_second` and `throttled_by_second` have a number for each second of the wall clock that has begun
        since the start; the first and the last of them are no whole seconds.
        """
        self.second(int(time.time()))
        seconds = [
            self.by_second.get(second, (0, 0))
            for second in range(self.first_second, max(self.by_second, default=0) + 1)
        ]
        return {
            "requests": self.requests,
            "answers": self.answers,
            "faults": self.faults,
            "throttled": self.throttled,
            "accepted_by_second": [accepted for accepted, _ in seconds],
            "throttled_by_second": [throttled for _, throttled in seconds],
            "bytes": self.bytes,
            "connections": {
                "opened": self.connections_opened,
                "open": self.connections_open,
                "peak": self.connections_peak,
            },
            "in_flight_peak": self.in_flight_peak,
            "late_seconds": self.late_seconds,
            "cpu_seconds": time.process_time() - self.cpu_start,
        }
