"""Bounds that hold for several runs together: memory, requests in flight and rates, whatever each of the runs does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.errors import ServerFault
from asyncup.flow.budget import Budget
from asyncup.flow.gate import Limits
from asyncup.flow.search import Phase, Search
from asyncup.flow.sharing import Allotment, Bounds, Share, Sharing
from asyncup.model import ROW_OVERHEAD
from asyncup.testing import FaultySink, GatedSink, MemorySink, MemorySource
from tests.unit.runs import FakeRun, bodies, key, until
from tests.unit.turns import settle


def sharing(runs: int, *, memory: int = 64 << 20, in_flight: int = 8, places: int = 8, **rates: Any) -> Sharing:
    return Sharing(Bounds(memory, in_flight, **rates), runs=runs, places=places)


def run_in(share: Share, source: MemorySource, sink: MemorySink, limits: Limits | None = None) -> FakeRun:
    return FakeRun(source, sink, limits=share.within(limits or Limits(8)), share=share)


@settings(max_examples=50)
@given(st.integers(1, 40), st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 9))
def test_the_parts_never_add_up_to_more_than_the_whole_and_none_ever_shrinks(
    in_flight: int, ends: list[bool], places: int
) -> None:
    whole = sharing(len(ends), memory=in_flight * 100, in_flight=in_flight, places=places)
    shares: list[Share] = []
    waiting = len(ends)
    for first in ends:
        while waiting and len(shares) < whole.places:
            shares.append(whole.join())
            waiting -= 1
        before = {share: (share.in_flight, share.budget.capacity) for share in shares}
        assert sum(share.in_flight for share in shares) <= in_flight
        assert sum(share.budget.capacity for share in shares) <= in_flight * 100
        shares.pop(0 if first else -1).leave()
        assert all((share.in_flight, share.budget.capacity) >= before[share] for share in shares)
        if not waiting:
            assert sum(share.in_flight for share in shares) == (in_flight if shares else 0)


class Play:
    """Runs that reserve and release at random."""

    def __init__(self) -> None:
        self.whole = Budget(15)
        self.runs = [Allotment(5, self.whole) for _ in range(3)]
        self.asked: list[list[asyncio.Task[None]]] = [[], [], []]
        self.held: list[list[int]] = [[], [], []]

    async def _reserve(self, run: int, size: int) -> None:
        await self.runs[run].reserve(size)
        self.held[run].append(size)

    def step(self, step: str, run: int, value: int) -> None:
        asked, held = self.asked[run], self.held[run]
        if step == "reserve":
            asked.append(asyncio.create_task(self._reserve(run, value)))
        elif step == "cancel" and asked:
            asked[value % len(asked)].cancel()
        elif step == "release" and held:
            self.runs[run].release(held.pop(value % len(held)))
        elif step == "shrink" and held:
            size = held.pop()
            self.runs[run].adjust(-(size // 2))
            held.append(size - size // 2)

    @property
    def sizes(self) -> list[int]:
        return [size for held in self.held for size in held if size]

    @property
    def is_waited_for(self) -> bool:
        return any(not task.done() for tasks in self.asked for task in tasks)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("reserve"), st.integers(0, 2), st.integers(0, 25)),
            st.tuples(st.sampled_from(["release", "shrink", "cancel"]), st.integers(0, 2), st.integers(0, 9)),
        ),
        min_size=8,
        max_size=20,
    )
)
async def test_memory_that_is_shared_is_never_exceeded_but_by_one_row_alone_and_nobody_is_forgotten(
    steps: list[tuple[str, int, int]],
) -> None:
    play = Play()
    for step in steps:
        play.step(*step)
        for _ in range(4):
            await asyncio.sleep(0)
        assert play.whole.used == sum(play.sizes)
        assert play.whole.used <= 15 or len(play.sizes) == 1
    await settle()
    while play.is_waited_for:
        assert play.sizes, "those who wait would wait for ever"
        for run, held in enumerate(play.held):
            while held:
                play.runs[run].release(held.pop())
        await settle()
    for run, held in zip(play.runs, play.held, strict=True):
        run.release(sum(held))
    assert [budget.used for budget in (play.whole, *play.runs)] == [0, 0, 0, 0]


async def test_runs_together_never_have_more_in_flight_than_one_alone_might_and_use_it() -> None:
    whole, sink = sharing(3, in_flight=7), MemorySink()
    shares = [whole.join() for _ in range(3)]
    runs = [run_in(share, MemorySource(bodies(150)), sink) for share in shares]
    await asyncio.gather(*(run.run() for run in runs))
    assert sink.peak == 7
    assert sum(run.settled.put for run in runs) == 450


async def test_what_a_run_leaves_is_taken_by_the_others() -> None:
    whole, sink = sharing(2, in_flight=8), GatedSink()
    first, second = whole.join(), whole.join()
    running = run_in(second, MemorySource(bodies(100)), sink).start()
    await until(lambda: sink.waiting)
    sink.release(key(1))
    await until(lambda: sink.in_flight == 4)
    await settle()
    assert sink.in_flight == 4
    first.leave()
    await until(lambda: sink.in_flight == 8)
    assert second.budget.capacity == whole.budget.capacity
    sink.open()
    assert await running is True


async def test_a_run_that_stands_still_does_not_hold_up_another() -> None:
    """It has the first upload in flight, all the memory of its part, and nothing more comes of it."""
    whole, still, lively = sharing(2, memory=20 * (ROW_OVERHEAD + 100), in_flight=4), GatedSink(), MemorySink()
    slow = run_in(whole.join(), MemorySource([b"x" * 100] * 100, page_bytes=1000), still)
    quick = run_in(whole.join(), MemorySource([b"x" * 100] * 100, page_bytes=1000), lively)
    standing = slow.start()
    await until(lambda: slow.pipeline.budget.is_short)
    assert await quick.run() is True
    assert whole.budget.peak <= whole.budget.capacity
    still.open()
    assert await standing is True


@pytest.mark.parametrize("size", [3_000, 6_000, 12_000])
async def test_rows_that_are_larger_than_a_part_pass_in_every_run_and_memory_stays_within_bounds(size: int) -> None:
    """Of a part of 5,000 bytes, and of the whole of 10,000."""
    whole, sink = sharing(2, memory=10_000, in_flight=4), MemorySink()
    sources = [MemorySource([b"x" * size, b"y"] * 20, page_bytes=1000, page_rows=10) for _ in range(2)]
    runs = [run_in(whole.join(), source, sink) for source in sources]
    await asyncio.gather(*(run.run() for run in runs))
    assert sum(run.settled.put for run in runs) == 80
    alone = 2 * size + ROW_OVERHEAD  # while it is fetched, it is held twice
    assert whole.budget.peak <= max(10_000, alone)


async def test_what_an_interrupted_run_still_holds_is_given_back() -> None:
    whole, sink = sharing(2, memory=20_000), GatedSink()
    share = whole.join()
    run = run_in(share, MemorySource([b"x" * 100] * 500, page_bytes=1000), sink)
    running = run.start()
    await until(lambda: sink.waiting)
    run.interrupt.request(2)
    sink.open()
    assert await running is False
    assert whole.budget.used > 0
    share.leave()
    assert whole.budget.used == 0


async def test_a_rate_is_that_of_all_runs_together_and_one_that_ends_opens_it_for_nobody_else() -> None:
    """140 attempts at 200 a second take 0.6 seconds at least, since a bit may be made up for."""
    whole, sink = sharing(2, in_flight=40, rate=200.0), MemorySink()
    shares = [whole.join(), whole.join()]
    limits = Limits(20, rate=200.0)
    runs = [
        run_in(share, MemorySource(bodies(count)), sink, limits) for share, count in zip(shares, (20, 120), strict=True)
    ]
    begun = asyncio.get_running_loop().time()

    async def one(run: FakeRun, share: Share) -> None:
        await run.run()
        share.leave()

    await asyncio.gather(*map(one, runs, shares))
    assert asyncio.get_running_loop().time() - begun > 0.6
    assert sink.attempts == 140


async def test_a_first_upload_that_fails_again_and_again_goes_alone_in_its_run_only() -> None:
    quick_sink = MemorySink()
    stuck = FaultySink(
        lambda upload, _: ServerFault("put", upload.key, "no") if len(quick_sink.objects) < 300 else None
    )
    whole = sharing(2)
    share = whole.join()
    first = FakeRun(MemorySource(bodies(20)), stuck, limits=share.within(Limits(8)), max_attempts=10_000, share=share)
    second = run_in(whole.join(), MemorySource(bodies(300)), quick_sink)
    await asyncio.gather(first.run(), second.run())
    assert stuck.objects.keys() == {key(number) for number in range(1, 21)}


async def test_a_run_adapts_within_its_part_and_tries_more_when_it_grows() -> None:
    whole = sharing(2, in_flight=20)
    first, second = whole.join(), whole.join()
    run = run_in(second, MemorySource(bodies(1)), MemorySink(), Limits(most=1000))
    assert (run.pipeline.gate.level.limit, run.pipeline.gate.level.search.most) == (10, 10)
    first.leave()
    assert run.pipeline.gate.level.search.most == 20


def test_a_run_of_its_own_limits_keeps_them() -> None:
    share = sharing(2, in_flight=100, rate=50.0).join()
    assert share.within(Limits(3, rate=7.0)) == Limits(3, most=50, rate=7.0)
    assert share.within(Limits(80, rate=50.0)) == Limits(50, most=50, rate=None)


def test_what_is_set_aside_is_missing_in_the_whole_until_the_run_has_ended() -> None:
    whole = sharing(2, memory=1000)
    first, second = whole.join(), whole.join(memory=300)
    first.budget.set_aside(200)
    assert (first.budget.capacity, second.budget.capacity, whole.budget.capacity) == (300, 300, 800)
    second.leave()
    assert (first.budget.capacity, whole.budget.capacity) == (800, 800)
    first.leave()
    assert whole.budget.capacity == 1000


def test_a_run_that_never_began_leaves_its_part_to_the_others() -> None:
    whole = sharing(3, in_flight=9, places=3)
    share = whole.join()
    whole.pass_over()
    whole.pass_over()
    assert share.in_flight == 9


@pytest.mark.parametrize(("limit", "phase"), [(10, Phase.DOUBLING), (9, Phase.SETTLED)])
def test_a_level_that_was_held_down_by_the_bound_is_looked_for_again(limit: int, phase: Phase) -> None:
    search = Search(10)
    search.limit, search.phase = limit, Phase.SETTLED
    search.allow(20)
    assert (search.most, search.limit, search.phase) == (20, limit, phase)
