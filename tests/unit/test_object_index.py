"""The index of a listing: what was listed is found, what nobody asked for is told, memory and disk are bounded."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from asyncup.compare.index import SCAN_ROWS, ObjectIndex
from asyncup.errors import ServerFault
from asyncup.model import Listed

ODD = ("", "a\0b", "ünï/çødé", "\U0001f5dd", "\uffff", "%2F", "'; DROP TABLE objects; --", "a" * 1024)


async def pages(listed: Sequence[Listed], size: int = 1000) -> AsyncGenerator[Sequence[Listed], None]:
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


async def filled(listed: Sequence[Listed]) -> ObjectIndex:
    index = ObjectIndex()
    await index.fill(pages(listed))
    return index


async def unseen(index: ObjectIndex) -> list[str]:
    return [listed.key async for page in index.unseen() for listed in page]


async def test_what_was_listed_is_found_and_nothing_else() -> None:
    listed = [Listed(key, number, f"etag {number}") for number, key in enumerate(ODD)] + [Listed("no etag", 5 << 40)]
    index = await filled(listed)
    assert [await index.look(one.key) for one in listed] == listed
    assert [await index.look(key) for key in ("a", "A" * 1024, "ÜNÏ/çødé", "no etag ")] == [None] * 4
    assert index.objects == len(listed)
    await index.close()


async def test_objects_that_nobody_asked_for_are_told_in_the_order_of_their_bytes() -> None:
    keys = [f"{number:05d}" for number in range(3 * SCAN_ROWS)] + ["\uffff", "\U0001f5dd"]
    index = await filled([Listed(key, 1) for key in keys])
    asked = random.Random(1).sample(keys[:-2], SCAN_ROWS)
    await asyncio.gather(*[index.look(key) for key in (*asked, "not listed")])
    assert await unseen(index) == sorted(set(keys) - set(asked), key=str.encode)
    await index.close()


async def test_many_who_ask_at_once_get_each_their_own_answer() -> None:
    listed = [Listed(f"key {number}", number) for number in range(700)]
    index = await filled(listed)
    asked = [one.key for one in listed] * 2
    found = await asyncio.gather(*[index.look(key) for key in asked])
    assert [one and one.key for one in found] == asked
    assert await unseen(index) == []
    await index.close()


async def test_one_who_stops_waiting_leaves_the_others_their_answers() -> None:
    index = await filled([Listed("key", 1)])
    tasks = [asyncio.create_task(index.look("key")) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [False, True, False]
    assert await index.look("key") == Listed("key", 1)
    await index.close()


async def test_of_an_object_that_is_listed_twice_the_later_one_counts_and_once() -> None:
    index = await filled([Listed("key", 1, "old"), Listed("key", 2, "new")])
    assert index.objects == 1
    assert await index.look("key") == Listed("key", 2, "new")
    assert await unseen(index) == []
    await index.close()


async def test_an_empty_listing_is_a_listing() -> None:
    index = await filled([])
    assert (index.objects, await index.look("key"), await unseen(index)) == (0, None, [])
    await index.close()


async def test_a_listing_that_breaks_is_closed_and_raises_its_own_error() -> None:
    closed = []

    async def breaking() -> AsyncGenerator[Sequence[Listed], None]:
        try:
            yield [Listed("key", 1)]
            raise ServerFault("list", "bucket", "no")
        finally:
            closed.append(True)

    index = ObjectIndex()
    with pytest.raises(ServerFault):
        await index.fill(breaking())
    assert closed == [True]
    await index.close()


async def test_closing_ends_the_thread_whether_it_was_used_or_not() -> None:
    for index in (ObjectIndex(), await filled([Listed("key", 1)])):
        asking = [asyncio.create_task(index.look("key")) for _ in range(2)] if index.objects else []
        await asyncio.sleep(0)
        await index.close()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        with pytest.raises(RuntimeError):  # its thread takes nothing any more
            await index.fill(pages([]))


FILL = """
import asyncio, os, resource, signal, sys
from asyncup.compare.index import ObjectIndex
from asyncup.errors import StateLost
from asyncup.model import Listed

async def pages():
    for start in range(0, 32_000, 1000):
        yield [Listed(f"{number:06d}/{'k' * 900}", 1) for number in range(start, start + 1000)]

async def main():
    index = ObjectIndex()
    try:
        await index.fill(pages())
        print(os.listdir(os.environ["TMPDIR"]))
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        mine = [link for link in links if os.path.islink(link) and os.readlink(link).startswith(os.environ["TMPDIR"])]
        print(all(os.readlink(link).endswith(" (deleted)") for link in mine))
        print(max(os.stat(link).st_size for link in mine) > 16 << 20)
        await index.close()
        print([link for link in mine if os.path.islink(link)])
    except StateLost as error:
        print(error.op, error.hint)
        await index.close()

if sys.argv[1:]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
asyncio.run(main())
"""


def fill(folder: Path, *arguments: str) -> str:
    """Fill an index in a process of its own: where SQLite puts its files is settled when it is first used."""
    environment = {name: value for name, value in os.environ.items() if name != "SQLITE_TMPDIR"}
    return subprocess.run(
        [sys.executable, "-c", FILL, *arguments],
        env={**environment, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks at what is open in /proc")
def test_what_memory_does_not_hold_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    assert fill(tmp_path).splitlines() == ["[]", "True", "True", "[]"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_disk_that_takes_no_more_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    said = fill(tmp_path, "limited")
    assert said.startswith("index objects")
    assert "TMPDIR" in said
