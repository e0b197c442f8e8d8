"""Rows on their way to uploads through a user's function and into packs: what is sent, when, and how it is settled."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from asyncup.errors import DestinationRefused, PackBroken, RowRefused, ServerFault, TransformFailed
from asyncup.events import RowFailed
from asyncup.making.packs import INDEX_SUFFIX
from asyncup.making.recipe import Packs, Recipe
from asyncup.model import Outcome, Products, Row, Upload
from asyncup.packing.formats import open_packing
from asyncup.packing.layout import Layout
from asyncup.render.compression import compile_compression
from asyncup.sinks.executor import ExecutorSink
from asyncup.testing import FaultySink, GatedSink, MemoryCheckpoints, MemorySink, MemorySource, publish
from tests.unit.runs import FakeRun, bodies, key, until


@dataclass
class Doing:
    """A transform that gives what `make` makes of the number of each row."""

    make: Callable[[int], Products | RowRefused | Awaitable[Products | RowRefused]]
    places: int = 4
    portion: tuple[int, int] = (3, 1 << 20)
    applied: list[list[int]] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0

    async def apply(self, rows: Sequence[Row]) -> Sequence[Products | RowRefused]:
        self.applied.append([int(row[0]) for row in rows])
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await asyncio.sleep(0)
        made = []
        for row in rows:
            one: Any = self.make(int(row[0]))
            made.append(await one if isinstance(one, Awaitable) else one)
        self.at_work -= 1
        return made

    async def close(self) -> None: ...


def lines(source: MemorySource, **packs: Any) -> Recipe:
    """Packs of lines."""
    layout = Layout(source.shape, (), None)
    packing = open_packing("ndjson", layout, indexed=packs.get("has_index", False))
    return Recipe(packs=Packs(packing, **packs))


def numbers(count: int, size: int = 0) -> list[bytes | None]:
    return [b"%d%s" % (number, b" " * size) for number in range(1, count + 1)]


def packed(run: FakeRun) -> dict[str, list[int]]:
    return {name: [int(line) for line in upload.body.split(b"\n") if line] for name, upload in run.sink.objects.items()}


def expected(count: int, rows: int) -> dict[str, list[int]]:
    return {key(n): list(range(n, min(n + rows, count + 1))) for n in range(1, count + 1, rows)}


# --- a user's function ----------------------------------------------------------------------------------------


async def test_a_row_is_what_the_function_makes_of_it() -> None:
    def make(number: int) -> Products | RowRefused:
        if number % 5 == 0:
            return ()
        if number % 7 == 0:
            return TransformFailed("transform", "f", "ValueError: seven", traceback="Traceback …")
        return (b"made %d" % number,)

    doing = Doing(make)
    run = FakeRun(MemorySource(bodies(100)), MemorySink(), recipe=Recipe(transform=doing))
    assert await run.run()
    put = [n for n in range(1, 101) if n % 5 and n % 7]
    assert {name: upload.body for name, upload in run.sink.objects.items()} == {key(n): b"made %d" % n for n in put}
    assert (run.settled.put, run.settled.skipped, run.settled.failed) == (len(put), 20, 12)
    assert [letter.traceback for letter in run.dead_letters.letters] == ["Traceback …"] * 12
    assert run.pipeline.budget.used == 0
    assert doing.most_at_work > 1


async def test_a_row_with_several_objects_is_settled_once_all_of_them_are() -> None:
    def make(number: int) -> Products:
        return tuple(Upload(f"{number}/{part}", b"x" * part, (("content-type", "a/b"),)) for part in range(3))

    sink = GatedSink()
    run = FakeRun(MemorySource(bodies(2)), sink, recipe=Recipe(transform=Doing(make)), concurrency=8)
    running = run.start()
    sink.release("1/0")
    await until(lambda: set(sink.waiting) > {"1/1", "1/2", "2/0", "2/1", "2/2"})
    sink.release("1/1", "2/0", "2/1", "2/2")
    await until(lambda: len(sink.objects) == 5)
    assert (run.settled.put, run.settled.bytes) == (1, 3)
    sink.release("1/2")
    assert await running
    assert (run.settled.put, run.settled.bytes) == (2, 6)
    assert sink.objects["1/0"].headers == (("content-type", "a/b"),)
    assert run.pipeline.budget.used == 0


async def test_a_row_of_which_objects_fail_has_one_letter() -> None:
    def fault(upload: Upload, attempt: int) -> BaseException | None:
        return RowRefused("put", upload.key, "no") if upload.key.startswith("3/") and upload.key != "3/1" else None

    recipe = Recipe(transform=Doing(lambda n: tuple(Upload(f"{n}/{part}", b"x") for part in range(3))))
    run = FakeRun(MemorySource(bodies(5)), FaultySink(fault), recipe=recipe)
    assert await run.run()
    assert (run.settled.put, run.settled.failed) == (4, 1)
    (letter,) = run.dead_letters.letters
    assert letter.key == ("000000000003",)
    assert len(run.watcher.of(RowFailed)) == 1


async def test_rows_that_take_long_do_not_hold_back_others() -> None:
    slow = asyncio.Event()

    async def make(number: int) -> Products:
        if number == 2:
            await slow.wait()
        return (b"made",)

    run = FakeRun(MemorySource(bodies(50)), MemorySink(), recipe=Recipe(transform=Doing(make, portion=(1, 1))))
    running = run.start()
    await until(lambda: len(run.sink.objects) == 49)
    slow.set()
    assert await running
    assert len(run.sink.objects) == 50


async def test_more_places_are_used_when_there_are_more() -> None:
    gate = asyncio.Event()

    async def make(number: int) -> Products:
        if number > 10:
            doing.places = 5
        if number > 20:
            await gate.wait()
        return (b"made",)

    doing = Doing(make, places=1, portion=(1, 1))
    run = FakeRun(MemorySource(bodies(60)), MemorySink(), recipe=Recipe(transform=doing))
    running = run.start()
    await until(lambda: doing.at_work == 5)
    gate.set()
    assert await running
    assert doing.most_at_work == 5
    assert len(run.sink.objects) == 60


async def test_bodies_are_compressed_and_say_so() -> None:
    recipe = Recipe(compression=compile_compression("gzip"))
    run = FakeRun(MemorySource([b"a" * 1000, b"", None, b"b" * (1 << 20)]), MemorySink(), recipe=recipe)
    assert await run.run()
    assert {name: gzip.decompress(upload.body) for name, upload in run.sink.objects.items() if upload.body} == {
        key(1): b"a" * 1000,
        key(4): b"b" * (1 << 20),
    }
    said = {name: dict(upload.headers).get("content-encoding") for name, upload in run.sink.objects.items()}
    assert said == {key(1): "gzip", key(2): None, key(4): "gzip"}
    assert run.settled.skipped == 1
    assert run.pipeline.budget.used == 0


# --- packs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_transform", [False, True])
async def test_packs_are_cut_by_rows_in_the_order_of_the_key(with_transform: bool) -> None:
    source = MemorySource(numbers(1000), page_rows=70)
    recipe = lines(source, rows=300)
    if with_transform:
        delays = random.Random(1)

        async def make(number: int) -> Products:
            for _ in range(delays.randrange(4)):
                await asyncio.sleep(0)
            return (b"%d" % number,)

        recipe = replace(recipe, transform=Doing(make))
    run = FakeRun(source, MemorySink(), recipe=recipe)
    assert await run.run()
    assert packed(run) == expected(1000, 300)
    assert run.settled.put == 1000
    assert run.last.finished
    assert run.pipeline.budget.used == 0


async def test_the_watermark_moves_from_pack_to_pack() -> None:
    source = MemorySource(numbers(1000), page_rows=70)
    sink = GatedSink()
    run = FakeRun(source, sink, recipe=lines(source, rows=300))
    running = run.start()
    await until(lambda: key(1) in sink.waiting)
    sink.release(key(1), key(601))
    await until(lambda: key(601) in sink.objects)
    assert run.pipeline.watermark.tracks[0].position == ("000000000300",)
    assert run.settled.put == 600
    sink.open()
    assert await running


async def test_rows_that_fail_are_in_no_pack_and_the_first_that_does_not_names_it() -> None:
    source = MemorySource([b"1", b"not json", None, b"4", b"5", b"6", b"{", b"["])
    run = FakeRun(source, MemorySink(), recipe=replace(lines(source, rows=3), transform=Doing(_bad)))
    assert await run.run()
    assert packed(run) == {key(4): [4, 5, 6]}
    assert (run.settled.put, run.settled.failed) == (3, 4)
    assert run.settled.skipped == 1
    assert run.pipeline.budget.used == 0


def _bad(number: int) -> Products | RowRefused:
    return (b"%d" % number,) if number in (4, 5, 6) else RowRefused("transform", "f", "no")


async def test_a_pack_that_is_refused_leaves_a_letter_for_each_of_its_rows() -> None:
    def fault(upload: Upload, attempt: int) -> BaseException | None:
        return RowRefused("put", upload.key, "no") if upload.key == key(4) else None

    source = MemorySource(numbers(9))
    run = FakeRun(source, FaultySink(fault), recipe=lines(source, rows=3))
    assert await run.run()
    assert (run.settled.put, run.settled.failed) == (6, 3)
    assert [letter.key for letter in run.dead_letters.letters] == [(f"{n:012d}",) for n in (4, 5, 6)]
    assert run.pipeline.budget.used == 0


async def test_a_pack_and_its_index_are_settled_together() -> None:
    source = MemorySource(numbers(4))
    sink = GatedSink()
    run = FakeRun(source, sink, recipe=lines(source, rows=2, has_index=True))
    running = run.start()
    sink.release(key(1))
    await until(lambda: key(1) + INDEX_SUFFIX in sink.waiting)
    assert run.settled.put == 0
    sink.open()
    assert await running
    assert run.settled.put == 4
    assert len(sink.objects) == 4


async def test_large_rows_keep_their_place_in_a_pack() -> None:
    """A row that comes without its body is fetched before those behind it go on."""
    found = numbers(30)
    for number in (3, 4, 11, 30):
        found[number - 1] = b"%d%s" % (number, b" " * 20_000)
    source = MemorySource(found, page_rows=10, page_bytes=100_000)
    run = FakeRun(source, MemorySink(), recipe=lines(source, rows=12), memory=300_000)
    assert await run.run()
    assert packed(run) == expected(30, 12)
    assert run.pipeline.budget.used == 0


async def test_a_row_larger_than_all_memory_still_has_its_place() -> None:
    found = numbers(20)
    found[9] = b"10" + b" " * 500_000
    source = MemorySource(found, page_rows=5, page_bytes=10_000)
    run = FakeRun(source, MemorySink(), recipe=lines(source, rows=8), memory=50_000)
    assert await run.run()
    assert packed(run) == expected(20, 8)


# --- packs that are sent while they are made --------------------------------------------------------------------


@pytest.fixture
def small_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.making.packs.STREAM_BYTES", 2000)
    monkeypatch.setattr("asyncup.making.packs.SLICE_BYTES", 1000)


@pytest.mark.usefixtures("small_streams")
@pytest.mark.parametrize("has_index", [False, True])
async def test_a_large_pack_is_sent_while_it_is_made(has_index: bool) -> None:
    source = MemorySource(numbers(1000, 40), page_rows=70)
    run = FakeRun(source, MemorySink(), recipe=lines(source, rows=400, has_index=has_index), concurrency=1)
    assert await run.run()
    indexes = {name for name in run.sink.objects if name.endswith(INDEX_SUFFIX)}
    for name in indexes:
        del run.sink.objects[name]
    assert packed(run) == expected(1000, 400)
    assert len(indexes) == 3 * has_index
    assert run.settled.put == 1000
    assert run.pipeline.budget.used == 0


@pytest.mark.usefixtures("small_streams")
async def test_a_large_pack_that_breaks_off_ends_the_run_and_the_next_one_sends_it() -> None:
    store = MemoryCheckpoints()

    class Breaking(MemorySink):
        broken = False

        async def put(self, upload: Upload) -> Any:
            if upload.key == key(401) and not self.broken:
                self.broken = True
                async with upload.body.open() as (_, slices):  # type: ignore[union-attr]
                    async for _ in slices:
                        raise DestinationRefused("put", upload.key, "no more")
            return await super().put(upload)

    sink, source = Breaking(), MemorySource(numbers(1000, 40), page_rows=70)
    run = FakeRun(source, sink, recipe=lines(source, rows=400), checkpoints=store)
    with pytest.raises(PackBroken, match="no more"):
        await run.run()
    again = FakeRun(source, sink, recipe=lines(source, rows=400), checkpoints=store, checkpoint=store.saved[-1])
    assert await again.run()
    assert packed(again) == expected(1000, 400)
    assert store.saved[-1].counts.put == 1000


@pytest.mark.usefixtures("small_streams")
async def test_a_row_that_takes_all_memory_comes_to_a_pack_that_is_being_sent() -> None:
    found = numbers(200, 40)
    found[99] = b"100" + b" " * 60_000
    source = MemorySource(found, page_rows=5, page_bytes=10_000)
    run = FakeRun(source, MemorySink(), recipe=lines(source, rows=200), memory=50_000)
    async with asyncio.timeout(10):
        assert await run.run()
    assert packed(run) == expected(200, 200)
    assert run.pipeline.budget.used == 0


@pytest.mark.usefixtures("small_streams")
async def test_a_pack_that_waits_for_its_rows_leaves_its_place_to_one_that_holds_the_memory_for_them() -> None:
    found = numbers(40)
    for number in range(31, 41):
        found[number - 1] = b"%d%s" % (number, b" " * 1000)
    found[34] = b"35" + b" " * 60_000

    class Busy(MemorySink):
        """Refuses a pack until the only place is another one's."""

        async def put(self, upload: Upload) -> Any:
            if upload.key == key(21):
                await until(lambda: run.pipeline._making._packer._open and source.read > 30)
                if not any(one.stream for one in run.pipeline._making._packer._open.values()):
                    raise ServerFault("put", upload.key, "busy")
            return await super().put(upload)

    source = MemorySource(found, page_rows=5, page_bytes=10_000)
    run = FakeRun(source, Busy(), recipe=lines(source, rows=10), memory=50_000, concurrency=1, max_attempts=10**6)
    async with asyncio.timeout(10):
        assert await run.run()
    assert packed(run) == expected(40, 10)
    assert run.pipeline.budget.used == 0


