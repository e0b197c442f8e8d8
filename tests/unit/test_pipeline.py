"""The pipeline over fakes: order, bounds, accounting, and how a run ends. No sockets; gates instead of sleeps."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import tracemalloc
from collections.abc import AsyncGenerator

import pytest

from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    DestinationRefused,
    InternalError,
    ReadingBroken,
    RowRefused,
    ServerFault,
    StateLost,
    Throttled,
    TooManyFailures,
    Unreachable,
)
from asyncup.events import Draining, Progress, RowFailed
from asyncup.flow.retry import Interrupted
from asyncup.model import ROW_OVERHEAD, WHOLE, Counts, Key, Page, Range, Reach, Receipt, Row, Upload
from asyncup.testing import FaultySink, GatedSink, MemoryCheckpoints, MemorySink, MemorySource
from tests.unit.runs import FRESH, FakeRun, bodies, key, ranges, until


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1234])
async def test_every_row_becomes_one_object(count: int) -> None:
    run = FakeRun(MemorySource(bodies(count)), MemorySink())
    assert await run.run() is True
    assert {name: upload.body for name, upload in run.sink.objects.items()} == {
        key(number): b"body %d" % number for number in range(1, count + 1)
    }
    assert run.settled.rows == run.settled.put == count
    assert run.last.finished
    assert run.last.counts == run.settled
    assert run.last.watermark == ((f"{count:012d}",) if count else None)


async def test_the_number_of_tasks_does_not_depend_on_the_number_of_rows() -> None:
    seen: set[str] = set()

    class Counting(MemorySink):
        async def _before(self, upload: Upload) -> None:
            seen.update(task.get_name() for task in asyncio.all_tasks())
            await super()._before(upload)

    await FakeRun(MemorySource(bodies(3000)), Counting(), concurrency=5).run()
    senders = {name for name in seen if name.startswith("asyncup-sender")}
    assert len(senders) == 5
    assert {name for name in seen if name.startswith("asyncup")} - senders <= {
        "asyncup-reader-0",
        "asyncup-feeder",
        "asyncup-keeper",
        "asyncup-steersman",
        "asyncup-save",
    }


async def test_no_task_is_left_behind() -> None:
    before = asyncio.all_tasks()
    await FakeRun(MemorySource(bodies(300)), MemorySink()).run()
    assert asyncio.all_tasks() == before


async def test_concurrency_is_used_and_never_exceeded() -> None:
    run = FakeRun(MemorySource(bodies(500)), MemorySink(), concurrency=7)
    await run.run()
    assert run.sink.peak == 7
    assert run.pipeline.limiter.peak == 7


async def test_the_first_upload_goes_alone() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(50)), sink, concurrency=8)
    running = run.start()
    await until(lambda: sink.waiting)
    for _ in range(200):
        await asyncio.sleep(0)
    assert list(sink.waiting) == [key(1)]
    sink.release(key(1))
    await until(lambda: sink.in_flight == 8)
    sink.open()
    assert await running is True


async def test_a_refusal_of_the_first_upload_ends_the_run_before_others_are_sent() -> None:
    refusal = DestinationRefused("put", "o", "AccessDenied")
    sink = FaultySink(lambda upload, attempt: refusal)
    run = FakeRun(MemorySource(bodies(50)), sink)
    with pytest.raises(DestinationRefused):
        await run.run()
    assert sink.attempts == 1
    assert run.checkpoints.saved == [], "nothing is settled, so nothing binds the next run"


async def test_a_first_upload_that_keeps_failing_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It succeeds only when all others have."""
    monkeypatch.setattr("asyncup.pipeline.FIRST_SECONDS", 0.05)

    def fault(upload: Upload, _attempt: int) -> AsyncupError | None:
        poisoned = upload.key == key(1) and len(sink.objects) < 49
        return ServerFault("put", upload.key, "no") if poisoned else None

    sink = FaultySink(fault)
    run = FakeRun(MemorySource(bodies(50)), sink, max_attempts=1_000_000)
    assert await run.run() is True
    assert list(sink.objects)[-1] == key(1)


