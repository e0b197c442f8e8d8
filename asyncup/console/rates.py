"""Speed and time left, from progress events: over the last seconds, so that they follow what happens now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from asyncup.events import Progress
from asyncup.resolved import Plan

WINDOW_SECONDS = 5.0
#: What is left is reckoned from more, or it would go up and down with every page.
ETA_SECONDS = 30.0
#: The first pages say nothing of the others.
EARLY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Objects and bytes per second, or rows that are compared; seconds left and share done where the number of rows is estimated."""

    objects: float
    bytes: float
    eta: float | None
    share: float | None


class RateMeter:
    """Keeps the progress of the last seconds."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._window: deque[Progress] = deque()
        #: seconds and rows, for longer
        self._rows: deque[tuple[float, int]] = deque()

    @property
    def counted(self) -> str:
        """What the rate of objects is one of, as people say it."""
        return self._plan.counted

    @property
    def sends(self) -> bool:
        """Whether rows are put, and not only compared."""
        return self._plan.settles == "put"

    def add(self, progress: Progress) -> Rates:
        """Take one more event in and give the rates as they are now."""
        window = self._window
        window.append(progress)
        while len(window) > 2 and progress.seconds - window[0].seconds > WINDOW_SECONDS:
            window.popleft()
        first = window[0]
        span = progress.seconds - first.seconds
        if len(window) < 2 or span <= 0:
            span, put, held = progress.seconds, self._done(progress), progress.counts.bytes
        else:
            put = self._done(progress) - self._done(first)
            held = progress.counts.bytes - first.counts.bytes
        if span <= 0:
            return Rates(0.0, 0.0, None, None)
        estimate = self._plan.estimated_rows
        eta = share = None
        if estimate:
            left = estimate - self._plan.settled_before - progress.counts.rows
            share = min(1.0, (self._plan.settled_before + progress.counts.rows) / estimate)
            speed = self._speed(progress)
            eta = left / speed if speed and left > 0 and progress.seconds >= EARLY_SECONDS else None
        return Rates(put / span, held / span, eta, share)

    def _done(self, progress: Progress) -> int:
        return progress.counts.put if self.sends else progress.counts.rows

    def _speed(self, progress: Progress) -> float:
        """Rows a second, settled one way or another."""
        rows = self._rows
        rows.append((progress.seconds, progress.counts.rows))
        while len(rows) > 2 and progress.seconds - rows[0][0] > ETA_SECONDS:
            rows.popleft()
        seconds, settled = rows[0] if progress.seconds > rows[0][0] else (0.0, 0)
        return (progress.counts.rows - settled) / (progress.seconds - seconds) if progress.seconds > seconds else 0.0
