"""Turns of the event loop instead of time, for the tests of what tasks wait at."""

from __future__ import annotations

import asyncio


async def settle() -> None:
    """Let everyone run who can: more turns of the loop than a test has tasks."""
    for _ in range(40):
        await asyncio.sleep(0)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
