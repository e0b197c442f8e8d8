"""Transforms in processes of our own, which outlive what a function does to them.

`concurrent.futures.ProcessPoolExecutor` breaks as a whole when one of its processes dies, fails all that was handed in
(https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.process.BrokenProcessPool) and cannot end one
that hangs; loky and `anyio.to_process` say as little about which call it was. Here each place is a process, and a thread
of the parent that talks with it: rows go there in portions, and shared memory says which row is in work. When the
process dies, that row is tried once more, alone, in a new one; when a row takes longer than it may, its process is
ended and the row fails. The other rows of the portion run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import select
import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from asyncup.errors import RowRefused, TransformBroken
from asyncup.model import Products, Row
from asyncup.transforms.births import Births, Place, ended
from asyncup.transforms.calls import too_slow
from asyncup.transforms.failures import Failure
from asyncup.transforms.finding import Found
from asyncup.transforms.nursery import Broken, Ready
from asyncup.transforms.pace import Pace, Spent
from asyncup.transforms.record import Layout
from asyncup.transforms.wire import sendable


class Lost(NamedTuple):
    """A process is gone in the middle of a portion: with which row of it, if that is known, and how it ended."""

    number: int | None
    how: str
    is_slow: bool = False


class InProcesses:
    """A plain function in up to `places` processes, each with a portion of rows at a time.

    Attributes:
        imports: seconds that the user's modules took, once.
        setup: seconds that `setup()` took in the first process; None where there is none.
        replaced: how many processes were lost.
    """

    def __init__(self, found: Found, layout: Layout, *, places: int, timeout: float | None) -> None:
        self._found = found
        self._timeout = timeout
        self._births = Births(found, layout)
        self._pace = Pace()
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[_Portion | None] = queue.SimpleQueue()
        self._portions: set[_Portion] = set()
        self._places: set[Place] = set()
        self._spare: deque[Place] = deque()  # ready, and nobody's yet
        self._threads: list[threading.Thread] = []
        self._broken: TransformBroken | None = None
        self._closing = False
        self._most = places
        self.places = 2 * places  # one portion in work and one that waits for it, so that no process waits
        self.setup: float | None = None
        self.replaced = 0
        self.spent = Spent()

    @property
    def imports(self) -> float:
        """See above."""
        return self._births.imports

    @property
    def portion(self) -> tuple[int, int]:
        """Rows and bytes of one call of `apply`."""
        return self._pace.portion

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that are there."""
        return tuple(sorted(place.pid for place in self._places))

    async def open(self) -> None:
        """Start the first process; the others start when there is work for them.

        Raises:
            TransformBroken: no other process can have the function, or its module or its `setup()` fails there.
        """
        way = self._found.way
        if way.refusal is not None:
            raise TransformBroken("start transform", self._found.name, way.refusal, way.remedy)
        if not hasattr(select, "poll"):
            raise TransformBroken(
                "start transform",
                self._found.name,
                "this system cannot fork processes",
                "--executor thread runs it in threads",
            )
        self._spare.append(await asyncio.to_thread(self._begin))

    async def apply(self, rows: Sequence[Row]) -> list[Products | RowRefused]:
        """What becomes of each row.

        Raises:
            TransformBroken: a new process could not be started.
        """
        if self._broken is not None:
            raise self._broken
        portion = _Portion(rows, self._loop.create_future())
        self._portions.add(portion)
        self._waiting.put(portion)
        if len(self._threads) < min(self._most, len(self._portions)):
            thread = threading.Thread(target=self._run, name=f"asyncup transform {self._found.name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        try:
            await portion.done
        finally:
            self._portions.discard(portion)
            portion.is_wanted = False
        if portion.spent.calls:
            self._pace.add(portion.spent.calls, portion.spent.wall)
            self.spent.add(portion.spent)
        name = self._found.name
        return [made.error(name) if isinstance(made, Failure) else made for made in portion.made]

    async def close(self) -> None:
        """End all processes within a second or so, also in the middle of a call."""
        self._closing = True
        for portion in self._portions:
            portion.done.cancel()
        for _ in self._threads:
            self._waiting.put(None)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(asyncio.create_task(asyncio.to_thread(self._end), name="asyncup-end-processes"))

    def _end(self) -> None:
        with contextlib.suppress(IndexError):
            self._spare.pop().wire.close()
        self._births.close()
        for thread in self._threads:
            thread.join(1)

    # --- in threads ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """What the thread of one place does."""
        place: Place | None = None
        with contextlib.suppress(IndexError):
            place = self._spare.pop()
        while (portion := self._waiting.get()) is not None and not self._closing:
            if not portion.is_wanted:
                continue
            error: Exception | None = None
            try:
                place = self._through(portion, place)
            except Exception as exc:  # noqa: BLE001 - whoever waits for the portion hears of it
                error, place = exc, None
                if isinstance(exc, TransformBroken):
                    self._broken = exc
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(portion.finish, error)
        if place is not None:
            place.wire.close()  # it ends by itself

    def _through(self, portion: _Portion, place: Place | None) -> Place | None:
        """Make a whole portion, in as many processes as it takes; the one that is left.

        Raises:
            TransformBroken: a new process could not be started.
        """
        again: set[tuple[int, ...]] = set()
        todo = deque([tuple(range(len(portion.rows)))])
        while todo and not self._closing:
            numbers = todo.popleft()
            if place is None:
                place = self._begin()
            lost = self._attempt(portion, numbers, place)
            if lost is None:
                continue
            place = None
            self.replaced += 1
            culprit = None if lost.number is None else numbers[lost.number]
            if culprit is None and len(numbers) == 1 and numbers in again:
                culprit = numbers[0]
            if culprit is None:  # nobody knows which: once more as it was, then one by one
                todo.extendleft([numbers] if numbers not in again else [(number,) for number in reversed(numbers)])
                again.add(numbers)
                continue
            if rest := tuple(number for number in numbers if number != culprit):
                todo.appendleft(rest)
            if lost.is_slow:
                portion.made[culprit] = too_slow(self._timeout or 0)
            elif (culprit,) in again:
                portion.made[culprit] = Failure(
                    f"its process {lost.how}, twice", "the second time nothing else ran in that process"
                )
            else:
                again.add((culprit,))
                todo.appendleft((culprit,))
        return place

    def _begin(self) -> Place:
        """A process that is ready for rows. One that is ended before that is started once more.

        Raises:
            TransformBroken: see `open`.
        """
        for is_last in (False, True):
            place = self._births.start()
            self._places.add(place)
            try:
                found: Ready | Broken = place.wire.receive()
                break
            except EOFError:
                how = self._gone(place)
                if is_last or self._closing:
                    message, hint = f"its process {how} as it started, twice", "look at what setup() does"
                    raise TransformBroken("start transform", self._found.name, message, hint) from None
        if isinstance(found, Broken):
            self._gone(place)
            raise TransformBroken("start transform", self._found.name, found.message, found.traceback)
        self.setup = found.setup
        return place

    def _gone(self, place: Place) -> str:
        """A process that is to be there no longer: how it ended."""
        self._places.discard(place)
        return ended(self._births.end(place))

    def _attempt(self, portion: _Portion, numbers: tuple[int, ...], place: Place) -> Lost | None:
        """Have a process make these rows of a portion."""
        place.progress.begin(-1)
        try:
            place.wire.send(sendable([portion.rows[number] for number in numbers]))
            if (overdue := self._overdue(place)) is not None:
                return Lost(overdue, self._gone(place), is_slow=True)
            wall, cpu, made = place.wire.receive()
        except (EOFError, OSError):
            row = place.progress.look()
            return Lost(None if row is None else row[0], self._gone(place))
        for number, one in zip(numbers, made, strict=True):
            portion.made[number] = one
        portion.spent.add(Spent(len(numbers), wall, cpu))
        return None

    def _overdue(self, place: Place) -> int | None:
        """Wait for an answer, or for the end; the number of the row that takes longer than it may, if one does."""
        if self._timeout is None:
            return None
        poll = select.poll()
        poll.register(place.wire.fileno(), select.POLLIN)
        wait = self._timeout
        while not poll.poll(wait * 1000 + 1):
            row = place.progress.look()
            if row is not None and row[1] >= self._timeout:
                return row[0]
            wait = self._timeout - (0 if row is None else row[1])
        return None


class _Portion:
    """Rows on their way through a process."""

    __slots__ = ("done", "is_wanted", "made", "rows", "spent")

    def __init__(self, rows: Sequence[Row], done: asyncio.Future[None]) -> None:
        self.rows = rows
        self.done = done
        self.made: list[Products | Failure] = [()] * len(rows)
        self.is_wanted = True
        self.spent = Spent()

    def finish(self, error: Exception | None) -> None:
        """On the loop: hand it over."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
