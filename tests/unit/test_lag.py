"""The meter of the event loop's lag."""

from __future__ import annotations

import asyncio
import time

import pytest

from asyncup.flow.lag import EVERY, Lag


@pytest.mark.blocking
async def test_what_holds_the_event_loop_is_seen_and_forgotten_when_it_is_taken() -> None:
    lag = Lag()
    lag.begin()
    await asyncio.sleep(EVERY * 2)
    time.sleep(EVERY + 0.2)
    await asyncio.sleep(EVERY)
    assert lag.most >= 0.15
    assert lag.take_recent() >= 0.15
    lag.end()
    seen = lag.latenesses.count
    await asyncio.sleep(EVERY * 2)
    assert lag.latenesses.count == seen >= 2
    assert lag.take_recent() == 0.0
