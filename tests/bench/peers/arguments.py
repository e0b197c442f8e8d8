"""What every peer is told on its command line, and what a loop of tasks is like in all of them."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

BUCKET = "bucket"
REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Task:
    """Put `body` as `objects` objects into the bucket, `in_flight` at a time. `authority` is a PEM file, for https."""

    endpoint_url: str
    objects: int
    body: bytes
    in_flight: int
    authority: str | None

    @property
    def keys(self) -> tuple[str, str]:
        """Access key and secret key, as the environment has them for all clients."""
        return os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]


def read_task() -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint_url")
    parser.add_argument("objects", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("in_flight", type=int)
    parser.add_argument("--authority")
    given = parser.parse_args()
    return Task(given.endpoint_url, given.objects, os.urandom(given.size), given.in_flight, given.authority)


async def put_all(task: Task, put: Callable[[str], Awaitable[Any]]) -> None:
    """Call `put` with every object key, in as many tasks as are to be in flight."""
    numbers = iter(range(1, task.objects + 1))

    async def sender() -> None:
        for number in numbers:
            await put(f"{number}.json")

    async with asyncio.TaskGroup() as group:
        for _ in range(task.in_flight):
            group.create_task(sender())


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on the fastest loop there is."""
    try:
        from uvloop import new_event_loop
    except ImportError:  # Windows
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main)
