"""Sending at a level that moves: who has a place, who waits out of the way, and who works in the meantime."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from asyncup.errors import AsyncupError, ServerFault, Throttled
from asyncup.events import Progress
from asyncup.flow.gate import FEW, Limits
from asyncup.flow.level import FIXED, THROTTLED
from asyncup.flow.search import START
from asyncup.model import Upload
from asyncup.testing import FaultySink, GatedSink, MemorySink, MemorySource
from tests.unit.runs import FakeRun, bodies, key, until

FAULT = ServerFault("put", "o", "InternalError")


def senders() -> int:
    return sum(task.get_name().startswith("asyncup-sender") for task in asyncio.all_tasks())


class Patience:
    """Waits for another attempt last until they are ended."""

    def __init__(self, run: FakeRun) -> None:
        self.over = asyncio.Event()
        self.sleeping = 0
        self.run = run
        run.pipeline._parts.sending._sleep = self._sleep

    @property
    def holding(self) -> int:
        """How many sleep at their place."""
        return self.sleeping - self.run.pipeline._away

    async def _sleep(self, seconds: float) -> bool:
        self.sleeping += 1
        await self.over.wait()
        self.sleeping -= 1
        return True


async def test_a_row_that_waits_for_another_attempt_has_no_place_and_takes_no_sender() -> None:
    def fault(upload: Upload, attempt: int) -> AsyncupError | None:
        return FAULT if attempt == 1 and int(upload.key[-1]) % 2 == 0 else None

    run = FakeRun(MemorySource(bodies(100)), FaultySink(fault), concurrency=4)
    patience = Patience(run)
    running = run.start()
    await until(lambda: (run.settled.put, patience.sleeping) == (50, 50))
    assert run.pipeline.limiter.in_flight == 0
    assert run.sink.peak <= 4
    assert senders() <= 4 + 50
    patience.over.set()
    assert await running is True
    assert run.settled.put == 100
    assert run.sink.peak <= 4
    assert run.tally.attempts == 150


async def test_where_nothing_succeeds_any_more_no_other_rows_come_to_wait_as_well() -> None:
    sink = FaultySink(lambda upload, attempt: FAULT if attempt == 1 and upload.key > key(10) else None)
    run = FakeRun(MemorySource(bodies(1000)), sink, concurrency=4)
    patience = Patience(run)
    running = run.start()
    await until(lambda: run.settled.put == 10 and run.pipeline.limiter.in_flight == patience.holding == 4)
    assert patience.sleeping < 4 + 2 * FEW
    patience.over.set()
    assert await running is True
    assert run.settled.put == 1000


async def test_until_the_first_row_has_its_end_no_other_is_sent_whatever_it_meets() -> None:
    run = FakeRun(MemorySource(bodies(50)), FaultySink(lambda _, attempt: FAULT if attempt == 1 else None))
    patience = Patience(run)
    running = run.start()
    await until(lambda: patience.sleeping == 1)
    for _ in range(200):
        await asyncio.sleep(0)
    assert run.sink.attempts == 1
    patience.over.set()
    assert await running is True
    assert run.settled.put == 50


async def test_senders_come_as_the_level_asks_for_them_and_not_before() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(3000)), sink, limits=Limits(most=500))
    running = run.start()
    await until(lambda: sink.waiting)
    assert senders() == 1
    sink.release(key(1))
    await until(lambda: sink.in_flight == START)
    assert senders() == START
    sink.open()
    assert await running is True
    assert run.pipeline.limiter.peak >= START
    assert run.watcher.of(Progress)[-1].limit == run.pipeline.gate.level.limit


async def test_a_fixed_number_in_flight_is_said_to_be_fixed() -> None:
    run = FakeRun(MemorySource(bodies(100)), MemorySink(), concurrency=7)
    await run.run()
    last = run.watcher.of(Progress)[-1]
    assert (last.limit, last.reason, run.sink.peak) == (7, FIXED, 7)


@pytest.mark.parametrize("concurrency", [8, None])
async def test_a_rate_bounds_all_attempts_repeated_ones_too(concurrency: int | None) -> None:
    sink = FaultySink(lambda upload, attempt: FAULT if attempt == 1 else None)
    run = FakeRun(MemorySource(bodies(20)), sink, limits=Limits(concurrency, rate=200.0))
    begun = time.perf_counter()
    assert await run.run() is True
    took = time.perf_counter() - begun
    assert sink.attempts == 40
    assert took >= (40 - 1) / 200 - 0.05 - 0.01, "but for what may be made up for"


async def test_a_drain_does_not_wait_for_the_turns_of_a_slow_rate() -> None:
    sink = MemorySink()
    run = FakeRun(MemorySource(bodies(1000)), sink, limits=Limits(50, rate=0.1))
    running = run.start()
    await until(lambda: sink.objects)
    await until(lambda: run.pipeline.gate._rates[0][1].waiting)
    assert run.pipeline.gate.in_flight == 0
    run.interrupt.request(signal.SIGTERM)
    assert await asyncio.wait_for(running, 5) is False
    assert len(sink.objects) == 1, "what only waited for its turn is not sent"


async def test_a_server_that_throttles_for_a_while_is_asked_less_and_nothing_is_lost() -> None:
    class Busy(MemorySink):
        """Takes 400 a second."""

        def __init__(self) -> None:
            super().__init__()
            self.begun = time.perf_counter()
            self.taken = 0

        async def _before(self, upload: Upload) -> None:
            await asyncio.sleep(0.005)
            if self.taken > 400 * (time.perf_counter() - self.begun) + 1:
                raise Throttled("put", upload.key, "SlowDown")
            self.taken += 1

    sink = Busy()
    run = FakeRun(MemorySource(bodies(600)), sink, limits=Limits(), max_attempts=1000)
    assert await run.run() is True
    assert run.settled.put == 600
    assert sink.attempts < 3 * 600, "some thousands, if it were asked as before"
    assert THROTTLED in {progress.reason for progress in run.watcher.of(Progress)}
