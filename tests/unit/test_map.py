"""`asyncup.map`: so many calls at a time, an outcome for every item, and nothing left of it when its loop has ended."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from multiprocessing import get_context
from typing import Any

import pytest

import asyncup
from asyncup.mapping import Mapped


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


def double_blocking(number: int) -> int:
    return number * 2


class Doubler:
    async def __call__(self, number: int) -> int:
        return await double(number)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


class Sequence:
    """Iterable by the old protocol alone."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __getitem__(self, index: int) -> int:
        if index >= self.count:
            raise IndexError
        return index


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("asyncup-")]


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    yield
    assert ours() == []
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("asyncup-")] == []


ITERABLES: dict[str, Callable[[int], Any]] = {
    "range": range,
    "list": lambda count: list(range(count)),
    "generator": lambda count: (number for number in range(count)),
    "old sequence": Sequence,
    "async": numbers,
}
FUNCTIONS: dict[str, Callable[[int], Any]] = {
    "async": double,
    "partial": partial(double),
    "async object": Doubler(),
    "blocking": double_blocking,
    "lambda": lambda number: double(number),  # noqa: PLW0108 - it is plain, and gives a coroutine
}


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("iterable", ITERABLES)
async def test_every_item_has_its_outcome(iterable: str, function: str, ordered: bool) -> None:
    outcomes = [
        outcome
        async for outcome in asyncup.map(FUNCTIONS[function], ITERABLES[iterable](50), concurrency=7, ordered=ordered)
    ]
    if not ordered:
        outcomes.sort(key=lambda outcome: outcome.index)
    assert outcomes == [Mapped(number, number, number * 2) for number in range(50)]


@pytest.mark.parametrize("iterable", ITERABLES)
async def test_nothing_comes_of_nothing(iterable: str) -> None:
    assert [outcome async for outcome in asyncup.map(double, ITERABLES[iterable](0))] == []


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("iterable", ITERABLES)
async def test_no_more_is_pulled_than_there_is_room_for(iterable: str, concurrency: int) -> None:
    """Those in flight and those whose outcome waits are counted together."""
    pulled: list[int] = []
    gate = asyncio.Event()
    running = 0

    def plain() -> Iterator[int]:
        for number in ITERABLES[iterable](20):
            pulled.append(number)
            yield number

    async def awaited() -> AsyncIterator[int]:
        async for number in numbers(20):
            pulled.append(number)
            yield number

    async def held(number: int) -> int:
        nonlocal running
        running += 1
        assert running <= concurrency
        await gate.wait()
        running -= 1
        return number

    source = awaited() if iterable == "async" else plain()
    async with aclosing(asyncup.map(held, source, concurrency=concurrency)) as outcomes:
        first = asyncio.create_task(anext(outcomes))
        await until(lambda: running == concurrency)
        await rounds()
        assert len(pulled) == concurrency
        gate.set()
        await first
        await until(lambda: len(pulled) == concurrency + 1)
        await rounds()
        assert len(pulled) == concurrency + 1  # one outcome is here, so there is room for one more


async def collect(outcomes: AsyncIterator[Mapped[Any, Any]], seen: list[Any] | None = None) -> list[Any]:
    """All values, also in `seen` for whoever expects an error."""
    seen = [] if seen is None else seen
    async for outcome in outcomes:
        assert outcome.error is None
        seen.append(outcome.value)
    return seen


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_true():
            await asyncio.sleep(0.001)


async def rounds() -> None:
    """Whoever could go on has gone on after this."""
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.to_thread(time.sleep, 0.01)


async def test_so_many_blocking_calls_run_at_a_time_and_no_more() -> None:
    meeting = threading.Barrier(5)  # would break with fewer
    running, peak, lock = 0, 0, threading.Lock()

    def meet(_: int) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        meeting.wait(10)
        with lock:
            running -= 1

    async for outcome in asyncup.map(meet, range(50), concurrency=5):
        outcome.unwrap()
    assert peak == 5


async def test_a_generator_is_run_by_one_thread_from_beginning_to_end_and_not_by_the_loops() -> None:
    threads: set[threading.Thread] = set()

    class Rows:
        def __iter__(self) -> Iterator[int]:
            threads.add(threading.current_thread())
            try:
                for number in range(200):
                    threads.add(threading.current_thread())
                    yield number
            finally:
                threads.add(threading.current_thread())

    async for _ in asyncup.map(double_blocking, Rows(), concurrency=20):
        pass
    assert len(threads) == 1
    assert threading.current_thread() not in threads


async def test_a_generator_that_blocks_holds_up_neither_the_loop_nor_the_items_before() -> None:
    gate = threading.Event()

    def rows() -> Iterator[int]:
        yield 0
        gate.wait(10)
        yield 1

    seen = []
    async for outcome in asyncup.map(double, rows(), concurrency=8):
        seen.append(outcome.value)
        gate.set()  # the second one is only made once the first has come
    assert seen == [0, 2]


