"""Waiting for what has to come to its end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


async def to_its_end(ending: Coroutine[Any, Any, R], name: str | None = None) -> R:
    """The result of what has a deadline of its own. Whoever waits for it is cancelled only after it, not instead of it.

    `name` is that of its task.
    """
    task = asyncio.create_task(ending, name=name)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen; the cancellation says more
        raise cancelled
    return task.result()
