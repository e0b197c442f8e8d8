"""Transforms in threads of our own, bounded, and replaced where a call does not come back.

A thread cannot be ended from outside. A row that takes longer than it may fails, its thread is left to itself, and
another one goes on with the rows behind it; where too many are left like that, the run ends and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from time import monotonic, perf_counter, thread_time

from asyncup.errors import RowRefused, TransformBroken
from asyncup.model import Products, Row
from asyncup.transforms.calls import called, too_slow
from asyncup.transforms.failures import Failure
from asyncup.transforms.finding import Found
from asyncup.transforms.pace import Pace, Spent
from asyncup.transforms.record import View

#: So many threads for each place may hang in calls that took too long.
_LEFT = 8


class InThreads:
    """A plain function in up to `places` threads, each with a portion of rows at a time."""

    def __init__(
        self,
        found: Found,
        view: View,
        *,
        places: int,
        timeout: float | None,
        say: Callable[[str], None] = lambda _: None,
        spent: Callable[[Spent], None] = lambda _: None,
    ) -> None:
        self._found = found
        self._view = view
        self._timeout = timeout
        self._say = say
        self._spent = spent
        self._pace = Pace()
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Portion | None] = queue.SimpleQueue()
        self._portions: set[_Portion] = set()
        self._threads = 0  # that take portions
        self._left = 0  # that hang in a call which took too long
        self._told = False
        self._gone = asyncio.Event()
        self._closing = False
        self._most = places
        self.places = 2 * places  # one portion in work and one that waits for it, so that no thread waits

    @property
    def portion(self) -> tuple[int, int]:
        """Rows and bytes of one call of `apply`."""
        return self._pace.portion

    async def apply(self, rows: Sequence[Row]) -> list[Products | RowRefused]:
        """What becomes of each row.

        Raises:
            TransformBroken: too many calls have not come back.
        """
        portion = _Portion(rows, self._loop.create_future())
        self._portions.add(portion)
        self._waiting.put(portion)
        if self._threads < min(self._most, len(self._portions)):
            self._start()
        try:
            if self._timeout is None:
                await portion.done
            else:
                await self._watched(portion, self._timeout)
        finally:
            self._portions.discard(portion)
            portion.take_away()
        self._pace.add(len(rows), portion.spent.wall)
        self._spent(portion.spent)
        name = self._found.name
        return [made.error(name) if isinstance(made, Failure) else made for made in portion.made]

    async def _watched(self, portion: _Portion, most: float) -> None:
        """Wait for a portion, and take it away from a thread whose row takes too long."""
        wait = most
        while True:
            await asyncio.wait((portion.done,), timeout=wait)
            if portion.done.done():
                return
            with portion.lock:
                since = portion.since
                overdue = since is not None and monotonic() - since >= most
                if overdue and portion.owner is not None:
                    portion.owner.is_left = True
                    portion.owner = portion.since = None
                    portion.made.append(too_slow(most))
            wait = most if since is None or overdue else max(0.001, since + most - monotonic())
            if overdue:
                self._replace()
                if portion.is_complete:
                    return
                self._waiting.put(portion)

    def _replace(self) -> None:
        self._threads -= 1
        self._left += 1
        if not self._told:
            self._told = True
            self._say(
                f"transform {self._found.name} took too long for a row: its thread cannot be ended and goes on by itself, "
                "another has its place; --executor process can end such calls"
            )
        if self._left > _LEFT * self._most:
            raise TransformBroken(
                "transform",
                self._found.name,
                f"{self._left} calls that took too long have not come back, and threads cannot be ended",
                "--executor process can end them",
            )
        self._start()

    def _start(self) -> None:
        self._threads += 1
        threading.Thread(target=self._run, name=f"asyncup transform {self._found.name}", daemon=True).start()

    def _run(self) -> None:
        """What a thread does until nothing more comes, or until its place was given to another."""
        me = _Owner()
        while not me.is_left and (portion := self._waiting.get()) is not None:
            if portion.give(me):
                self._through(portion, me)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended, me.is_left)

    def _through(self, portion: _Portion, me: _Owner) -> None:
        """Make what is left of a portion, unless it is taken away meanwhile."""
        function, view = self._found.function, self._view
        began, cpu = perf_counter(), thread_time()
        longest, last = 0.0, began
        rows, done = portion.rows, len(portion.made)
        for number in range(done, len(rows)):
            portion.since = monotonic()
            one = called(function, view, rows[number])
            now = perf_counter()
            longest, last = max(longest, now - last), now
            with portion.lock:
                if portion.owner is not me:
                    return
                portion.since = None
                portion.made.append(one)
        portion.spent.add(Spent(len(rows) - done, last - began, thread_time() - cpu, longest))
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(portion.finish)

    def _ended(self, left: bool) -> None:
        if left:
            self._left -= 1
        else:
            self._threads -= 1
        if not self._threads:
            self._gone.set()

    async def close(self) -> None:
        """End the threads that wait for work, and those that end their row within a second."""
        for portion in self._portions:
            portion.take_away()
            portion.done.cancel()
        for _ in range(self._threads):
            self._waiting.put(None)
        if self._threads:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._gone.wait()


class _Owner:
    """A thread, as the loop knows it. `is_left`: it hangs in a call that took too long, and another has its place."""

    __slots__ = ("is_left",)

    def __init__(self) -> None:
        self.is_left = False


class _Portion:
    """Rows on their way through a thread: its `owner`, the only one that may add what it made."""

    __slots__ = ("_is_wanted", "done", "lock", "made", "owner", "rows", "since", "spent")

    def __init__(self, rows: Sequence[Row], done: asyncio.Future[None]) -> None:
        self.rows = rows
        self.done = done
        self.made: list[Products | Failure] = []
        self.lock = threading.Lock()
        self.owner: _Owner | None = None
        self.since: float | None = None  # when the row in work began
        self.spent = Spent()
        self._is_wanted = True

    @property
    def is_complete(self) -> bool:
        """Whether every row has been through."""
        return len(self.made) == len(self.rows)

    def give(self, owner: _Owner) -> bool:
        """In a thread: it has the portion now. False where nobody wants it any more."""
        with self.lock:
            self.owner = owner
            return self._is_wanted

    def take_away(self) -> None:
        """Nobody wants it any more: the thread that has it goes on to the next portion after its row."""
        with self.lock:
            self.owner = None
            self._is_wanted = False

    def finish(self) -> None:
        """On the loop: hand it over."""
        if not self.done.done():
            self.done.set_result(None)
