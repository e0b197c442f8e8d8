"""What has happened since the start or the last reset: what a benchmark checks its own figures against."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Sums; `GET /-/counters` shows them. Requests below `/-/` are not counted, their connections are.

    `bytes` are those of complete bodies. `in_flight_peak` is the most answers that the latency held back at one time,
    `late_seconds` the sum of what they left too late by; both are 0 without a latency.
    """

    requests: dict[str, int] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    bytes: int = 0
    connections_opened: int = 0
    connections_open: int = 0
    connections_peak: int = 0
    in_flight_peak: int = 0
    late_seconds: float = 0.0
    cpu_start: float = field(default_factory=time.process_time)

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

    def reset(self) -> None:
        """Begin again from zero; connections that are open stay counted as open."""
        still_open = self.connections_open
        self.__init__()  # type: ignore[misc]
        self.connections_open = self.connections_peak = still_open

    def as_json(self) -> dict[str, Any]:
        """JSON values. `cpu_seconds` is the CPU time of the server itself, user and system."""
        return {
            "requests": self.requests,
            "answers": self.answers,
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
