"""How late the event loop comes to what is due: the time for which something held it, and nothing could be sent.

A timer that is due twenty times a second costs nothing, and sees whatever holds the loop for longer than that.
"""

from __future__ import annotations

import asyncio

from asyncup.flow.histogram import Histogram

#: Seconds between two looks.
EVERY = 0.05


class Lag:
    """A meter, from `begin` to `end`. `recent` is the worst since somebody last took it, `most` the worst of all; seconds."""

    def __init__(self) -> None:
        self.latenesses = Histogram()
        self.most = self._recent = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Look from now on, on the loop that runs."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + EVERY
        self._timer = loop.call_at(self._due, self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take_recent(self) -> float:
        """The worst since this was last asked for."""
        recent, self._recent = self._recent, 0.0
        return recent

    def _look(self) -> None:
        late = max(0.0, asyncio.get_running_loop().time() - self._due)
        self.latenesses.record(late)
        self.most, self._recent = max(self.most, late), max(self._recent, late)
        self.begin()
