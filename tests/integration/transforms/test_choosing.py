"""Functions on the loop and in threads, and the choice between those and processes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncup.errors import TransformBroken
from asyncup.protocols import Transform
from asyncup.transforms import Record
from asyncup.transforms.opening import open_transform
from asyncup.transforms.threads import InThreads
from tests.integration.transforms.functions import MARKS
from tests.integration.transforms.rows import LAYOUT, opened, rows, told


async def chosen(
    function: str | Callable[[Record], Any], where: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Transform, list[str]]:
    """An `auto` on two cores that has had enough rows to choose, and what it said.

    Where others keep the cores busy, a quick call may take long once: then it has another chance.
    """
    monkeypatch.setattr("asyncup.transforms.opening.available_cores", lambda: 2)
    for _ in range(5):
        said: list[str] = []
        transform = await open_transform(function, LAYOUT, say=said.append)
        while not any(" runs " in text for text in said):
            await transform.apply(rows(*["x"] * transform.portion[0]))
        if where in said[-1]:
            break
        await transform.close()
    return transform, said


# --- on the loop --------------------------------------------------------------------------------------------------


async def test_awaited_calls_go_on_at_once_and_each_row_has_its_own_timeout() -> None:
    async with opened("awaited", workers=4, timeout=0.2) as transform:
        assert transform.places == 4
        made = await asyncio.gather(*(transform.apply(rows(name)) for name in ("meet", "meet", "slow", "meet")))
        failed = told(await transform.apply(rows("slow", "raise", "cancel", "a")))

    assert [told(part) for part in made] == [
        [(b"meet",)],
        [(b"meet",)],
        ["the transform took longer than 200 ms"],
        [(b"meet",)],
    ]
    assert failed == ["the transform took longer than 200 ms", "TypeError: no such thing", "CancelledError", (b"a",)]


async def test_an_awaited_call_ends_when_whoever_waits_for_it_is_cancelled() -> None:
    async with opened("awaited") as transform:
        call = asyncio.ensure_future(transform.apply(rows("slow")))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_an_async_def_that_yields_gives_several() -> None:
    async with opened("yielding") as transform:
        assert told(await transform.apply(rows("a"))) == [(b"a", b"again")]


@pytest.mark.blocking
async def test_an_async_def_that_holds_the_loop_is_told_once() -> None:
    said: list[str] = []
    async with opened("awaited", say=said.append) as transform:
        await transform.apply(rows("hold", "a", "hold"))

    assert len(said) == 2
    assert "held the event loop for 2" in said[1]


@pytest.mark.parametrize("executor", ["thread", "process"])
async def test_an_async_def_runs_nowhere_but_on_the_loop(executor: str) -> None:
    with pytest.raises(TransformBroken, match="is an async def"):
        await open_transform("tests.integration.transforms.functions:awaited", LAYOUT, executor=executor)


# --- in threads ---------------------------------------------------------------------------------------------------


async def test_a_row_that_takes_too_long_fails_and_another_thread_goes_on_behind_it() -> None:
    gate = threading.Event()
    said: list[str] = []

    def f(row: Record) -> str:
        if row["name"] == "slow":
            gate.wait(60)
        return str(row["name"])

    async with opened(f, executor="thread", workers=1, timeout=0.1, say=said.append) as transform:
        made = told(await transform.apply(rows("a", "slow", "b", "slow")))
        after = told(await transform.apply(rows("c")))
        gate.set()

    assert made == [(b"a",), "the transform took longer than 100 ms", (b"b",), "the transform took longer than 100 ms"]
    assert after == [(b"c",)]
    assert [text for text in said if "cannot be ended" in text] == said[1:]
    assert len(said) == 2


async def test_so_many_threads_may_hang_and_no_more() -> None:
    gate = threading.Event()
    async with opened(lambda _: gate.wait(60), executor="thread", workers=1, timeout=0.005) as transform:
        with pytest.raises(TransformBroken, match=r"9 calls .* have not come back, and threads cannot be ended"):
            await transform.apply(rows(*["slow"] * 20))
        gate.set()


async def test_so_many_threads_are_in_work_and_no_more() -> None:
    now, most, lock = 0, 0, threading.Lock()
    meeting = threading.Barrier(3)

    def f(_: Record) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        meeting.wait(20)
        with lock:
            now -= 1

    async with opened(f, executor="thread", workers=3) as transform:
        await asyncio.gather(*(transform.apply(rows("a")) for _ in range(12)))

    assert most == 3


async def test_rows_that_nobody_waits_for_any_more_are_not_begun() -> None:
    gate, seen = threading.Event(), []

    def f(row: Record) -> None:
        seen.append(row["name"])
        gate.wait(20)

    async with opened(f, executor="thread", workers=1) as transform:
        calls = [asyncio.ensure_future(transform.apply(rows(f"{name}1", f"{name}2"))) for name in "ab"]
        while not seen:
            await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        gate.set()
        await transform.apply(rows("c"))

    assert seen == ["a1", "c"]


# --- auto ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "where"),
    [("burn", "in 2 processes: "), ("wait", "in up to 6 threads: "), ("quick", "in up to 6 threads: ")],
)
async def test_what_burns_goes_to_processes_what_waits_or_is_quick_to_threads(
    name: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transform, (why,) = await chosen(f"tests.integration.transforms.functions:{name}", where, monkeypatch)
    try:
        assert told(await transform.apply(rows("a"))) in ([(b"a",)], [(rows("a")[0][-1],)])
    finally:
        await transform.close()

    assert why.startswith(f"transform tests.integration.transforms.functions:{name} runs {where}")
    assert "a call" in why


async def test_a_quick_function_that_hangs_once_holds_nothing_but_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def f(row: Record) -> str:
        if row["name"] == "slow":
            gate.wait(60)
        return "quick"

    monkeypatch.setattr("asyncup.transforms.opening.available_cores", lambda: 2)
    transform = await open_transform(f, LAYOUT, timeout=0.2)
    try:
        for _ in range(30):
            await transform.apply(rows(*["a"] * transform.portion[0]))
        assert told(await transform.apply(rows("slow", "a"))) == ["the transform took longer than 200 ms", (b"quick",)]
    finally:
        gate.set()
        await transform.close()


async def test_ctrl_c_is_no_matter_of_the_row_that_it_meets_on_the_loop() -> None:
    def f(_: Record) -> None:
        raise KeyboardInterrupt

    async with opened(f, executor="loop") as transform:
        with pytest.raises(KeyboardInterrupt):
            await transform.apply(rows("a"))


async def test_what_burns_and_cannot_be_sent_stays_in_threads_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(_: Record) -> None:
        until = time.thread_time() + 0.001
        while time.thread_time() < until:
            pass

    transform, said = await chosen(f, "threads", monkeypatch)
    await transform.close()

    assert "would do better in processes, but a function within a function cannot be sent" in said[0]
    assert "runs in up to 6 threads" in said[1]


async def test_the_first_calls_are_timed_in_a_thread_not_on_the_loop() -> None:
    threads = set()
    async with opened(lambda _: threads.add(threading.get_ident()), executor="auto") as transform:
        await transform.apply(rows("a"))

    assert threading.get_ident() not in threads


# --- finding ------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules of a user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # undone at the end, with what is prepended within
    monkeypatch.setenv(MARKS, str(tmp_path))
    (tmp_path / "thumbnails.py").write_text(
        "class Box:\n    @staticmethod\n    def make(row): return 'boxed'\n"
        "def make(row): return 'made'\ndef label(row): pass\nsize = 5\n"
    )
    (tmp_path / "half.py").write_text("import not_there_at_all\n")
    (tmp_path / "torn.py").write_text("def make(row):\n    return 1 +\n")
    (tmp_path / "bad.py").write_text("raise ImportError('no libpng here')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("thumbnails", "thumbnails names no function", "write it as package.module:function"),
        ("thumbnails.make", "thumbnails.make names no function", "write it as thumbnails:make"),
        ("thumbnails.py", "thumbnails.py names no function", "write it as thumbnails:function"),
        ("thumbnails.py:make", "there is no module thumbnails.py", "write it as thumbnails:make"),
        ("thumbnail:make", "there is no module thumbnail", "did you mean thumbnails?"),
        ("os.nothing:f", "there is no module os.nothing", "it is looked for in"),
        ("thumbnails:maek", "module thumbnails has no maek", "did you mean make?"),
        ("thumbnails:Box.nothing", "Box has no nothing", "it has make"),
        ("thumbnails:size", "thumbnails:size is an int, not a function", "it has Box, make, label"),
        ("half:f", "importing half failed: ModuleNotFoundError: No module named 'not_there_at_all'", "half.py"),
        ("torn:make", "importing torn failed: SyntaxError", "torn.py"),
        ("bad:f", "importing bad failed: ImportError: no libpng here", "bad.py"),
    ],
)
@pytest.mark.usefixtures("here")
async def test_a_function_that_is_not_there_is_refused_by_name(spec: str, message: str, hint: str) -> None:
    with pytest.raises(TransformBroken) as caught:
        await open_transform(spec, LAYOUT)

    assert caught.value.message.startswith(message)
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    assert "importlib" not in caught.value.hint


@pytest.mark.usefixtures("here")
async def test_a_name_may_have_dots_behind_the_colon() -> None:
    for executor in ("thread", "process"):
        async with opened("thumbnails:Box.make", executor=executor) as transform:
            assert told(await transform.apply(rows("a"))) == [(b"boxed",)]


async def test_in_threads_a_row_that_does_nothing_costs_next_to_nothing() -> None:
    async with opened("quick", executor="thread") as transform:
        assert isinstance(transform, InThreads)
        part = rows(*["x"] * 500)
        await transform.apply(part)
        took = []
        for _ in range(10):
            begun = time.perf_counter()
            await transform.apply(part)
            took.append(time.perf_counter() - begun)

    assert min(took) / 500 < 20e-6
