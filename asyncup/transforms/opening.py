"""From `--transform package.module:function`, or a callable, to something that can be applied to rows."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from asyncup.errors import TransformBroken
from asyncup.protocols import Transform
from asyncup.transforms.auto import Auto, processes, started
from asyncup.transforms.failures import own_traceback, said
from asyncup.transforms.finding import Found, find, refuse_within_import
from asyncup.transforms.onloop import AwaitedOnLoop, CalledOnLoop
from asyncup.transforms.processes import InProcesses
from asyncup.transforms.record import Layout
from asyncup.transforms.threads import InThreads

T = TypeVar("T")

#: Calls of an `async def` that go on at once.
_AWAITED = 64


async def open_transform(
    spec: str | Callable[..., Any],
    layout: Layout,
    *,
    executor: str = "auto",
    workers: int | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - of a row, not of this call
    say: Callable[[str], None] = lambda _: None,
) -> Transform:
    """Find a user's function, call its module's `setup()`, and make ready what it runs in.

    `workers` is how many calls go on at once: of an `async def` 64 without it, in threads four more than there are cores
    (32 at most), in processes as many as there are cores for this process. `timeout` is in seconds, for each row. `say`
    is told once what was chosen and why, and what is worth a word later.

    Raises:
        TransformBroken: the function is not there or cannot be called, or it cannot run where it is to run.
    """
    refuse_within_import(spec)
    found = await _aside(lambda: find(spec), "import")
    if found.setup is not None and inspect.iscoroutinefunction(found.setup) and not found.is_async:
        raise TransformBroken(
            "start transform", found.name, "setup() is an async def, and the function is not", "write both alike"
        )
    cores = available_cores()
    threads = workers or min(32, cores + 4)
    if found.is_async:
        if executor in ("thread", "process"):
            raise TransformBroken(
                "start transform",
                found.name,
                f"{found.name} is an async def, and those run on the event loop, not in a {executor}",
                "leave --executor out, or write it as a plain def",
            )
        await _set_up(found)
        say(
            f"transform {found.name} runs on the event loop, up to {workers or _AWAITED} calls at once: it is an async def"
        )
        return AwaitedOnLoop(found, layout.view(), places=workers or _AWAITED, timeout=timeout, say=say)
    if executor == "process":
        stage = InProcesses(found, layout, places=workers or cores, timeout=timeout)
        try:
            await stage.open()
        except BaseException:
            await stage.close()
            raise
        say(f"transform {found.name} runs in {processes(workers or cores)}, as asked; {started(stage)}")
        return stage
    await _set_up(found)
    if executor == "loop":
        unused = "" if workers is None else ", so --executor-workers has no use for a plain def"
        say(f"transform {found.name} runs on the event loop, as asked: nothing else goes on during a call{unused}")
        return CalledOnLoop(found, layout.view(), timeout=timeout)
    if executor == "thread":
        say(f"transform {found.name} runs in up to {threads} threads, as asked")
        return InThreads(found, layout.view(), places=threads, timeout=timeout, say=say)
    return Auto(found, layout, cores=workers or cores, threads=threads, timeout=timeout, say=say)


async def _set_up(found: Found) -> None:
    """Call `setup()` where the function runs in this process."""
    setup = found.setup
    if setup is None:
        return
    try:
        if inspect.iscoroutinefunction(setup):
            await setup()
        else:
            await _aside(setup, "setup")
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - the user's own
        raise TransformBroken(
            "start transform", found.name, f"setup() failed: {said(exc)}", own_traceback(exc)
        ) from None


async def _aside(call: Callable[[], T], what: str) -> T:
    """What a call of a user's gives, made in a thread of its own: one that hangs must not keep the process from ending.

    Python would wait for a thread of its own pool.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    given: list[T] = []
    errors: list[BaseException] = []

    def finish() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        try:
            given.append(call())
        except BaseException as exc:  # noqa: BLE001 - the user's own
            errors.append(exc)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=f"asyncup {what}", daemon=True).start()
    await done
    for error in errors:
        raise error
    return given[0]


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
