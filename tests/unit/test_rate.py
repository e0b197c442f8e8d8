"""Rates: never more than so many a second beyond what may be made up for, in order, and nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.flow.rate import SLACK_SECONDS, TokenBucket, Turnstile
from tests.unit.turns import cancel, settle


class Clock:
    """A clock that is set by hand; a turnstile's alarms are rung by hand too."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(
    st.floats(0.5, 1e4),
    st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 20)), min_size=1, max_size=60),
)
def test_in_no_time_more_passes_than_the_rate_allows_and_one_that_is_larger_passes_too(
    rate: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now, passed = TokenBucket(rate), 0.0, [(0.0, 0.0)]
    for pause, cost in steps:
        now += pause + bucket.wait(now + pause)
        bucket.take(now, cost)
        passed.append((now, cost))
    for begin in range(len(passed)):
        inner = passed[begin:-1]  # whatever the last one costs, it may pass when those before it are paid for
        assert sum(cost for _, cost in inner) <= (passed[-1][0] - passed[begin][0] + SLACK_SECONDS) * rate + 1e-6


def test_whoever_comes_in_time_waits_for_nothing_and_loses_nothing() -> None:
    bucket = TokenBucket(10.0)
    for second in range(100):
        assert bucket.wait(second / 10) == pytest.approx(0.0, abs=1e-9)
        bucket.take(second / 10)


def test_what_is_owed_stays_owed_at_another_rate() -> None:
    bucket = TokenBucket(1.0)
    bucket.take(0.0, 5 + SLACK_SECONDS)
    assert bucket.wait(0.0) == pytest.approx(5.0)
    bucket.resize(0.0, 10.0)
    assert bucket.wait(0.0) == pytest.approx(0.5)


async def test_those_who_wait_are_let_through_in_order_as_the_rate_allows() -> None:
    clock, passed = Clock(), list[int]()
    turnstile = Turnstile(100.0, clock)

    async def come(number: int) -> None:
        await turnstile.pass_through()
        passed.append(number)

    tasks = [asyncio.create_task(come(number)) for number in range(20)]
    await settle()
    first = len(passed)
    assert first <= 100 * SLACK_SECONDS + 1
    assert turnstile.waiting == 20 - first
    assert not turnstile.enter(), "nobody overtakes those who wait"
    clock.now += 0.05
    async with asyncio.timeout(5):
        while len(passed) < first + 5:
            await asyncio.sleep(0)
    assert passed == list(range(first + 5))
    assert repr(turnstile) == f"<Turnstile 100/s, {15 - first} waiting>"
    turnstile.open()
    await asyncio.gather(*tasks)
    assert passed == list(range(20))
    assert turnstile.enter()


async def test_one_that_is_cancelled_costs_the_others_nothing() -> None:
    clock, passed = Clock(), list[int]()
    turnstile = Turnstile(50.0, clock)
    turnstile.enter(1 + 50 * SLACK_SECONDS)

    async def come(number: int) -> None:
        await turnstile.pass_through()
        passed.append(number)

    gone, next_ = (asyncio.create_task(come(number)) for number in range(2))
    await settle()
    await cancel(gone)
    clock.now += 1.0
    await asyncio.wait_for(next_, 5)
    assert passed == [1]


async def test_a_higher_rate_is_for_those_who_wait_too() -> None:
    clock = Clock()
    turnstile = Turnstile(0.001, clock)
    turnstile.enter()
    waiting = asyncio.create_task(turnstile.pass_through())
    await settle()
    turnstile.resize(1000.0)
    clock.now += 1.0
    await asyncio.wait_for(waiting, 5)