async def test_the_watermark_waits_for_the_oldest_open_row() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(400), page_rows=100), sink, concurrency=4)
    running = run.start()
    sink.release(key(1), *[key(number) for number in range(3, 401)])
    await until(lambda: run.settled.put == 399)
    assert run.pipeline.watermark.tracks[0].position is None
    sink.release(key(2))
    assert await running is True
    assert run.pipeline.watermark.tracks[0].position == (f"{400:012d}",)


async def test_reading_stops_when_the_memory_budget_is_held() -> None:
    size = 10_000
    sink = GatedSink()
    source = MemorySource([bytes(size)] * 2000, page_rows=10, page_bytes=10 * size)
    memory = 40 * (size + ROW_OVERHEAD)
    run = FakeRun(source, sink, concurrency=4, memory=memory)
    running = run.start()
    sink.release(key(1))
    await until(lambda: sink.in_flight == 4)
    for _ in range(2000):
        await asyncio.sleep(0)
    assert source.read <= 50
    assert run.pipeline.budget.peak <= memory
    sink.open()
    assert await running is True
    assert run.pipeline.budget.peak <= memory
    assert run.pipeline.budget.used == 0


async def test_a_row_that_is_larger_than_the_whole_budget_passes_alone() -> None:
    large = 1_000_000
    alone: list[int] = []

    class Watching(MemorySink):
        async def _before(self, upload: Upload) -> None:
            if len(upload.body) == large:
                alone.append(self.in_flight)
            await super()._before(upload)

    rows: list[bytes | None] = [bytes(100)] * 30 + [bytes(large)] + [bytes(100)] * 30 + [bytes(large)] * 3
    source = MemorySource(rows, page_rows=10, page_bytes=20_000)
    run = FakeRun(source, Watching(), memory=100_000)
    assert await run.run() is True
    assert alone == [1, 1, 1, 1]
    assert len(run.sink.objects) == 64
    assert run.pipeline.budget.used == 0
    assert run.pipeline.budget.peak == 2 * large + ROW_OVERHEAD


async def test_what_is_held_in_memory_is_what_the_budget_says() -> None:
    """Waiting senders, the reader and the feeder hold no row that is settled."""
    size, memory = 500_000, 4_000_000

    class Generating(MemorySource):
        async def body(self, row: Row) -> bytes | None:
            await asyncio.sleep(0)
            return bytes(size)

    class Forgetting(MemorySink):
        async def put(self, upload: Upload) -> Receipt:
            await asyncio.sleep(0)
            return Receipt(upload.key, len(upload.body))

    shared = bytes(size)
    run = FakeRun(Generating([shared] * 200, page_bytes=100_000), Forgetting(), concurrency=64, memory=memory)
    tracemalloc.start()
    try:
        assert await run.run() is True
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert run.settled.bytes == 200 * size
    assert peak < memory + 2 * size


async def test_a_deferred_body_that_has_gone_is_skipped_and_counted() -> None:
    class Vanishing(MemorySource):
        async def body(self, row: object) -> bytes | None:
            return None

    run = FakeRun(Vanishing([bytes(5000), b"x"], page_rows=2, page_bytes=100), MemorySink())
    assert await run.run() is True
    assert run.settled == Counts(put=1, skipped=1, failed=0, bytes=1)
    assert run.pipeline.budget.used == 0


@pytest.mark.parametrize(
    ("on_null", "expected"),
    [("skip", Counts(2, 1, 0, 2)), ("empty", Counts(3, 0, 0, 2)), ("fail", Counts(2, 0, 1, 2))],
)
async def test_null_bodies_are_counted_as_asked(on_null: str, expected: Counts) -> None:
    run = FakeRun(MemorySource([b"a", None, b"b"]), MemorySink(), on_null=on_null)
    assert await run.run() is True
    assert run.settled == expected
    assert run.pipeline.watermark.counts == expected


async def test_what_may_mend_is_tried_again_and_counted() -> None:
    def fault(upload: Upload, attempt: int) -> Exception | None:
        if attempt == 1 and upload.key.endswith("3"):
            return ServerFault("put", upload.key, "500")
        if attempt == 1 and upload.key.endswith("7"):
            return Throttled("put", upload.key, "503")
        return None

    run = FakeRun(MemorySource(bodies(100)), FaultySink(fault))
    assert await run.run() is True
    assert run.settled.put == 100
    assert (run.tally.attempts, run.tally.retries, run.tally.throttled) == (120, 20, 10)


