"""What has to come to its end, whoever is cancelled meanwhile, and how long an interrupted run leaves it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

R = TypeVar("R")

#: Seconds for such an ending: beyond the drain, since the second signal, and in any case.
_DRAIN_SECONDS = 1.0
_ABORT_SECONDS = 0.8
_LEAST_SECONDS = 0.1


async def to_its_end(ending: Coroutine[Any, Any, R], name: str | None = None) -> R:
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


class Grace:
    """How long an ending may take: after the first signal what is left of the drain, after the second hardly anything.

    Tell `interrupted` of every signal; what is under way then is shortened.
    """

    def __init__(self, drain_timeout: float = 0.0) -> None:
        self._drain_timeout = drain_timeout
        self._end = float("inf")
        self._limits: set[asyncio.Timeout] = set()

    @contextlib.asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncGenerator[None]:
        """As `asyncio.timeout`, of so many seconds at most."""
        now = asyncio.get_running_loop().time()
        async with asyncio.timeout_at(min(now + seconds, max(self._end, now + _LEAST_SECONDS))) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)

    def interrupted(self, requests: int) -> None:
        """The run was asked to stop, for the so manieth time."""
        seconds = self._drain_timeout + _DRAIN_SECONDS if requests == 1 else _ABORT_SECONDS
        self._end = min(self._end, asyncio.get_running_loop().time() + seconds)
        for limit in self._limits:
            if (when := limit.when()) is not None and when > self._end:
                with contextlib.suppress(RuntimeError):  # it has ended already
                    limit.reschedule(self._end)
