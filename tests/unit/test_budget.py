"""The memory budget: never exceeded but by one that is alone, granted in order, and nobody who waits is forgotten."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.flow.budget import Budget
from tests.unit.turns import cancel, settle

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 15)),
        st.tuples(st.sampled_from(["release", "shrink", "cancel"]), st.integers(0, 9)),
        st.tuples(st.sampled_from(["turn", "settle"]), st.just(0)),
    ),
    min_size=8,
    max_size=24,
)


class Play:
    """Reservations are numbered in the order in which they were asked for."""

    def __init__(self, capacity: int) -> None:
        self.budget = Budget(capacity)
        self.sizes: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.granted: list[int] = []
        self.held: dict[int, int] = {}

    async def _reserve(self, number: int) -> None:
        await self.budget.reserve(self.sizes[number])
        self.granted.append(number)
        self.held[number] = self.sizes[number]

    def step(self, step: str, value: int) -> None:
        if step == "reserve":
            self.sizes.append(value)
            self.tasks.append(asyncio.create_task(self._reserve(len(self.tasks))))
        elif step == "cancel" and self.tasks:
            self.tasks[value % len(self.tasks)].cancel()
        elif step in ("release", "shrink") and self.held:
            number = list(self.held)[value % len(self.held)]
            if step == "release":
                self.budget.release(self.held.pop(number))
            else:
                self.budget.adjust(-(self.held[number] // 2))
                self.held[number] -= self.held[number] // 2

    @property
    def waiting(self) -> list[int]:
        return [number for number, task in enumerate(self.tasks) if not task.done()]

    def check_bounds(self) -> None:
        assert self.budget.used == sum(self.held.values())
        holders = [size for size in self.held.values() if size]
        assert self.budget.used <= self.budget.capacity or len(holders) == 1

    def check_nobody_is_forgotten(self) -> None:
        if self.waiting:
            assert self.budget.used
            assert self.budget.used + self.sizes[self.waiting[0]] > self.budget.capacity


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 10), STEPS)
async def test_under_any_schedule_the_bound_holds_order_is_kept_and_nobody_is_forgotten(
    capacity: int, steps: list[tuple[str, int]]
) -> None:
    play = Play(capacity)
    for step, value in steps:
        play.step(step, value)
        if step == "turn":
            await asyncio.sleep(0)
        elif step == "settle":
            await settle()
            play.check_nobody_is_forgotten()
        play.check_bounds()
    await settle()
    play.check_nobody_is_forgotten()
    while play.held:
        play.step("release", 0)
        await settle()
        play.check_bounds()
        play.check_nobody_is_forgotten()
    assert not play.waiting
    assert play.granted == sorted(play.granted)
    assert play.budget.used == 0
    await asyncio.gather(*play.tasks, return_exceptions=True)


async def test_one_that_is_larger_than_the_whole_budget_waits_until_it_is_alone_and_nothing_overtakes_it() -> None:
    budget = Budget(10)
    await budget.reserve(1)
    large = asyncio.create_task(budget.reserve(1000))
    await settle()
    small = asyncio.create_task(budget.reserve(1))
    await settle()
    assert (large.done(), small.done()) == (False, False)
    budget.release(1)
    await settle()
    assert (large.done(), small.done()) == (True, False)
    assert budget.peak == 1000
    budget.release(1000)
    await small
    assert budget.used == 1


async def test_whoever_gives_back_and_asks_again_at_once_queues_behind_those_who_wait() -> None:
    budget = Budget(10)
    await budget.reserve(10)

    async def again() -> None:
        budget.release(10)
        await budget.reserve(10)

    waiting, greedy = asyncio.create_task(budget.reserve(10)), asyncio.create_task(again())
    await settle()
    assert (waiting.done(), greedy.done()) == (True, False)
    await cancel(greedy)


async def test_one_that_needs_little_does_not_overtake_one_that_needs_much_when_both_are_woken() -> None:
    budget = Budget(10)
    await budget.reserve(10)
    much = asyncio.create_task(budget.reserve(10))
    little = asyncio.create_task(budget.reserve(2))
    await settle()
    budget.release(2)
    budget.release(2)
    await settle()
    assert (much.done(), little.done()) == (False, False)
    budget.release(6)
    await settle()
    assert (much.done(), little.done()) == (True, False)
    await cancel(little)


async def test_a_wake_up_of_one_that_is_cancelled_goes_to_the_next() -> None:
    budget = Budget(10)
    await budget.reserve(10)
    gone = asyncio.create_task(budget.reserve(5))
    next_ = asyncio.create_task(budget.reserve(5))
    await settle()
    budget.release(10)
    gone.cancel()
    await settle()
    assert gone.cancelled()
    assert next_.done()
    assert budget.used == 5


async def test_a_correction_never_waits_and_may_pass_the_bound() -> None:
    budget = Budget(10)
    await budget.reserve(10)
    budget.adjust(5)
    assert (budget.used, budget.peak) == (15, 15)
    waiting = asyncio.create_task(budget.reserve(4))
    await settle()
    budget.adjust(-8)
    await settle()
    assert not waiting.done()
    budget.adjust(-1)
    await waiting
    assert repr(budget) == "<Budget 10/10 bytes, peak 15>"