async def test_a_row_that_keeps_failing_becomes_a_dead_letter_and_blocks_nobody() -> None:
    def fault(upload: Upload, attempt: int) -> Exception | None:
        return ServerFault("put", upload.key, "500: no") if upload.key in (key(5), key(60)) else None

    run = FakeRun(MemorySource(bodies(100)), FaultySink(fault), max_attempts=3)
    assert await run.run() is True
    assert run.settled.put == 98
    assert [(letter.key, letter.object_key, letter.error, letter.attempts) for letter in run.dead_letters.letters] == [
        ((f"{5:012d}",), key(5), "ServerFault", 3),
        ((f"{60:012d}",), key(60), "ServerFault", 3),
    ]
    assert run.last.finished
    assert run.last.counts.failed == 2
    assert len(run.watcher.of(RowFailed)) == 2


async def test_a_dead_letter_is_durable_before_the_checkpoint_passes_its_row() -> None:
    order: list[str] = []

    class Ordered(MemoryCheckpoints):
        async def save(self, checkpoint: object) -> None:
            order.append("checkpoint")
            await super().save(checkpoint)  # type: ignore[arg-type]

    run = FakeRun(
        MemorySource(bodies(10)),
        FaultySink(lambda upload, attempt: RowRefused("put", upload.key, "no")),
        checkpoints=Ordered(),
    )
    append = run.dead_letters.append

    async def recorded(letters: object) -> None:
        order.append("letters")
        await append(letters)  # type: ignore[arg-type]

    run.dead_letters.append = recorded  # type: ignore[method-assign,assignment]
    await run.run()
    assert order == ["letters", "checkpoint"]


async def test_dead_letters_that_cannot_be_written_end_the_run_and_hold_the_checkpoint_back() -> None:
    run = FakeRun(
        MemorySource(bodies(5000)),
        FaultySink(lambda upload, attempt: RowRefused("put", upload.key, "no") if upload.key != key(1) else None),
    )
    run.dead_letters.error = StateLost("write dead letters", "file", "disk full")
    with pytest.raises(StateLost):
        await run.run()
    assert run.checkpoints.saved == []


async def test_a_checkpoint_that_cannot_be_written_ends_the_run() -> None:
    run = FakeRun(MemorySource(bodies(10)), MemorySink())
    run.checkpoints.error = StateLost("save checkpoint", "file", "disk full")
    with pytest.raises(StateLost):
        await run.run()


async def test_more_failures_than_allowed_end_the_run() -> None:
    run = FakeRun(
        MemorySource(bodies(1000)),
        FaultySink(
            lambda upload, attempt: RowRefused("put", upload.key, "no") if attempt and upload.key != key(1) else None
        ),
        max_failures=10,
    )
    with pytest.raises(TooManyFailures, match="11 rows failed"):
        await run.run()
    assert 11 <= len(run.dead_letters.letters) <= 11 + 8  # those that were in flight with it
    assert not run.pipeline.complete


async def test_an_error_of_the_source_ends_the_run_with_what_is_settled_saved() -> None:
    source = MemorySource(
        bodies(300), page_rows=100, page_bytes=10_000, error=ReadingBroken("read", "t", "gone"), error_at=200
    )
    run = FakeRun(source, MemorySink(), memory=60_000)  # room for one page: the first settles before the third is read
    with pytest.raises(ReadingBroken):
        await run.run()
    assert not run.last.finished
    assert run.last.watermark is not None
    assert int(run.last.watermark[0] or 0) == run.last.counts.rows
    assert run.last.counts.rows in (100, 200)


async def test_an_unexpected_exception_is_reported_as_a_defect() -> None:
    run = FakeRun(MemorySource(bodies(10)), FaultySink(lambda upload, attempt: RuntimeError("surprise")))
    with pytest.raises(InternalError, match="RuntimeError: surprise"):
        await run.run()


