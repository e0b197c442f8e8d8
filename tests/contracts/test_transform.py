"""What every transform promises, asked of the loop, of threads, of processes and of the one that chooses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from asyncup.errors import TransformBroken, TransformFailed
from asyncup.model import Upload
from asyncup.protocols import Transform
from asyncup.transforms.opening import open_transform
from tests.integration.transforms.functions import MARKS
from tests.integration.transforms.rows import LAYOUT, opened, rows, told

#: What a function does on the loop is its own business.
EXECUTORS = (pytest.param("loop", marks=pytest.mark.blocking), "thread", "process", "auto")


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
async def play(executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transform]:
    monkeypatch.setenv(MARKS, str(tmp_path))
    async with opened("play", executor=executor, workers=2) as transform:
        yield transform


async def test_rows_come_back_in_their_order_whatever_becomes_of_each(play: Transform) -> None:
    made = await play.apply(rows("a", "raise", "none", "b"))

    assert told(made) == [(b"a",), "TypeError: no such thing", (), (b"b",)]


async def test_what_may_be_given_arrives_as_plain_bytes_and_uploads(play: Transform) -> None:
    made = await play.apply(rows("text", "bytearray", "memoryview", "list", "empty", "upload", "uploads"))

    assert made == [
        (b"text",),
        (b"array",),
        (b"view",),
        (b"one", b"two"),
        (),
        (Upload("k", b"t", (("content-type", "text/plain"),)),),
        (Upload("first", b"1", (("x-a", "b"),)), b"uploads"),
    ]
    bodies = [one.body if isinstance(one, Upload) else one for row in told(made) for one in row]
    assert {type(body) for body in bodies} == {bytes}


async def test_anything_else_fails_its_row_by_the_name_of_its_type(play: Transform) -> None:
    made = told(await play.apply(rows("int", "dict", "list of int", "surrogate", "next")))

    assert made[0].startswith("the transform gave an int, not bytes, str, an Upload, an iterable of those, or None")
    assert "a dict, not" in made[1]
    assert "a list with an int in it" in made[2]
    assert "UTF-8" in made[3]
    assert made[4] == (b"next",)


async def test_an_exception_fails_its_row_with_the_functions_own_traceback(play: Transform) -> None:
    made = await play.apply(rows("raise", "exit", "broken generator"))

    for failed, message, line in zip(
        made,
        ("TypeError: no such thing", "SystemExit: 3", "LookupError: the second one is missing"),
        ("in play", "in play", "in broken"),
        strict=True,
    ):
        assert isinstance(failed, TransformFailed)
        assert failed.message == message
        assert failed.hint is not None
        assert failed.hint.endswith(line)
        assert failed.traceback is not None
        assert failed.traceback.startswith("Traceback")
        assert failed.traceback.rstrip().endswith(message)
        assert "asyncup/transforms/" not in failed.traceback


async def test_what_an_exception_says_can_be_written_as_utf_8(play: Transform) -> None:
    (failed,) = await play.apply(rows("raise a surrogate"))

    assert isinstance(failed, TransformFailed)
    assert failed.message == "ValueError: \\ud800"
    assert b"\\ud800" in (failed.traceback or "").encode()


async def test_a_large_body_and_a_row_without_one_go_through(play: Transform) -> None:
    large = (b'{"name": "large", "pad": "' + b"x" * (5 << 20) + b'"}', b'{"name": "large"}')

    made = await play.apply([("1", len(body), body) for body in large])

    assert told(made) == [(large[0],), (large[1],)]
    (failed,) = await play.apply([("1", None, None)])
    assert "there is no column 'name' here" in told([failed])[0]


async def test_several_portions_at_once_do_not_mix(play: Transform) -> None:
    names = [[f"{part}.{number}" for number in range(40)] for part in range(12)]

    made = await asyncio.gather(*(play.apply(rows(*part)) for part in names))

    assert [told(part) for part in made] == [[(name.encode(),) for name in part] for part in names]


async def test_a_call_that_is_cancelled_leaves_the_others_alone(play: Transform) -> None:
    first = asyncio.ensure_future(play.apply(rows("a", "b")))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait((first,))

    assert told(await play.apply(rows("c"))) == [(b"c",)]


async def test_portions_grow_with_quick_rows_and_stay_within_bounds(play: Transform) -> None:
    for _ in range(100):
        count, size = play.portion
        assert 1 <= count <= 512
        assert size == 4 << 20
        if count > 8:
            break
        await play.apply(rows(*["x"] * count))

    assert count > 8


async def test_nothing_is_left_once_it_is_closed(executor: str) -> None:
    children = set(psutil.Process().children(recursive=True))
    async with opened("shout", executor=executor, workers=2) as transform:
        for _ in range(4):
            await asyncio.gather(*(transform.apply(rows(*"abcdefgh")) for _ in range(4)))

    for thread in threading.enumerate():
        if thread.name.startswith("asyncup transform"):  # it has said so, and is on its last step
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
    assert set(psutil.Process().children(recursive=True)) <= children


async def test_setup_is_called_before_the_first_row_and_once_in_each_process(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"with_setup_{executor}"
    (tmp_path / f"{name}.py").write_text("n = 0\ndef setup():\n    global n; n += 1\ndef f(row): return str(n)\n")

    async with opened(f"{name}:f", executor=executor) as transform:
        made = await asyncio.gather(*(transform.apply(rows("a", "b")) for _ in range(4)))

    assert {product for part in made for product in told(part)} == {(b"1",)}


async def test_a_setup_that_fails_ends_the_run_with_its_traceback(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"bad_setup_{executor}"
    (tmp_path / f"{name}.py").write_text("def setup():\n    raise OSError('no model')\ndef f(row): return b''\n")

    with pytest.raises(TransformBroken, match=r"setup\(\) failed: OSError: no model") as caught:
        await open_transform(f"{name}:f", LAYOUT, executor=executor)

    assert caught.value.hint is not None
    assert f"{name}.py" in caught.value.hint
    assert caught.value.needs_configuration


async def test_what_is_told_names_the_function_once(executor: str) -> None:
    said: list[str] = []

    async with opened("wait", executor=executor, workers=2, say=said.append) as transform:
        for _ in range(6):
            await transform.apply(rows(*"abcdef"))

    assert len(said) == 1
    assert said[0].startswith("transform tests.integration.transforms.functions:wait runs ")
