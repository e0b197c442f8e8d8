"""Streamed bodies in the pipeline: what of them is held, how many at a time, and what becomes of them when they fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncup.errors import BodyRefused, ServerFault, SourceRefused
from asyncup.model import ROW_OVERHEAD, SLICE_BYTES, Counts, Receipt, Streamed, Upload
from asyncup.pipeline import STREAMS, WINDOW
from asyncup.testing import FaultySink, GatedSink, MemorySink, MemorySource
from tests.unit.runs import FakeRun, key

PAGE = 16_000
FROM = 10_000


def source(*bodies: bytes | None) -> MemorySource:
    return MemorySource(bodies, page_rows=4, page_bytes=PAGE, slice_bytes=1000)


def run(source: MemorySource, sink: MemorySink, **options: Any) -> FakeRun:
    return FakeRun(source, sink, streams_from=FROM, **options)


def large(number: int, size: int = 20_000) -> bytes:
    return (b"%d " % number * size)[:size]


class Keen(MemorySink):
    """Notes which bodies came streamed, and how many bytes of each it might hold."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: dict[str, int] = {}

    async def put(self, upload: Upload) -> Receipt:
        if isinstance(upload.body, Streamed):
            self.windows[upload.key] = upload.body.window
        return await super().put(upload)


async def test_only_deferred_bodies_from_a_size_on_are_streamed_and_all_arrive() -> None:
    bodies = [b"small", large(2), None, large(4, FROM), large(5, FROM - 1), b"", large(7, 100_000), b"x"]
    sink = Keen()
    one = run(source(*bodies), sink)
    assert await one.run()
    assert {name: upload.body for name, upload in sink.objects.items()} == {
        key(n): body for n, body in enumerate(bodies, 1) if body is not None
    }
    assert set(sink.windows) == {key(2), key(4), key(7)}
    assert one.settled == Counts(7, 1, 0, sum(len(body or b"") for body in bodies))
    assert one.pipeline.budget.used == 0


async def test_without_a_sink_that_takes_streams_none_are_made() -> None:
    sink = Keen()
    assert await FakeRun(source(large(1)), sink).run()
    assert (sink.windows, sink.objects[key(1)].body) == ({}, large(1))


