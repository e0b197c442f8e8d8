"""What the tasks and threads of a process are at, for whoever asks a run that is slow or stands still."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import traceback
from collections import Counter
from types import FrameType
from typing import Any

from asyncup.events import Alike

_NUMBER = re.compile(r"[-_]\d+$")
_OURS = "asyncup."
#: Where everything waits in the end, whatever it waits for.
_TELLS_NOTHING = frozenset({"asyncup.flow.waiters"})
#: Places that are told of one kind of tasks.
_PLACES = 3
#: Calls that are shown of a thread.
_CALLS = 8
#: What asynchronous generators are awaited through; only the collector knows whose it is.
_WRAPPERS = frozenset({"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"})


def tasks_of(loop: asyncio.AbstractEventLoop) -> tuple[Alike, ...]:
    """The tasks of a loop by kind, the most first; each kind with the places in our code where most of it wait."""
    kinds: dict[str, Counter[str]] = {}
    for task in asyncio.all_tasks(loop):
        kinds.setdefault(_NUMBER.sub("", task.get_name()), Counter())[place_of(task.get_coro())] += 1
    found = [Alike(name, places.total(), tuple(places.most_common(_PLACES))) for name, places in kinds.items()]
    return tuple(sorted(found, key=lambda one: (-one.count, one.name)))


def place_of(awaited: Any) -> str:
    """Where in our code a coroutine waits: `flow.channel.Channel.receive`."""
    place, steps = "", 0
    while awaited is not None and steps < 100:
        steps += 1
        frame = _of(awaited, "frame")
        if frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            if (module.startswith(_OURS) and module not in _TELLS_NOTHING) or not place:
                place = f"{module.removeprefix(_OURS)}.{frame.f_code.co_qualname}"
        awaited = _behind(awaited)
    return place


def _behind(awaited: Any) -> Any:
    """What it waits for itself."""
    if type(awaited).__name__ in _WRAPPERS:
        return next(
            (one for one in gc.get_referents(awaited) if _of(one, "frame") or type(one).__name__ in _WRAPPERS), None
        )
    return _of(awaited, "await") or getattr(awaited, "gi_yieldfrom", None)


def _of(awaited: Any, what: str) -> Any:
    """An attribute of coroutines and generators, whatever it begins with there."""
    return next((found for kind in ("cr", "ag", "gi") if (found := getattr(awaited, f"{kind}_{what}", None))), None)


def threads() -> tuple[tuple[str, int], ...]:
    """The threads of this process by name, without the main one."""
    names = (_NUMBER.sub("", thread.name) for thread in threading.enumerate() if thread is not threading.main_thread())
    return tuple(sorted(Counter(names).items()))


def stacks(main: FrameType | None) -> tuple[str, ...]:
    """The last calls of every thread, the main one first. `main` is where that one is, but for whoever asks."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.main_thread().ident
    frames = sys._current_frames()  # noqa: SLF001 - there is no other way
    if main is not None and own is not None:
        frames[own] = main
    return tuple(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame)[-_CALLS:]).rstrip()}"
        for ident, frame in sorted(frames.items(), key=lambda item: item[0] != own)
    )