async def test_a_destination_that_no_longer_answers_ends_the_run_instead_of_failing_rows() -> None:
    sink = FaultySink(lambda upload, attempt: None if upload.key == key(1) else ConnectionLost("put", "o", "reset"))
    sink.unreachable = ConnectionLost("check bucket", "s3://b", "no answer in time")
    run = FakeRun(MemorySource(bodies(10)), sink, max_attempts=2)
    with pytest.raises(Unreachable):
        await run.run()
    assert run.dead_letters.letters == []


async def test_one_object_whose_exchange_always_breaks_fails_alone() -> None:
    sink = FaultySink(lambda upload, attempt: ConnectionLost("put", "o", "reset") if upload.key == key(4) else None)
    run = FakeRun(MemorySource(bodies(10)), sink, max_attempts=2)
    assert await run.run() is True
    assert [letter.object_key for letter in run.dead_letters.letters] == [key(4)]


async def test_the_first_signal_stops_reading_and_lets_uploads_in_flight_finish() -> None:
    sink, source = GatedSink(), MemorySource(bodies(5000))
    run = FakeRun(source, sink, concurrency=4)
    running = run.start()
    sink.release(key(1))
    await until(lambda: sink.in_flight == 4)
    read = source.read
    run.interrupt.request(2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not running.done()
    sink.open()
    assert await running is False
    assert source.read == read
    assert len(sink.objects) == 5
    assert run.settled.put == 5
    assert not run.pipeline.complete
    (draining,) = run.watcher.of(Draining)
    assert (draining.signal, draining.in_flight) == ("SIGINT", 4)


async def test_the_second_signal_aborts_what_is_in_flight_and_saves_what_is_settled() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(5000)), sink, concurrency=4)
    running = run.start()
    sink.release(key(1))
    await until(lambda: sink.in_flight == 4)
    run.interrupt.request(15)
    run.interrupt.request(15)
    assert await running is False
    assert run.settled.put == len(sink.objects) == 1


async def test_a_drain_ends_at_its_deadline() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(100)), sink, drain_timeout=0.05)
    running = run.start()
    await until(lambda: sink.in_flight == 1)
    run.interrupt.request(2)
    async with asyncio.timeout(5):
        assert await running is False
    assert sink.objects == {}


async def test_a_drain_does_not_wait_for_another_attempt() -> None:
    run = FakeRun(
        MemorySource(bodies(100)), FaultySink(lambda upload, attempt: Throttled("put", "o", "slow", None, 60.0))
    )
    running = run.start()
    await until(lambda: run.tally.throttled)
    run.interrupt.request(2)
    async with asyncio.timeout(5):
        assert await running is False
    assert run.settled.rows == 0
    assert run.tally.retries == 0  # none was sent
    assert run.dead_letters.letters == []


async def test_a_signal_after_the_last_row_leaves_a_finished_run() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(3)), sink, concurrency=8)
    running = run.start()
    sink.release(key(1))
    await until(lambda: sink.in_flight == 2)
    run.interrupt.request(2)
    sink.open()
    assert await running is True
    assert run.last.finished


async def test_cancellation_from_outside_saves_and_is_never_wrapped() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(5000)), sink, concurrency=4)
    running = run.start()
    sink.release(*[key(number) for number in range(1, 101)])
    await until(lambda: run.settled.put == 100)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert run.last.watermark == (f"{100:012d}",)
    assert not run.last.finished


async def test_large_rows_move_the_watermark_one_by_one() -> None:
    sink = GatedSink()
    run = FakeRun(MemorySource([bytes(3 << 20)] * 4), sink, concurrency=4)
    running = run.start()
    sink.release(key(1), key(2), key(4))
    await until(lambda: run.settled.put == 3)
    assert run.pipeline.watermark.tracks[0].position == (f"{2:012d}",)
    sink.release(key(3))
    assert await running is True


async def test_an_upload_that_ends_itself_because_of_a_drain_leaves_its_row_open() -> None:
    class Parts(MemorySink):
        async def put(self, upload: Upload) -> Receipt:
            if upload.key == key(2):
                raise Interrupted
            return await super().put(upload)

    run = FakeRun(MemorySource(bodies(2)), Parts(), concurrency=1)
    assert await run.run() is False
    assert (run.settled.put, run.settled.failed) == (1, 0)


