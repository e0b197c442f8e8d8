"""The calls of `asyncup.map`: what is pulled goes to whoever calls, and what came of it to whoever asks next.

Calls are made by tasks of the event loop, by threads, or by somebody's executor; there are as many as may be under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from asyncup.flow.ending import is_being_cancelled
from asyncup.flow.pulling import puller
from asyncup.flow.threads import Threads

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Mapped(Generic[T, R]):
    """What came of one item.

    Attributes:
        index: its place in the iterable, from 0.
        item: the item itself.
        value: what the function returned; None when it failed.
        error: what it raised, with the function's own traceback; None when it returned.
    """

    index: int
    item: T
    value: R | None = None
    error: Exception | None = None

    def unwrap(self) -> R:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # an R that may well be None


class Calls:
    """Those of one function over one iterable, at most `concurrency` at a time.

    `fails_fast`: pull no more once a call has failed.
    """

    def __init__(
        self,
        func: Callable[[Any], Any],
        concurrency: int,
        executor: Executor | None,
        *,
        is_async: bool,
        ordered: bool,
        fails_fast: bool,
    ) -> None:
        self._func, self._concurrency, self._executor = func, concurrency, executor
        self._ordered, self._fails_fast = ordered, fails_fast
        self._loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        self.pulling = Threads(1, "asyncup-pull", self._wake_soon)
        self._threads = Threads(concurrency if executor is None else 1, "asyncup-map", self._wake_soon)
        self._start = self._to_task if is_async else self._to_thread if executor is None else self._to_executor
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: list[asyncio.Future[tuple[int, Any]]] = []
        self._futures: set[Future[Any]] = set()
        self._done: deque[Mapped[Any, Any] | tuple[int, Any, Awaitable[Any]]] = deque()  # by threads
        self._is_called = False
        self._ready: deque[Mapped[Any, Any]] = deque()
        self._early: dict[int, Mapped[Any, Any]] = {}  # outcomes that wait for those of items before theirs
        self._next = 0  # whose turn it is
        self._out = 0  # pulled, and not given out
        self._is_exhausted = self._is_closing = False
        self._failure: BaseException | None = None  # of the iterable
        self._broken: BaseException | None = None  # what ends everything at once
        self._waiter: asyncio.Future[None] | None = None

    def begin(self, iterable: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._puller = puller(iterable, self._concurrency, self, self)
        self._puller.begin()

    async def next(self) -> Mapped[Any, Any] | None:
        """The next outcome that is due, None when there are no more.

        Raises:
            Exception: the iterable's, or what kept a call from being made.
        """
        while True:
            if self._broken is not None:
                raise self._broken
            outcome = self._early.pop(self._next, None) if self._ordered else None
            if self._ready and not self._ordered:
                outcome = self._ready.popleft()
            if outcome is not None:
                self._next += 1
                self._out -= 1
                self._puller.free()
                return outcome
            if self._is_exhausted and not self._out:
                if self._failure is not None:
                    raise self._failure
                return None
            await self._wait()

    async def end(self) -> None:
        """Stop pulling, cancel what can be cancelled, and wait until nothing of it is left.

        Whoever is cancelled once more meanwhile leaves threads behind that hang; tasks never.
        """
        self._is_closing = True
        self._puller.stop()
        threads = self.pulling.close() + self._threads.close()
        for future in tuple(self._futures):
            future.cancel()
        cancelled: asyncio.CancelledError | None = None
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as exc:
                cancelled = exc
        while cancelled is None and (self.pulling.alive or self._threads.alive or self._futures):
            await self._wait()
        self._look()
        if cancelled is not None:
            raise cancelled
        while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110 - all that they have left to do is to end
            await asyncio.sleep(0)

    # --- what is pulled -----------------------------------------------------------------------------------------

    def take(self, index: int, item: Any) -> None:
        """See `Taker.take`."""
        if self._is_closing:
            return
        self._out += 1
        self._start(index, item)

    def end_of_items(self, error: BaseException | None) -> None:
        """See `Taker.end`."""
        if not self._is_exhausted:
            self._is_exhausted, self._failure = True, error
            self._wake()

    def task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """See `Place.task`."""
        task = self._loop.create_task(coroutine, name="asyncup-map")
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def call(self, function: Callable[[], None]) -> None:
        """See `Place.call`."""
        with contextlib.suppress(RuntimeError):  # the loop was closed, and the thread left behind
            self._loop.call_soon_threadsafe(function)

    # --- calls on the loop --------------------------------------------------------------------------------------

    def _to_task(self, index: int, item: Any) -> None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result((index, item))
                return
        self.task(self._call(index, item))

    async def _call(self, index: int, item: Any) -> None:
        """Make one call after the other."""
        func, idle = self._func, self._idle
        while True:
            self._finish(await _outcome(index, item, func))
            del item
            waiting: asyncio.Future[tuple[int, Any]] = self._loop.create_future()
            idle.append(waiting)
            index, item = await waiting
            del waiting

    async def _await(self, index: int, item: Any, awaitable: Awaitable[Any]) -> None:
        """What a plain function returned in a thread."""

        async def value(_: Any) -> Any:
            return await awaitable

        self._finish(await _outcome(index, item, value))

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._is_closing:
            if not task.cancelled():
                task.exception()  # seen; there is nobody left to be told
        elif task.cancelled():
            self._broken = RuntimeError("a task of asyncup.map was cancelled by somebody else")
        else:
            self._broken = task.exception() or self._broken
        self._wake()

    # --- calls elsewhere ----------------------------------------------------------------------------------------

    def _to_thread(self, index: int, item: Any) -> None:
        self._threads.submit(partial(self._call_in_thread, index, item))

    def _call_in_thread(self, index: int, item: Any) -> None:
        try:
            value = self.context.copy().run(self._func, item)
        except Exception as exc:  # noqa: BLE001 - any error is the item's
            self._done.append(Mapped(index, item, None, _own(exc)))
        except BaseException as exc:  # noqa: BLE001 - somebody wants to end all of it
            self._broken = exc
        else:
            is_value = not hasattr(type(value), "__await__")
            self._done.append(Mapped(index, item, value) if is_value else (index, item, value))
        self._wake_soon()

    def _to_executor(self, index: int, item: Any) -> None:
        self._threads.submit(partial(self._submit, index, item))

    def _submit(self, index: int, item: Any) -> None:
        """In a thread: an executor may start a process for it."""
        assert self._executor is not None  # noqa: S101 - or it would go elsewhere
        try:
            future = self._executor.submit(self._func, item)
        except Exception as exc:  # noqa: BLE001 - it is broken or closed, for every item that follows
            self._broken = exc
            self._wake_soon()
            return
        self._futures.add(future)
        future.add_done_callback(partial(self._executed, index, item))
        if self._is_closing:
            future.cancel()

    def _executed(self, index: int, item: Any, future: Future[Any]) -> None:
        self._futures.discard(future)
        if not future.cancelled():
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                self._broken = error
            elif error is not None:
                self._done.append(Mapped(index, item, None, error))
            else:
                self._done.append(Mapped(index, item, future.result()))
        self._wake_soon()

    def _wake_soon(self) -> None:
        """Have the loop look at what threads have done; once for all that they do until then."""
        if not self._is_called:
            self._is_called = True
            self.call(self._look)

    def _look(self) -> None:
        self._is_called = False
        done = self._done
        while done:
            outcome = done.popleft()
            if isinstance(outcome, Mapped):
                self._finish(outcome)
            elif not self._is_closing:
                task = self.task(self._await(*outcome))
                task.add_done_callback(lambda _, made=outcome[2]: _dispose(made))  # type: ignore[misc]
            else:
                _dispose(outcome[2])
        self._wake()

    # --- outcomes -----------------------------------------------------------------------------------------------

    def _finish(self, outcome: Mapped[Any, Any]) -> None:
        if self._is_closing:
            return
        if self._ordered:
            self._early[outcome.index] = outcome
        else:
            self._ready.append(outcome)
        if self._fails_fast and outcome.error is not None:
            self._puller.stop()
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def _outcome(index: int, item: Any, func: Callable[[Any], Awaitable[Any]]) -> Mapped[Any, Any]:
    try:
        return Mapped(index, item, await func(item))
    except Exception as exc:  # noqa: BLE001 - any error is the item's
        return Mapped(index, item, None, _own(exc))
    except asyncio.CancelledError as exc:
        if is_being_cancelled():
            raise
        stray = RuntimeError("the call was cancelled by something of its own")
        stray.__cause__ = exc
        return Mapped(index, item, None, stray)


def _dispose(awaitable: Awaitable[Any]) -> None:
    """Let go of what was perhaps never awaited, without a warning."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def _own(error: Exception) -> Exception:
    """The error without our frames: those of whoever keeps it would keep what we hold."""
    traceback = error.__traceback__
    return error.with_traceback(None if traceback is None else traceback.tb_next)
