"""What has to come to its end, whoever is cancelled meanwhile, and how long an interrupted run leaves it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")

#: Seconds for such an ending, in any case.
_LEAST_SECONDS = 0.1


async def to_its_end(ending: Coroutine[Any, Any, R], name: str) -> R:
    """The result of what has a deadline of its own. Whoever waits for it is cancelled only after it, not instead of it.

    `name` is that of its task.
    """
    task = asyncio.create_task(ending, name=name)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen; the cancellation says more
        raise cancelled
    return task.result()


def is_being_cancelled() -> bool:
    """Whether the task that runs is cancelled itself, and not only what it waits for, by something of that one's own."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class Grace:
    """How long an ending may take: after the first signal what is left of the drain, after the second hardly anything.

    That is `beyond` seconds behind the drain's end, and `abort` seconds since the second signal. Tell `interrupted` of
    every signal; what is under way then is shortened.
    """

    def __init__(self, drain_timeout: float = 0.0, *, beyond: float = 1.0, abort: float = 0.8) -> None:
        self._seconds = drain_timeout + beyond, abort
        self._end = float("inf")
        self._limits: set[asyncio.Timeout] = set()

    @property
    def left(self) -> float:
        """Seconds that an ending may still take; no bound while nobody asked the run to stop."""
        return max(_LEAST_SECONDS, self._end - asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncGenerator[None]:
        """As `asyncio.timeout`, of so many seconds at most."""
        async with asyncio.timeout(min(seconds, self.left)) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def interrupted(self, requests: int) -> None:
        """The run was asked to stop, for the so manieth time."""
        seconds = self._seconds[0 if requests == 1 else 1]
        self._end = min(self._end, asyncio.get_running_loop().time() + seconds)
        for limit in self._limits:
            if (when := limit.when()) is not None and when > self._end:
                with contextlib.suppress(RuntimeError):  # it has ended already
                    limit.reschedule(self._end)