@pytest.mark.usefixtures("small_streams")
@pytest.mark.parametrize("way", ["refuses it", "reads some", "reads all", "returns early", "has it whole"])
async def test_a_large_pack_that_a_library_refuses_ends_the_run_and_says_why(way: str) -> None:
    def put(upload: Any) -> None:
        if upload.key == key(401):
            if way in ("reads some", "reads all", "returns early"):
                upload.body.read(-1 if way == "reads all" else 1500)
            if way != "returns early":
                raise ValueError("not this one")
        elif not isinstance(upload.body, bytes):
            upload.body.read()

    source, store = MemorySource(numbers(1000, 40), page_rows=70), MemoryCheckpoints()
    sink = ExecutorSink(put, threads=2, whole_bodies=way == "has it whole")
    run = FakeRun(source, sink, recipe=lines(source, rows=400), checkpoints=store)  # type: ignore[arg-type]
    with pytest.raises(PackBroken, match="before it had read" if way == "returns early" else "not this one"):
        await run.run()
    assert store.saved[-1].watermark == ("000000000400",)
    assert (run.settled.put, run.settled.skipped) == (400, 0)
    await sink.close()


async def test_long_keys_have_a_pack_sent_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.making.packs.STREAM_BYTES", 20_000)
    held = []

    class Looking(MemorySink):
        async def put(self, upload: Upload) -> Any:
            if not isinstance(upload.body, bytes):
                held.append(source.read)
            return await super().put(upload)

    source = MemorySource(numbers(9000), page_rows=50)
    run = FakeRun(source, Looking(), recipe=lines(source, rows=9000))
    assert await run.run()
    assert held[0] < 3000


