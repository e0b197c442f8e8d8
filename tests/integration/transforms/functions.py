"""Functions as users write them, which processes import."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from asyncup.model import Upload
from asyncup.transforms import Record

#: Where functions leave marks for tests, outside of any process.
MARKS = "ASYNCUP_TEST_MARKS"


def mark(name: str) -> int:
    """Leave a mark; how often it has been left."""
    with (Path(os.environ[MARKS]) / name).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return len(marks(name))


def marks(name: str) -> list[int]:
    """The processes that left a mark, one for each time."""
    file = Path(os.environ[MARKS]) / name
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def body(row: Record) -> bytes | None:
    return row.body


def shout(row: Record) -> str:
    return str(row["name"]).upper()


def pid(_: Record) -> str:
    return str(os.getpid())


#: What a row's name asks for, in functions that misbehave.
def play(row: Record) -> Any:  # noqa: C901
    name = row["name"]
    match name:
        case "raise":
            raise TypeError("no such thing")
        case "raise a surrogate":
            raise ValueError("\ud800")
        case "exit":
            sys.exit(3)
        case "_exit":
            mark(name)
            os._exit(7)
        case "segfault":
            mark(name)
            ctypes.string_at(0)
        case "kill":
            mark(name)
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill once":
            if mark(name) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            mark(name)
            time.sleep(600)
        case "hang in C":
            mark(name)
            re.match(r"(a+)+$", "a" * 40 + "b")
        case "none":
            return None
        case "upload":
            return Upload("k", "t", {"Content-Type": "text/plain"})  # type: ignore[arg-type]
        case "uploads":
            return many(row)
        case "bytearray":
            return bytearray(b"array")
        case "memoryview":
            return memoryview(b"view")
        case "list":
            return ["one", b"two"]
        case "empty":
            return []
        case "int":
            return 5
        case "dict":
            return {"a": 1}
        case "list of int":
            return [b"x", 5]
        case "surrogate":
            return "\ud800"
        case "broken generator":
            return broken()
        case "large":
            return row.body
        case "print":
            print("from the function")
    return name


def many(row: Record) -> Iterator[Any]:
    yield Upload("first", bytearray(b"1"), (("X-A", "b"),))  # type: ignore[arg-type]
    yield row["name"]


def broken() -> Iterator[bytes]:
    yield b"one"
    raise LookupError("the second one is missing")


def burn(row: Record) -> str:
    """0.5 ms on a core."""
    until = time.thread_time() + 0.0005
    while time.thread_time() < until:
        pass
    return str(row["name"])


def wait(row: Record) -> str:
    time.sleep(0.002)
    return str(row["name"])


def quick(row: Record) -> bytes | None:
    return row.body


def hold(row: Record) -> str:
    """Quick, except for one row."""
    if row["name"] == "slow":
        time.sleep(0.02)
    return "quick"


async def awaited(row: Record) -> Any:
    match row["name"]:
        case "slow":
            await asyncio.sleep(600)
        case "raise":
            raise TypeError("no such thing")
        case "cancel":
            asyncio.get_running_loop().create_future().cancel()
            raise asyncio.CancelledError
        case "hold":
            time.sleep(0.02)
        case "meet":
            await MEETING.wait()
    return row["name"]


MEETING = asyncio.Barrier(3)


async def yielding(row: Record) -> AsyncIterator[str]:
    yield row["name"]
    await asyncio.sleep(0)
    yield "again"
