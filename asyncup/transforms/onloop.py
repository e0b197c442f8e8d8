"""Transforms on the event loop: `async def`, and plain functions that are over at once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Sequence
from time import perf_counter
from typing import Any

from asyncup.errors import RowRefused
from asyncup.flow.ending import is_being_cancelled
from asyncup.model import Products, Row
from asyncup.transforms.calls import called, too_slow
from asyncup.transforms.failures import Failure, failure, said
from asyncup.transforms.finding import Found
from asyncup.transforms.pace import Pace, spelled
from asyncup.transforms.products import products
from asyncup.transforms.record import View

#: What holds the loop longer than this is told.
HOLDS = 0.005
#: Calls of plain functions go on that long before others have their turn.
_TURN = 0.002
#: What fails a row here. Not KeyboardInterrupt: in the main thread it is Ctrl-C, where nobody else has taken care of that.
_FAILS = (Exception, SystemExit, GeneratorExit, asyncio.CancelledError)


class AwaitedOnLoop:
    """An `async def`: as many calls at once as there are places, each with its own timeout."""

    def __init__(
        self, found: Found, view: View, *, places: int, timeout: float | None, say: Callable[[str], None]
    ) -> None:
        self._found = found
        self._view = view
        self._timeout = timeout
        self._say = say
        self._pace = Pace(HOLDS)  # the rows of a portion go one after the other, so only quick ones share one
        self._told = False
        self.places = places

    @property
    def portion(self) -> tuple[int, int]:
        """Rows and bytes of one call of `apply`."""
        return self._pace.portion

    async def apply(self, rows: Sequence[Row]) -> list[Products | RowRefused]:
        """What becomes of each row."""
        begun = perf_counter()
        made = [await self._one(row) for row in rows]
        self._pace.add(len(rows), perf_counter() - begun)
        return made

    async def _one(self, row: Row) -> Products | RowRefused:
        name = self._found.name
        steps = _Steps()
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return products(await steps.of(self._found.function(self._view(row))))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the user's function may raise anything
            if isinstance(exc, TimeoutError) and limit.expired():
                return too_slow(self._timeout or 0).error(name)
            return failure(exc).error(name)
        except asyncio.CancelledError as exc:
            if is_being_cancelled():
                raise
            return Failure(said(exc), "something that it waited for was cancelled").error(name)
        finally:
            if steps.longest > HOLDS and not self._told:
                self._told = True
                self._say(
                    f"transform {name} held the event loop for {spelled(steps.longest)}: nothing else went on "
                    "meanwhile; as a plain def it runs in threads or processes"
                )

    async def close(self) -> None:
        """Nothing to end: calls end with the tasks that make them."""


class _Steps:
    """Times the steps of a coroutine between its waits."""

    def __init__(self) -> None:
        self.longest = 0.0

    def of(self, awaitable: Any) -> Any:
        """The same awaitable, with its steps timed."""
        if not inspect.iscoroutine(awaitable):
            return awaitable
        self._coroutine = awaitable
        return self

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        step: Callable[[Any], Any] = coroutine.send
        given: Any = None
        while True:
            begun = perf_counter()
            try:
                waited = step(given)
            except StopIteration as end:
                return end.value
            finally:
                self.longest = max(self.longest, perf_counter() - begun)
            try:
                yield waited
                step, given = coroutine.send, None
            except BaseException as exc:  # noqa: BLE001 - the coroutine's own business
                step, given = coroutine.throw, exc


class CalledOnLoop:
    """A plain function, called right on the loop, where it was asked for: nothing else goes on during a call."""

    places = 1

    def __init__(
        self,
        found: Found,
        view: View,
        *,
        timeout: float | None,
    ) -> None:
        self._found = found
        self._view = view
        self._timeout = timeout
        self._pace = Pace()

    @property
    def portion(self) -> tuple[int, int]:
        """Rows and bytes of one call of `apply`."""
        return self._pace.portion

    async def apply(self, rows: Sequence[Row]) -> list[Products | RowRefused]:
        """What becomes of each row; others have a turn every 2 ms."""
        made: list[Products | RowRefused] = []
        first = turn = perf_counter()
        for row in rows:
            begun = perf_counter()
            if begun - turn > _TURN:
                await asyncio.sleep(0)
                begun = turn = perf_counter()
            one = called(self._found.function, self._view, row, _FAILS)
            took = perf_counter() - begun
            if self._timeout is not None and took > self._timeout:
                one = too_slow(self._timeout)
            made.append(one.error(self._found.name) if isinstance(one, Failure) else one)
        self._pace.add(len(made), perf_counter() - first)
        return made

    async def close(self) -> None:
        """Nothing to end."""