@pytest.mark.parametrize("memory", [1, 1 << 20, 40 << 20, 200 << 20, 1 << 30])
async def test_of_a_streamed_body_what_may_be_held_is_in_the_budget_and_one_passes_in_any(memory: int) -> None:
    size = 200 << 20

    class Endless(MemorySource):
        def _row(self, number: int) -> tuple[Any, ...]:
            return (*super()._row(number)[:2], size, None)

    sink = GatedSink()
    sink.release(key(1))  # the first one goes alone
    one = run(Endless([large(1)] * 4, page_rows=1, page_bytes=PAGE), sink, memory=memory)
    running = one.start()
    while len(sink.waiting) < 2:
        await asyncio.sleep(0)
    window = max(FROM + size // 10_000, min(WINDOW, memory // 2))
    held = window + 2 * SLICE_BYTES
    at_once = max(1, min(STREAMS, memory // (held + ROW_OVERHEAD)))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(sink.waiting) == 1 + at_once
    assert one.pipeline.budget.peak <= max(memory, held + ROW_OVERHEAD + PAGE)
    sink.open()
    assert await running
    assert one.pipeline.budget.used == 0


async def test_no_more_are_read_at_a_time_than_there_are_connections_for() -> None:
    origin, most = source(*[large(n) for n in range(1, 13)]), 0

    def count(*_: int) -> None:
        nonlocal most
        most = max(most, origin.opened)

    origin.fault = count
    sink = MemorySink()
    assert await run(origin, sink, memory=1 << 30, readers=3).run()
    assert most == STREAMS
    assert len(sink.objects) == 12


async def test_small_and_huge_rows_in_turn_all_arrive_and_the_budget_holds() -> None:
    bodies = [large(n, 30_000 + n) if n % 2 else b"%d" % n for n in range(1, 200)]
    one = run(source(*bodies), sink := MemorySink(), memory=64 << 20)
    assert await one.run()
    assert [sink.objects[key(n)].body for n in range(1, 200)] == bodies
    assert one.pipeline.budget.peak <= 64 << 20


# --- what fails -----------------------------------------------------------------------------------------------


async def test_a_body_whose_reading_breaks_is_read_again_from_the_start_and_others_go_on() -> None:
    origin = source(b"small", large(2), large(3))
    faults = iter([ServerFault("read", "memory", "away")] * 2)
    origin.fault = lambda row, piece: next(faults, None) if (row, piece) == (2, 9) else None
    one = run(origin, sink := MemorySink())
    assert await one.run()
    assert [sink.objects[key(n)].body for n in (1, 2, 3)] == [b"small", large(2), large(3)]
    assert (one.tally.retries, one.settled.put) == (2, 3)
    assert (origin.opened, one.pipeline.budget.used) == (0, 0)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(BodyRefused("read", "memory", "too long"), 1), (ServerFault("read", "memory", "too long"), 4)],
)
async def test_a_body_that_cannot_be_read_fails_its_row_with_the_reason(error: Any, attempts: int) -> None:
    origin = source(b"small", large(2), large(3))
    origin.fault = lambda row, piece: type(error)(error.op, error.subject, error.message) if row == 2 else None
    one = run(origin, sink := MemorySink())
    assert await one.run()
    (letter,) = one.dead_letters.letters
    assert (letter.object_key, letter.error, letter.message) == (key(2), error.type, "too long")
    assert letter.attempts == attempts
    assert set(sink.objects) == {key(1), key(3)}
    assert one.settled == Counts(2, 0, 1, len(large(3)) + 5)
    assert one.pipeline.budget.used == 0


async def test_an_attempt_that_ends_before_anything_is_sent_is_no_request() -> None:
    origin = source(b"small", large(2))

    def unsent(row: int, _piece: int) -> BodyRefused | ServerFault | None:
        error = (
            BodyRefused("read", "memory", "denied") if row == 2 and failed else ServerFault("read", "memory", "away")
        )
        error.was_sent = False
        failed.append(error)
        return error

    failed: list[Any] = []
    origin.fault = unsent
    one = run(origin, MemorySink())
    assert await one.run()
    assert (one.settled.put, one.settled.failed) == (1, 1)
    assert (one.tally.attempts, one.tally.retries) == (1, 0)


async def test_a_deferred_body_that_cannot_be_read_fails_its_row_too() -> None:
    class Broken(MemorySource):
        async def body(self, row: Any) -> bytes | None:
            if int(row[0]) == 2:
                raise BodyRefused("read", "memory", "too long")
            return await super().body(row)

    one = FakeRun(Broken([b"x", large(2), large(3)], page_rows=4, page_bytes=PAGE), sink := MemorySink())
    assert await one.run()
    assert [letter.message for letter in one.dead_letters.letters] == ["too long"]
    assert set(sink.objects) == {key(1), key(3)}
    assert one.pipeline.budget.used == 0


async def test_a_row_that_has_gone_before_it_is_sent_is_skipped_and_nothing_was_attempted() -> None:
    origin = source(b"small", large(2), large(3))

    def gone(upload: Upload, attempt: int) -> None:
        if upload.key == key(1):
            origin._bodies[1] = None

    one = run(origin, sink := FaultySink(gone), concurrency=1)
    assert await one.run()
    assert one.settled == Counts(2, 1, 0, len(large(3)) + 5)
    assert (one.tally.attempts, set(sink.objects)) == (2, {key(1), key(3)})
    assert one.pipeline.budget.used == 0


async def test_what_every_row_would_meet_ends_the_run() -> None:
    origin = source(large(1), large(2))
    origin.fault = lambda *_: SourceRefused("read", "memory", "no such table")
    one = run(origin, MemorySink())
    with pytest.raises(SourceRefused):
        await one.run()
    assert origin.opened == 0
    assert one.settled.rows == 0


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_signal_leaves_no_body_open(signals: int) -> None:
    origin, halfway = source(large(1), large(2), large(3)), asyncio.Event()

    def stop(row: int, piece: int) -> None:
        if piece == 5 and not halfway.is_set():
            halfway.set()
            for _ in range(signals):
                one.interrupt.request(2)

    origin.fault = stop
    one = run(origin, sink := MemorySink(), concurrency=1)
    assert not await one.run()
    assert origin.opened == 0
    assert len(sink.objects) == (1 if signals == 1 else 0)