async def test_a_pack_whose_index_could_have_no_name_is_named_by_another_row() -> None:
    class Long(MemorySource):
        def _row(self, number: int) -> Row:
            row = super()._row(number)
            return (row[0], "x" * 1015 if number == 0 else row[1], *row[2:])

    source = Long(numbers(3))
    run = FakeRun(source, MemorySink(), recipe=lines(source, rows=3, has_index=True))
    assert await run.run()
    assert sorted(run.sink.objects) == [key(2), key(2) + INDEX_SUFFIX]
    assert (run.settled.put, run.settled.failed) == (2, 1)


@pytest.mark.usefixtures("small_streams")
async def test_a_drain_gives_up_a_pack_that_is_not_whole() -> None:
    source = MemorySource(numbers(100_000, 40), page_rows=70)
    store = MemoryCheckpoints()
    run = FakeRun(source, MemorySink(), recipe=lines(source, rows=90_000), checkpoints=store)
    running = run.start()
    await until(lambda: source.read > 1000)
    run.interrupt.request(2)
    assert not await running
    assert run.sink.objects == {}
    assert run.sink.in_flight == 0
    assert store.saved == []


@pytest.mark.usefixtures("small_streams")
@pytest.mark.parametrize("seed", range(12))
async def test_an_interrupted_run_goes_on_with_the_same_packs(seed: int) -> None:
    """Whatever ends a run, the next ones leave exactly the packs of a run that nothing ended."""
    dice = random.Random(seed)
    count, rows = dice.randint(1, 900), dice.choice([7, 40, 100, 350])
    size = dice.choice([0, 0, 60])
    store, objects, checkpoint = MemoryCheckpoints(), {}, None
    for _ in range(20):
        source = MemorySource(numbers(count, size), page_rows=dice.choice([3, 50, 500]))
        sink = MemorySink()
        sink.objects = objects
        given = {} if checkpoint is None else {"checkpoint": checkpoint}
        run = FakeRun(source, sink, recipe=lines(source, rows=rows), checkpoints=store, **given)
        running = run.start()
        for _ in range(dice.randint(1, 400)):
            await asyncio.sleep(0)
        if dice.random() < 0.5:
            run.interrupt.request(2)
        else:
            running.cancel()  # as if it were killed: only what was saved counts
        try:
            finished = await running
        except (asyncio.CancelledError, Exception):  # noqa: BLE001
            finished = False
        checkpoint = store.saved[-1] if store.saved else None
        if finished:
            break
    else:
        source = MemorySource(numbers(count, size))
        sink = MemorySink()
        sink.objects = objects
        given = {} if checkpoint is None else {"checkpoint": checkpoint}
        run = FakeRun(source, sink, recipe=lines(source, rows=rows), checkpoints=store, **given)
        assert await run.run()
    assert packed(run) == expected(count, rows)
    assert store.saved[-1].counts.put == count
    assert store.saved[-1].finished


def test_the_outcome_of_several_uploads_is_put_if_one_was() -> None:
    from asyncup.flow.watermark import Together, Watermark

    for outcomes, put in (((Outcome.SKIPPED, Outcome.PUT), 1), ((Outcome.SKIPPED, Outcome.SKIPPED), 0)):
        watermark = Watermark()
        ticket = watermark.begin().track(1, ("1",))
        together = Together(ticket, [("1",)], 2)
        for outcome in outcomes:
            together.settle(outcome, 5 if outcome is Outcome.PUT else 0)
        assert (watermark.counts.put, watermark.counts.skipped) == (put, 1 - put)


@pytest.mark.parametrize("rows", [[1], ["text"], [{"a": 1}]])
async def test_what_is_published_in_a_test_is_bytes(rows: list[Any]) -> None:
    with pytest.raises(TypeError, match="a row is bytes"):
        await publish(rows, print)
