"""Speed and time left, from progress events: over the last seconds, so that they follow what happens now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from asyncup.events import Progress
from asyncup.resolved import Plan

WINDOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Objects and bytes per second; seconds left and share done where the number of rows is estimated."""

    objects: float
    bytes: float
    eta: float | None
    share: float | None


class RateMeter:
    """Keeps the progress of the last seconds."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._window: deque[Progress] = deque()

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
            span, done, put, held = progress.seconds, progress.counts.rows, progress.counts.put, progress.counts.bytes
        else:
            done = progress.counts.rows - first.counts.rows
            put = progress.counts.put - first.counts.put
            held = progress.counts.bytes - first.counts.bytes
        if span <= 0:
            return Rates(0.0, 0.0, None, None)
        estimate = self._plan.estimated_rows
        eta = share = None
        if estimate:
            left = estimate - self._plan.settled_before - progress.counts.rows
            share = min(1.0, (self._plan.settled_before + progress.counts.rows) / estimate)
            eta = left / (done / span) if done and left > 0 else None
        return Rates(put / span, held / span, eta, share)
