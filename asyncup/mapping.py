"""`asyncup.map`: one function over many items, so many at a time, whatever the function and whatever they come from.

A fixed number of tasks or threads, never one for each item; no item is taken before there is room for it, so that
memory stays the same over millions; and nothing of it is left running once the loop over it has ended.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Literal, TypeAlias, TypeVar, overload

from asyncup.flow.calls import Calls, Mapped

__all__ = ["Mapped", "map"]

T = TypeVar("T")
R = TypeVar("R")
OnError: TypeAlias = Literal["yield", "raise", "skip"]

ON_ERROR = ("yield", "raise", "skip")
#: As many threads as Python's own pool has on a large machine, and a fair number of requests to one server.
CONCURRENCY = 32


@overload
def map(  # noqa: A001 - asyncup.map is its name
    func: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = ...,
    on_error: OnError = ...,
    ordered: bool = ...,
) -> AsyncGenerator[Mapped[T, R], None]: ...
@overload
def map(  # noqa: A001 - asyncup.map is its name
    func: Callable[[T], R],
    iterable: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int = ...,
    on_error: OnError = ...,
    ordered: bool = ...,
    executor: Executor | None = ...,
) -> AsyncGenerator[Mapped[T, R], None]: ...
def map(  # noqa: A001 - asyncup.map is its name
    func: Callable[[Any], Any],
    iterable: Iterable[Any] | AsyncIterable[Any],
    *,
    concurrency: int = CONCURRENCY,
    on_error: OnError = "yield",
    ordered: bool = False,
    executor: Executor | None = None,
) -> AsyncGenerator[Mapped[Any, Any], None]:
    """Call `func` with every item of an iterable, `concurrency` at a time, and yield what came of each.

        async for outcome in asyncup.map(upload, rows, concurrency=150):
            if outcome.error is not None:
                print(outcome.item, outcome.error)

    An `async` function runs in `concurrency` tasks on the event loop, a plain one in as many threads, or in `executor`,
    which is yours and stays open. A plain function that returns something to await is called in a thread, and what
    it returned awaited on the loop.

    Never more than `concurrency` items are between the iterable and you, those counted whose outcome waits for you: a
    slow loop slows down the rest, and memory does not grow. A list and its like are read where they are needed; any
    other plain iterable in a thread of its own, the same from beginning to end, since it may block.

    Args:
        func: takes one item.
        iterable: a plain or an async one.
        concurrency: how many calls are under way at most.
        on_error: what becomes of an item whose call raises an Exception. `"yield"`: it comes as an outcome with its
            `error`. `"raise"`: no more items are taken, and the error is raised when its outcome is due. `"skip"`:
            it is left out.
        ordered: outcomes come in the order of the items instead of as they are completed; one slow call then holds
            up those behind it.
        executor: such as a process pool, for a plain function.

    An error of the iterable itself is raised once the outcomes of all items before it have come. When the loop ends, by
    its end, a `break`, an error or a cancellation, tasks are cancelled, the iterable's generator is closed, and
    calls in threads, which nothing can stop, are waited for; being cancelled a second time leaves them behind.
    After a `break` that happens soon. Where it has to have happened before the next line, use
    `contextlib.aclosing`:

        async with aclosing(asyncup.map(upload, rows)) as outcomes:
            async for outcome in outcomes: ...

    Calls share tasks: a context variable that an `async` function sets is seen by a later call.

    Raises:
        TypeError, ValueError: at once, when an argument cannot be right.
    """
    if not callable(func):
        raise TypeError(f"func is {_a(func)}, which cannot be called")
    if not any(hasattr(iterable, name) for name in ("__aiter__", "__iter__", "__getitem__")):
        raise TypeError(f"iterable is {_a(iterable)}, which is neither an iterable nor an async one")
    if not isinstance(concurrency, int) or concurrency < 1:
        raise ValueError(f"concurrency is {concurrency!r}; it must be a whole number from 1 on")
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is {on_error!r}; it must be one of {', '.join(ON_ERROR)}")
    is_async = inspect.iscoroutinefunction(func) or inspect.iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004
    if is_async and executor is not None:
        raise TypeError("func is async: it runs on the event loop, and an executor has no use; leave one of them out")
    return _outcomes(func, iterable, concurrency, on_error, executor, is_async=is_async, ordered=ordered)


async def _outcomes(
    func: Callable[[Any], Any],
    iterable: Iterable[Any] | AsyncIterable[Any],
    concurrency: int,
    on_error: OnError,
    executor: Executor | None,
    *,
    is_async: bool,
    ordered: bool,
) -> AsyncGenerator[Mapped[Any, Any], None]:
    calls = Calls(func, concurrency, executor, is_async=is_async, ordered=ordered, fails_fast=on_error == "raise")
    try:
        calls.begin(iterable)
        while (outcome := await calls.next()) is not None:
            if outcome.error is None or on_error == "yield":
                yield outcome
            elif on_error == "raise":
                raise outcome.error
            outcome = None  # nothing of it is held while the next one is awaited
    finally:
        outcome = None
        await calls.end()


def _a(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