def odd_only(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number} is even")
    return number


async def odd_only_async(number: int) -> int:
    await asyncio.sleep(0)
    return odd_only(number)


@pytest.mark.parametrize("function", [odd_only, odd_only_async])
async def test_errors_come_as_outcomes(function: Callable[[int], Any]) -> None:
    found = [outcome async for outcome in asyncup.map(function, range(6), ordered=True)]
    assert [outcome.value for outcome in found] == [None, 1, None, 3, None, 5]
    assert [str(outcome.error) for outcome in found[::2]] == ["0 is even", "2 is even", "4 is even"]
    with pytest.raises(ValueError, match="2 is even") as caught:
        found[2].unwrap()
    assert found[3].unwrap() == 3
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "odd_only"
    assert not any("_call" in name for name in names)  # the frames of ours would keep what they hold


@pytest.mark.parametrize("function", [odd_only, odd_only_async])
async def test_errors_are_skipped_where_one_says_so(function: Callable[[int], Any]) -> None:
    values = [outcome.unwrap() async for outcome in asyncup.map(function, range(6), on_error="skip")]
    assert sorted(values) == [1, 3, 5]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("function", [odd_only, odd_only_async])
async def test_the_first_error_ends_it_where_one_says_so(function: Callable[[int], Any], ordered: bool) -> None:
    pulled = []

    def rows() -> Iterator[int]:
        for number in range(1, 1_000_000, 1):
            pulled.append(number)
            yield number

    with pytest.raises(ValueError, match="is even"):
        await collect(asyncup.map(function, rows(), on_error="raise", concurrency=4, ordered=ordered))
    assert len(pulled) < 100


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_an_error_of_the_iterable_comes_after_the_items_before_it(function: str) -> None:
    def rows() -> Iterator[int]:
        yield from range(3)
        raise KeyError("row 4")

    async def awaited() -> AsyncIterator[int]:
        for number in rows():
            yield number

    for source in (rows(), awaited()):
        seen: list[int] = []
        with pytest.raises(KeyError, match="row 4"):
            await collect(asyncup.map(FUNCTIONS[function], source), seen)
        assert sorted(seen) == [0, 2, 4]


async def test_a_dictionary_that_changes_meanwhile_is_an_error_of_the_iterable() -> None:
    rows = {1: 1, 2: 2, 3: 3}

    async def add(_: int) -> None:
        rows[len(rows) + 1] = 0

    with pytest.raises(RuntimeError, match="changed size"):
        await collect(asyncup.map(add, rows, concurrency=1))


def endless(closed: list[int]) -> Iterator[int]:
    try:
        number = 0
        while True:
            yield number
            number += 1
    finally:
        closed.append(number)


async def endless_async(closed: list[int]) -> AsyncIterator[int]:
    try:
        for number in endless([]):
            await asyncio.sleep(0)
            yield number
    finally:
        await asyncio.sleep(0)
        closed.append(number)


ENDINGS = ("break", "error", "cancel", "closing")


