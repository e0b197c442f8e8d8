"""The limiter: never more in flight than its limit of the moment, in order, and nobody who waits is forgotten."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.flow.limiter import Limiter
from tests.unit.turns import cancel, settle

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["acquire", "acquire", "again"]), st.just(0)),
        st.tuples(st.just("resize"), st.integers(0, 6)),
        st.tuples(st.sampled_from(["release", "cancel"]), st.integers(0, 9)),
        st.tuples(st.sampled_from(["turn", "settle"]), st.just(0)),
    ),
    min_size=8,
    max_size=24,
)


class Play:
    """Those who ask are numbered in the order in which they ask."""

    def __init__(self, limit: int) -> None:
        self.limiter = Limiter(limit)
        self.tasks: list[asyncio.Task[None]] = []
        self.numbers = itertools.count()
        self.granted: list[int] = []
        self.held = 0
        self.over = 0  # how many may be in flight after the limit went down

    async def _acquire(self, *, again: bool = False) -> None:
        if again:  # as a sender does that goes from one upload to the next
            self.step("release", 0)
        number = next(self.numbers)
        await self.limiter.acquire()
        self.granted.append(number)
        self.held += 1
        assert self.limiter.in_flight <= self.limiter.limit

    def step(self, step: str, value: int) -> None:
        if step == "acquire":
            self.tasks.append(asyncio.create_task(self._acquire()))
        elif step == "again":
            self.tasks.append(asyncio.create_task(self._acquire(again=True)))
        elif step == "resize":
            self.limiter.resize(value)
            self.over = self.held
        elif step == "release" and self.held:
            self.held -= 1
            self.limiter.release()
        elif step == "cancel" and self.tasks:
            self.tasks[value % len(self.tasks)].cancel()

    @property
    def waiting(self) -> int:
        return sum(not task.done() for task in self.tasks)

    def check_bounds(self) -> None:
        assert self.limiter.in_flight == self.held <= max(self.limiter.limit, self.over)

    def check_nobody_is_forgotten(self) -> None:
        assert not self.waiting or self.limiter.in_flight >= self.limiter.limit


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 4), STEPS)
async def test_under_any_schedule_the_limit_holds_order_is_kept_and_nobody_is_forgotten(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    play = Play(limit)
    for step, value in steps:
        play.step(step, value)
        if step == "turn":
            await asyncio.sleep(0)
        elif step == "settle":
            await settle()
            play.check_nobody_is_forgotten()
        play.check_bounds()
    play.step("resize", 2)
    await settle()
    play.check_nobody_is_forgotten()
    while play.held:
        play.step("release", 0)
        await settle()
        play.check_nobody_is_forgotten()
    assert not play.waiting
    assert play.granted == sorted(play.granted)
    assert play.limiter.in_flight == 0
    # an assertion that failed in a task is raised here; a cancelled one is not
    await asyncio.gather(*(task for task in play.tasks if not task.cancelled()))


async def test_a_larger_limit_lets_as_many_through_at_once_as_there_are_new_places() -> None:
    limiter = Limiter(1)
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(6)]
    await settle()
    assert limiter.in_flight == 1
    limiter.resize(4)
    await asyncio.sleep(0)  # one turn of the loop, not one for each
    assert limiter.in_flight == 4
    limiter.resize(0)
    limiter.release()
    await settle()
    assert limiter.in_flight == 3
    assert limiter.peak == 4
    assert repr(limiter) == "<Limiter 3/0, peak 4>"
    await cancel(*tasks)


async def test_whoever_gives_a_place_back_and_wants_another_queues_behind_those_who_wait() -> None:
    limiter = Limiter(1)
    await limiter.acquire()

    async def again() -> None:
        limiter.release()
        await limiter.acquire()

    waiting, greedy = asyncio.create_task(limiter.acquire()), asyncio.create_task(again())
    await settle()
    assert (waiting.done(), greedy.done()) == (True, False)
    await cancel(greedy)


async def test_those_who_were_woken_in_vain_miss_no_place_that_comes_in_the_meantime() -> None:
    limiter = Limiter(2)
    await limiter.acquire()
    await limiter.acquire()
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
    await settle()

    async def widen() -> None:
        limiter.resize(2)

    # The first is woken, someone else will resize, the second is woken, and the places are gone again.
    limiter.release()
    widening = asyncio.create_task(widen())
    limiter.release()
    limiter.resize(0)
    await widening
    await settle()
    assert [task.done() for task in tasks] == [True, True]


async def test_a_wake_up_of_one_that_is_cancelled_goes_to_the_next() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    gone, next_ = (asyncio.create_task(limiter.acquire()) for _ in range(2))
    await settle()
    limiter.release()
    gone.cancel()
    await settle()
    assert gone.cancelled()
    assert next_.done()
    assert limiter.in_flight == 1
