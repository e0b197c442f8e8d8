"""Every task and every thread that asyncup starts has a name that says what it is, for whoever looks at a process from outside."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import asyncup
from asyncup.bench.simulator.launch import RunningSimulator, simulator
from tests.conftest import Database

OWN = str(Path(asyncup.__file__).parent)
_STANDARD = (str(Path(asyncio.__file__).parent), str(Path(threading.__file__)), __file__)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningSimulator]:
    with simulator("--keep", "all") as running:
        yield running


@pytest.fixture
def docs(database: Database) -> Database:
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, b bytea); INSERT INTO docs SELECT n, 'x' FROM generate_series(1, 30) n;"
        "INSERT INTO docs SELECT 31, convert_to(repeat('x', 17 << 20), 'UTF8')"
    )
    return database


def is_ours(frame: FrameType | None) -> bool:
    """Whether the first that is none of Python's own is in asyncup."""
    while frame is not None and frame.f_code.co_filename.startswith(_STANDARD):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(OWN)


@pytest.mark.parametrize(
    "options",
    [
        {"body": "b", "state": "s3://state/asyncup", "readers": 2},
        {"body": "b", "s3_client": "botocore", "if_exists": "different", "compress": "gzip"},
        {"transform": "tests.integration.test_task_names:shortened", "executor": "process", "to": "file"},
    ],
)
async def test_every_task_and_thread_that_asyncup_starts_has_a_name_of_its_own(
    options: dict[str, Any],
    docs: Database,
    server: RunningSimulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    tasks: list[asyncio.Task[Any]] = []
    started: list[threading.Thread] = []

    def make(loop: asyncio.AbstractEventLoop, coro: Any, **given: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **given)
        if is_ours(sys._getframe()):
            tasks.append(task)
        return task

    start = threading.Thread.start

    def start_and_tell(thread: threading.Thread) -> None:
        if is_ours(sys._getframe()):
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_and_tell)
    asyncio.get_running_loop().set_task_factory(make)
    given = {"to": "s3://bucket/{id}", "state": str(tmp_path / "state"), **options}
    if given["to"] == "file":
        given["to"] = f"file://{tmp_path}/{{id}}"
    report = await asyncup.sync(dsn=docs.dsn, table="docs", endpoint_url=server.endpoint_url, **given)
    assert report.status == "complete"
    names = {task.get_name() for task in tasks} | {thread.name for thread in started}
    assert {re.sub(r"-\d+$", "", name) for name in names} >= {"asyncup-reader", "asyncup-keeper"}
    # of threads of the pool that to_thread() has the loop's owner says what they are called
    assert [name for name in names if not name.startswith("asyncup") and not name.startswith("asyncio_")] == []


def shortened(record: asyncup.Record) -> bytes:
    """A transform."""
    return bytes(record["b"][:10])
