"""Any iterable, pulled by one at a time and only as far as there is room.

Nobody can tell whether an iterable blocks, so all but Python's own containers are pulled in a thread: in the same one
from `iter` to `close`, so that no generator ever meets two of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable
from queue import SimpleQueue
from typing import Any, Protocol

from asyncup.flow.ending import is_being_cancelled
from asyncup.flow.threads import Threads

#: What never blocks. Heirs of these may.
HELD = frozenset(
    {
        *(list, tuple, range, set, frozenset, dict, deque, str, bytes, bytearray),
        *(type({}.keys()), type({}.values()), type({}.items())),
    }
)
_END = object()


class Taker(Protocol):
    """Whoever takes what is pulled. Called on the event loop."""

    def take(self, index: int, item: Any) -> None:
        """The next one; there was room for it."""
        ...

    def end_of_items(self, error: BaseException | None) -> None:
        """There are no more, or the iterable failed; the iterator is closed."""
        ...


class Puller(Protocol):
    """Pulls as many as there is room for, from `begin` on."""

    def begin(self) -> None: ...

    def free(self) -> None:
        """Room for one more."""
        ...

    def stop(self) -> None:
        """Pull no more. The taker is not told of an end any more, or is told at once, or when a thread comes back."""
        ...


def puller(iterable: Iterable[Any] | AsyncIterable[Any], room: int, taker: Taker, place: Place) -> Puller:
    """The one that fits."""
    if type(iterable) in HELD:
        return _Held(iterable, room, taker)  # type: ignore[arg-type]
    if hasattr(iterable, "__aiter__"):
        return _Async(iterable, room, taker, place)  # type: ignore[arg-type]
    return _Threaded(iterable, room, taker, place)


class Place(Protocol):
    """Where pullers run that are not done at once."""

    def task(self, coroutine: Any) -> object:
        """Run it; its errors are its own."""
        ...

    def call(self, function: Callable[[], None]) -> None:
        """Call it on the event loop, soon; from any thread."""
        ...

    @property
    def pulling(self) -> Threads: ...

    @property
    def context(self) -> contextvars.Context: ...


class _Held:
    """A container: pulled where it is needed."""

    def __init__(self, iterable: Iterable[Any], room: int, taker: Taker) -> None:
        self._iterator, self._room, self._taker = enumerate(iterable), room, taker

    def begin(self) -> None:
        for _ in range(self._room):
            self.free()

    def free(self) -> None:
        try:
            pulled = next(self._iterator, None)
        except RuntimeError as exc:  # a dictionary that has changed meanwhile
            self.stop()
            self._taker.end_of_items(exc)
            return
        if pulled is None:
            self._taker.end_of_items(None)
        else:
            self._taker.take(*pulled)

    def stop(self) -> None:
        self._iterator = enumerate(())


class _Async:
    """An async iterable: pulled in a task of its own."""

    def __init__(self, iterable: AsyncIterable[Any], room: int, taker: Taker, place: Place) -> None:
        self._iterable, self._room, self._taker, self._place = iterable, room, taker, place
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_stopped = False

    def begin(self) -> None:
        self._place.task(self._pull())

    def free(self) -> None:
        self._room += 1
        self._has_room.set()

    def stop(self) -> None:
        self._is_stopped = True
        self._has_room.set()

    async def _pull(self) -> None:
        error: BaseException | None = None
        try:
            iterator = aiter(self._iterable)
            try:
                index = 0
                while not self._is_stopped:
                    if not self._room:
                        self._has_room.clear()
                        await self._has_room.wait()
                        continue
                    try:
                        item = await anext(iterator)
                    except StopAsyncIteration:
                        break
                    self._room -= 1
                    self._taker.take(index, item)
                    del item
                    index += 1
            finally:
                if inspect.isasyncgen(iterator) or iterator is not self._iterable:
                    close = getattr(iterator, "aclose", None)
                    if close is not None:
                        await close()
        except asyncio.CancelledError as exc:
            if is_being_cancelled():
                raise
            error = RuntimeError("the iterable was cancelled by something of its own")
            error.__cause__ = exc
        except Exception as exc:  # noqa: BLE001 - whose iterable it is wants to know
            error = exc
        self._taker.end_of_items(error)


class _Threaded:
    """Any other iterable: pulled in a thread of its own, which waits where there is no room."""

    def __init__(self, iterable: Iterable[Any], room: int, taker: Taker, place: Place) -> None:
        self._iterable, self._taker, self._place = iterable, taker, place
        self._rooms: SimpleQueue[None] = SimpleQueue()
        self._pulled: deque[Any] = deque()
        self._error: BaseException | None = None
        self._is_stopped = self._is_called = False
        self._index = 0
        for _ in range(room):
            self._rooms.put(None)

    def begin(self) -> None:
        context = self._place.context.copy()
        self._place.pulling.submit(lambda: context.run(self._pull))

    def free(self) -> None:
        self._rooms.put(None)

    def stop(self) -> None:
        self._is_stopped = True
        self._rooms.put(None)

    def _pull(self) -> None:
        pulled, wait = self._pulled, self._rooms.get
        try:
            iterator = iter(self._iterable)
            try:
                while True:
                    wait()
                    if self._is_stopped:
                        break
                    item = next(iterator, _END)
                    if item is _END:
                        break
                    pulled.append(item)
                    del item
                    if not self._is_called:  # not in the hand-over that the loop is about to make
                        self._is_called = True
                        self._place.call(self._hand_over)
            finally:
                if inspect.isgenerator(iterator) or iterator is not self._iterable:
                    close = getattr(iterator, "close", None)
                    if close is not None:
                        close()
                del iterator
        except BaseException as exc:  # noqa: BLE001 - the same as if it were iterated where it is asked for
            self._error = exc
        pulled.append(_END)
        self._place.call(self._hand_over)

    def _hand_over(self) -> None:
        self._is_called = False
        pulled, taker = self._pulled, self._taker
        while pulled:
            item = pulled.popleft()
            if item is _END:
                taker.end_of_items(self._error)
                return
            taker.take(self._index, item)
            self._index += 1
