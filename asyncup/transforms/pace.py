"""How many rows travel together, and what calls have cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: What a portion is to take, in seconds: its way costs next to nothing of that, and few rows wait for each other.
_PORTION_SECONDS = 0.015
_MOST_ROWS = 512
_MOST_BYTES = 4 << 20


class Pace:
    """How many rows make a good portion: what took about 15 ms until now, never more than double the last."""

    def __init__(self, seconds: float = _PORTION_SECONDS, most_rows: int = _MOST_ROWS) -> None:
        self._seconds = seconds
        self._most_rows = most_rows
        self._mean: float | None = None
        self._rows = 1

    @property
    def portion(self) -> tuple[int, int]:
        """Rows, and bytes of their bodies."""
        return self._rows, _MOST_BYTES

    def add(self, rows: int, seconds: float) -> None:
        """Learn from a portion."""
        if not rows:
            return
        each = max(seconds / rows, 1e-7)
        self._mean = each if self._mean is None else 0.7 * self._mean + 0.3 * each
        self._rows = max(1, min(int(self._seconds / self._mean), 2 * self._rows, self._most_rows))


@dataclass(slots=True)
class Spent:
    """What calls have cost: how many there were, their seconds on the clock and on a core, and the longest of them."""

    calls: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    longest: float = 0.0

    def add(self, other: Spent) -> None:
        """Count others too."""
        self.calls += other.calls
        self.wall += other.wall
        self.cpu += other.cpu
        self.longest = max(self.longest, other.longest)

    def __str__(self) -> str:
        each, of_it = self.wall / max(1, self.calls), self.cpu / max(1, self.calls)
        return f"{spelled(each)} a call, {spelled(of_it)} of it on a core, the longest {spelled(self.longest)}"


def spelled(seconds: float) -> str:
    """Seconds with two digits that matter: 1.2 s, 3.4 ms, 56 µs."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    if seconds >= 0.001:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} µs"
