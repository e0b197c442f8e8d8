"""The sink of a dry run, where what is before it is all that there is to try: it reads every upload, and sends none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asyncup.sinks.null import NullSink


class UnsentSink(NullSink):
    """Takes uploads as the destination would. `check` and `close` are the destination's own."""

    def __init__(
        self, check: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._check = check
        self._close = close

    async def check(self) -> None:
        """See `Sink.check`."""
        await self._check()

    async def close(self) -> None:
        """See `Sink.close`."""
        if self._close is not None:
            await self._close()