async def test_a_resumed_run_begins_behind_the_watermark_and_keeps_the_counts() -> None:
    checkpoint = dataclasses.replace(FRESH, watermark=(f"{120:012d}",), counts=Counts(100, 15, 5, 700))
    run = FakeRun(MemorySource(bodies(200)), MemorySink(), checkpoint=checkpoint)
    assert await run.run() is True
    assert sorted(run.sink.objects) == [key(number) for number in range(121, 201)]
    assert run.settled.rows == 80
    assert run.last.counts == Counts(180, 15, 5, 700 + run.settled.bytes)


async def test_progress_is_reported_to_the_end() -> None:
    run = FakeRun(MemorySource(bodies(10)), MemorySink())
    await run.run()
    last = run.watcher.of(Progress)[-1]
    assert last.counts == run.settled
    assert (last.in_flight, last.memory) == (0, 0)


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_the_order_and_the_faults_a_resumed_run_completes_the_set(seed: int) -> None:
    """Runs are stopped at random moments, again and again; the account always adds up and nothing is lost."""
    dice = random.Random(seed)
    count = dice.randint(1, 1500)
    rows = [dice.choice([None, b"", bytes(dice.randint(1, 300)), bytes(3000)]) for _ in range(count)]
    poison = {key(number) for number in dice.sample(range(1, count + 1), count // 50)}
    stored: dict[str, bytes] = {}
    checkpoints = MemoryCheckpoints()
    bounds = sorted(dice.sample(range(2, count + 20), dice.choice([0, 0, 1, 5, min(40, count)])))
    fresh = dataclasses.replace(FRESH, ranges=ranges(*bounds) if bounds else ())
    for attempt in range(200):
        faults = random.Random(seed * 1000 + attempt)

        def fault(upload: Upload, _: int, faults: random.Random = faults) -> Exception | None:
            if upload.key in poison:
                return RowRefused("put", upload.key, "poison")
            return ServerFault("put", upload.key, "500") if faults.random() < 0.1 else None

        sink = FaultySink(fault)
        source = MemorySource(rows, page_rows=dice.choice([1, 7, 100, 600]), page_bytes=100_000)
        run = FakeRun(
            source,
            sink,
            checkpoint=checkpoints.saved[-1] if checkpoints.saved else fresh,
            checkpoints=checkpoints,
            readers=dice.choice([1, 2, 4, 9]),
            concurrency=dice.choice([1, 3, 20]),
            memory=dice.choice([1000, 20_000, 10_000_000]),
            max_attempts=50,
        )
        running = run.start()
        for _ in range(dice.randint(1, 4000)):
            await asyncio.sleep(0)
            if running.done():
                break
        for _ in range(dice.randint(0, 2)):
            run.interrupt.request(2)
        complete = await running
        stored |= {name: upload.body for name, upload in sink.objects.items()}
        watermark = run.pipeline.watermark
        counts = run.settled
        assert counts.put + counts.skipped + counts.failed == counts.rows
        passed = [
            number
            for first, track in zip([1, *bounds], watermark.tracks, strict=True)
            for number in range(first, 1 + int((track.position or ("0",))[0] or 0))
        ]
        assert watermark.counts.rows == len(passed)
        for number in passed:
            settled = rows[number - 1] is None or key(number) in stored or key(number) in poison
            assert settled, "the checkpoint ran ahead"
        if complete:
            break
    else:
        pytest.fail("the run never completed")
    expected = {key(n): body for n, body in enumerate(rows, 1) if body is not None and key(n) not in poison}
    assert stored == expected
    assert checkpoints.saved[-1].finished


async def test_no_checkpoint_passes_letters_that_a_defect_has_kept_from_being_written() -> None:
    """Even where that is none of our errors."""
    run = FakeRun(MemorySource([*bodies(5), None, *bodies(5)]), MemorySink(), on_null="fail")
    written = run.dead_letters.append

    async def once(_letters: object) -> None:
        run.dead_letters.append = written  # type: ignore[method-assign, assignment]
        raise MemoryError

    run.dead_letters.append = once  # type: ignore[method-assign, assignment]
    with pytest.raises((MemoryError, InternalError)):
        await run.run()
    counted = run.checkpoints.saved[-1].counts.failed if run.checkpoints.saved else 0
    assert counted <= len(run.dead_letters.letters)


async def test_the_error_that_ended_a_run_is_told_even_if_the_last_save_fails() -> None:
    refusal = DestinationRefused("put", "o", "SignatureDoesNotMatch")
    run = FakeRun(
        MemorySource(bodies(2000)), FaultySink(lambda upload, _: refusal if upload.key == key(1500) else None)
    )
    run.checkpoints.error = StateLost("save checkpoint", "memory", "no room")
    with pytest.raises(DestinationRefused) as caught:
        await run.run()
    assert "SignatureDoesNotMatch" in caught.value.message
    assert "no room" in caught.value.message


async def test_a_row_whose_exchange_keeps_breaking_fails_alone_while_others_succeed() -> None:
    """Nobody has to be asked then whether the server is there, and nobody's silence ends the run."""

    def fault(upload: Upload, _attempt: int) -> AsyncupError | None:
        return ConnectionLost("put", upload.key, "reset") if upload.key == key(7) else None

    sink = FaultySink(fault)
    run = FakeRun(MemorySource(bodies(500)), sink)
    sink.unreachable = ConnectionLost("check bucket", "b", "no answer in time")
    assert await run.run() is True
    assert (run.settled.put, run.settled.failed) == (499, 1)


async def test_readers_take_the_ranges_side_by_side_and_the_first_free_one_takes_the_next() -> None:
    """One range is held up; the other reader reads all the others meanwhile."""

    class Gated(MemorySource):
        gate = asyncio.Event()

        async def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:
            if part.lower is None:
                await self.gate.wait()
            async for page in super().pages(after, part):
                yield page

    source = Gated(bodies(100), page_rows=7)
    run = FakeRun(source, MemorySink(), checkpoint=dataclasses.replace(FRESH, ranges=ranges(10, 20, 70)), readers=2)
    running = run.start()
    await until(lambda: len(run.sink.objects) == 91)
    assert [track.is_finished for track in run.pipeline.watermark.tracks] == [False, True, True, True]
    source.gate.set()
    assert await running
    assert run.last.finished
    assert [reach.watermark for reach in run.last.ranges] == [(f"{n:012d}",) for n in (9, 19, 69, 100)]


async def test_a_resumed_run_reads_only_what_is_left_of_the_ranges() -> None:
    begun = (
        Reach(Range(None, ("000000000010",)), ("000000000009",), finished=True),
        Reach(Range(("000000000010",), ("000000000050",)), ("000000000030",)),
        Reach(Range(("000000000050",), None)),
    )
    checkpoint = dataclasses.replace(FRESH, ranges=begun, counts=Counts(put=30))
    run = FakeRun(MemorySource(bodies(60)), MemorySink(), checkpoint=checkpoint, readers=3)
    assert await run.run()
    assert sorted(run.sink.objects) == [key(number) for number in range(31, 61)]
    assert run.last.counts.put == 60


async def test_an_error_of_one_reader_ends_the_run_and_what_the_others_settled_is_saved() -> None:
    source = MemorySource(bodies(3000), page_rows=10, error=ReadingBroken("read", "t", "gone"), error_at=2500)
    checkpoint = dataclasses.replace(FRESH, ranges=ranges(1000, 2000))
    run = FakeRun(source, MemorySink(), checkpoint=checkpoint, readers=3)
    with pytest.raises(ReadingBroken, match="gone"):
        await run.run()
    assert run.last.counts.put > 0
    assert not run.last.finished
    assert not run.last.ranges[2].finished


async def test_memory_bounds_what_wide_keys_and_templates_hold() -> None:
    class Wide(MemorySource):
        def _row(self, number: int) -> Row:
            row = super()._row(number)
            return (row[0], row[1] + "x" * 900, *row[2:])

    sink = GatedSink()
    source = Wide(bodies(20_000), page_rows=100, page_bytes=10_000)
    run = FakeRun(source, sink, memory=200_000, concurrency=100)
    running = run.start()
    await until(lambda: len(sink.waiting) >= 1)
    sink.release(next(iter(sink.waiting)))
    await until(lambda: len(sink.waiting) >= 100)
    for _ in range(300):
        await asyncio.sleep(0)
    assert source.read <= 300
    sink.open()
    assert await running
    assert run.settled.put == 20_000
    assert run.pipeline.budget.used == 0
