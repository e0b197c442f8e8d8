"""SIGUSR1: the live state of a run on stderr, as `dd` and others give it; the run goes on as if nobody had asked.

The event loop answers. Where a function of the user's holds it, nobody does; then another signal, half a second later, is answered
beside the loop, with what every thread executes. There is no such signal on Windows.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from asyncup.events import Event, LiveState
from asyncup.operations.states import States
from asyncup.operations.tasks import stacks, tasks_of, threads

#: Seconds after which a question that the loop has not answered is answered without it.
HELD_SECONDS = 0.5
#: Seconds in which nobody asks twice.
_AT_ONCE = 0.1
SIGNAL: int | None = getattr(signal, "SIGUSR1", None)


def unheard(_signum: int, _frame: FrameType | None) -> None:
    """For when there is nothing to tell. Without it the signal would end the process; programs that it starts do not inherit it."""


class Asking:
    """Who answers, of what `states` know; `tell` gets the answer."""

    def __init__(self, states: States, tell: Callable[[Event], None]) -> None:
        self._states = states
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._asked: float | None = None
        self._answered = float("-inf")

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Answer meanwhile."""
        if SIGNAL is None:
            yield
            return
        self._loop.add_signal_handler(SIGNAL, self._answer)
        signal.signal(SIGNAL, self._beside)  # the loop is woken by a descriptor, whatever handler there is
        try:
            yield
        finally:
            self._loop.remove_signal_handler(SIGNAL)
            signal.signal(SIGNAL, unheard)

    def _answer(self) -> None:
        now, self._asked = time.monotonic(), None
        if now - self._answered > _AT_ONCE:  # else it is one of several questions that have waited
            self._tell(self._state())
        self._answered = now

    def _beside(self, _signum: int, frame: FrameType | None) -> None:
        """What Python calls between two instructions of the main thread, before the loop comes to it."""
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
        elif now - self._asked > HELD_SECONDS:
            found = stacks(frame)
            try:
                self._tell(self._state(found))
            except Exception:  # noqa: BLE001 - who holds the loop may be writing to stderr: it must not meet our error
                with suppress(OSError):
                    os.write(2, "\n".join((*found, "")).encode(errors="replace"))

    def _state(self, found: tuple[str, ...] = ()) -> LiveState:
        states = self._states
        return LiveState(
            states.phase, states.seconds, states.job_states(), tasks_of(self._loop), threads(), stacks=found
        )
