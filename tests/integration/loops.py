"""Tests that run on asyncio's own loop and on uvloop, and leave nothing open and nothing unsaid."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import pytest

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def _loops() -> dict[str, NewLoop]:
    loops: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:  # on Windows
        return loops
    return loops | {"uvloop": uvloop.new_event_loop}


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test once on each loop. It fails if the loop has a complaint, or if a file or socket stays open."""

    @functools.wraps(test)
    def run(new_loop: NewLoop, **fixtures: Any) -> None:
        complaints: list[dict[str, Any]] = []
        with asyncio.Runner(debug=True, loop_factory=new_loop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
            runner.run(_leaving_nothing(test(**fixtures)))
        gc.collect()  # what is dropped unclosed warns, and warnings are errors
        assert not complaints, complaints

    signature = inspect.signature(test)
    loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[loop, *signature.parameters.values()])  # type: ignore[attr-defined]
    del run.__wrapped__  # or pytest takes it for the test
    loops = _loops()
    parametrized: Callable[..., None] = pytest.mark.parametrize("new_loop", loops.values(), ids=loops)(run)
    return parametrized


async def _leaving_nothing(test: Coroutine[Any, Any, None]) -> None:
    # threads and files of the loop's own are there before anybody counts
    await asyncio.to_thread(int)
    first = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1")
    first.close()
    await first.wait_closed()
    before = open_files()
    async with asyncio.timeout(20):
        await test
    for _ in range(5000):  # what is closed is gone some turns of the loop later
        if open_files() <= before:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"{open_files() - before} files or sockets are still open")


def open_files() -> int:
    """Open files and sockets of this process."""
    return psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else 0