@pytest.mark.parametrize("source", [endless, endless_async])
@pytest.mark.parametrize("function", ["async", "blocking", "lambda"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_however_the_loop_ends_tasks_threads_and_the_generator_end_too(
    ending: str, function: str, source: Callable[[list[int]], Any]
) -> None:
    closed: list[int] = []
    before = asyncio.all_tasks()

    async def loop() -> None:
        async for outcome in asyncup.map(FUNCTIONS[function], source(closed), concurrency=4):
            if outcome.index == 10:
                if ending == "break":
                    break
                if ending == "error":
                    raise ZeroDivisionError
                asyncio.current_task().cancel()  # type: ignore[union-attr]
                await asyncio.sleep(0)

    if ending == "closing":
        outcomes = asyncup.map(FUNCTIONS[function], source(closed), concurrency=4)
        await anext(outcomes)
        await outcomes.aclose()
        assert ours() == []  # with no turn of the loop in between
        assert len(closed) == 1
    else:
        await asyncio.wait([looping := asyncio.create_task(loop())])
        assert looping.cancelled() is (ending == "cancel")
        if ending == "error":
            assert isinstance(looping.exception(), ZeroDivisionError)
        del looping
        gc.collect()
        await until(lambda: bool(closed) and not ours() and asyncio.all_tasks() == before)


async def test_whoever_waits_for_an_outcome_can_be_cancelled() -> None:
    gate, began = asyncio.Event(), asyncio.Event()
    ended = []

    async def held(number: int) -> None:
        try:
            began.set()
            await gate.wait()
        finally:
            await asyncio.sleep(0)  # what it gives back may take a while
            ended.append(number)

    async def loop() -> None:
        async for _ in asyncup.map(held, range(100), concurrency=3):
            pass

    looping = asyncio.create_task(loop())
    await began.wait()
    looping.cancel()
    await asyncio.wait([looping])
    assert looping.cancelled()
    assert sorted(ended) == [0, 1, 2]


async def test_a_call_that_hangs_in_a_thread_is_waited_for_unless_cancelled_twice() -> None:
    gate, began = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        began.set()
        gate.wait(20)

    async def loop() -> None:
        async for _ in asyncup.map(hang, [1]):
            pass

    looping = asyncio.create_task(loop())
    await asyncio.to_thread(began.wait)
    looping.cancel()
    done, _ = await asyncio.wait([looping], timeout=0.05)
    assert not done
    looping.cancel()
    await asyncio.wait([looping])
    assert looping.cancelled()
    assert [thread.daemon for thread in ours()] == [True]
    gate.set()
    await until(lambda: not ours())


async def test_a_call_that_is_cancelled_from_inside_is_an_error_of_its_item() -> None:
    async def stray(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number

    found = [outcome async for outcome in asyncup.map(stray, range(3), ordered=True)]
    assert [outcome.value for outcome in found] == [0, None, 2]
    assert "cancelled" in str(found[1].error)


async def test_a_task_that_somebody_else_cancels_ends_it_with_an_error() -> None:
    async def give_up(_: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="somebody else"):
        await collect(asyncup.map(give_up, range(3)))


async def test_an_exception_that_is_none_of_an_item_ends_it() -> None:
    class Enough(BaseException):
        pass

    def blocking(_: int) -> None:
        raise Enough

    async def awaited(_: int) -> None:
        raise Enough

    for function in (blocking, awaited):
        with pytest.raises(Enough):
            await collect(asyncup.map(function, range(3)))


async def test_context_variables_reach_calls_and_generators_and_threads_share_none() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("outside")
    seen: set[str] = set()

    def rows() -> Iterator[int]:
        seen.add(variable.get())
        yield from range(10)

    def blocking(_: int) -> None:
        seen.add(variable.get())
        variable.set("inside")

    async for outcome in asyncup.map(blocking, rows(), concurrency=2):
        outcome.unwrap()
    assert seen == {"outside"}
    assert variable.get() == "outside"


def cube(number: int) -> int:
    return number**3


async def test_a_process_pool_makes_the_calls_and_stays_open() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for _ in range(2):
            found = [o async for o in asyncup.map(cube, range(20), executor=pool, concurrency=4, ordered=True)]
            assert [outcome.unwrap() for outcome in found] == [number**3 for number in range(20)]
        (refused,) = [o async for o in asyncup.map(lambda number: number, [1], executor=pool)]
        assert "pickle" in str(refused.error)


async def test_an_executor_that_takes_no_more_ends_it() -> None:
    pool = ThreadPoolExecutor(1)
    outcomes = asyncup.map(cube, range(5), executor=pool, concurrency=1)
    assert (await anext(outcomes)).value == 0
    pool.shutdown()
    seen: list[int] = []
    with pytest.raises(RuntimeError, match="after shutdown"):
        await collect(outcomes, seen)
    assert seen in ([], [1])  # the second one may be on its way by then


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((None, []), {}, TypeError, "cannot be called"),
        ((double, 5), {}, TypeError, "neither an iterable"),
        ((double, []), {"concurrency": 0}, ValueError, "from 1 on"),
        ((double, []), {"concurrency": None}, ValueError, "from 1 on"),
        ((double, []), {"on_error": "ignore"}, ValueError, "yield, raise, skip"),
        ((double, []), {"executor": object()}, TypeError, "has no use"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    arguments: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        asyncup.map(*arguments, **options)


@pytest.mark.parametrize("function", [double_blocking, double])
async def test_memory_stays_the_same_whatever_the_number_of_items(function: Callable[[int], Any]) -> None:
    """Every item and every value is an object of 10 kB; errors and their frames would be kept as well."""
    count, size = 400, 10_000

    def make() -> Iterable[bytes]:
        return (bytes(size) for _ in range(count))

    def blocking(item: bytes) -> bytes:
        if item[0]:
            raise AssertionError
        return item + b"."

    async def awaited(item: bytes) -> bytes:
        return blocking(item)

    tracemalloc.start()
    try:
        seen = 0
        async for outcome in asyncup.map(awaited if function is double else blocking, make(), concurrency=10):
            seen += len(outcome.unwrap()) == size + 1
            del outcome
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == count
    assert peak < 60 * size


async def test_errors_leave_nothing_to_the_garbage_collector() -> None:
    def fail(number: int) -> None:
        raise ValueError(number)

    gc.collect()
    gc.disable()
    try:
        async for outcome in asyncup.map(fail, range(200), concurrency=5):
            assert outcome.error is not None
        del outcome
        alive = [one for one in gc.get_objects() if isinstance(one, Mapped)]
    finally:
        gc.enable()
    assert alive == []


async def test_import_asyncup_stays_cheap() -> None:
    code = "import asyncup, sys; print('asyncio' in sys.modules, sorted(dir(asyncup))[:2]); asyncup.map"
    process = await asyncio.create_subprocess_exec(
        *(__import__("sys").executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().startswith("False ['ExecutorSink', 'Mapped']")
