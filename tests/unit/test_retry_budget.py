"""The retry budget: half of the successes, a floor, and nothing that is dropped."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from asyncup.errors import AsyncupError, Throttled
from asyncup.flow.retry import Interrupted, Retrier, RetryPolicy
from asyncup.flow.retrybudget import FLOOR, SHARE, WINDOW, RetryBudget


class Run:
    """A run on a clock of its own: `rate` successes a second, and retries that are asked for every millisecond."""

    def __init__(self, rate: float) -> None:
        self.now = 0.0
        self.rate = rate
        self.succeeded = 0.0
        self.taken: list[float] = []
        self.budget = RetryBudget(lambda: int(self.succeeded), lambda: self.now)

    def go(self, seconds: float, retries_per_second: float) -> None:
        step = 1 / retries_per_second
        for _ in range(round(seconds * retries_per_second)):
            self.now += step
            self.succeeded += self.rate * step
            if self.budget.take() == 0.0:
                self.taken.append(self.now)

    def within_window(self) -> int:
        """The most retries of any window."""
        ends = iter(self.taken)
        passed, most, end = 0, 0, next(ends)
        for number, start in enumerate(self.taken):
            while end is not None and end < start + WINDOW:
                passed, end = passed + 1, next(ends, None)  # type: ignore[assignment]
            most = max(most, passed - number)
        return most


@pytest.mark.parametrize("rate", [0, 5, 100, 1000])
def test_retries_are_half_of_the_successes_or_ten_a_second(rate: int) -> None:
    run = Run(rate)
    run.go(60, retries_per_second=1000)
    allowed = max(FLOOR, SHARE * rate) * WINDOW
    assert run.within_window() <= 1.01 * allowed
    settled = [moment for moment in run.taken if moment > 30]
    assert len(settled) >= 0.9 * allowed / WINDOW * 30, "what is allowed can be had"


def test_few_retries_never_wait() -> None:
    run = Run(rate=0)
    run.go(60, retries_per_second=9)
    assert len(run.taken) == 60 * 9


def test_successes_of_long_ago_allow_nothing_now() -> None:
    run = Run(rate=10_000)
    run.go(60, retries_per_second=1)
    run.rate = 0
    run.go(WINDOW + 1, retries_per_second=1)
    run.taken.clear()
    run.go(WINDOW, retries_per_second=1000)
    assert run.within_window() <= FLOOR * WINDOW + 1


def test_the_first_retry_after_a_long_time_of_success_knows_the_rate() -> None:
    """Nobody looked at the successes until then."""
    run = Run(rate=1000)
    run.now, run.succeeded = 1000.0, 1_000_000.0
    taken = sum(run.budget.take() == 0.0 for _ in range(10_000))
    assert taken == SHARE * 1000 * WINDOW


async def test_what_is_beyond_the_budget_waits_and_is_not_dropped() -> None:
    """Three hundred calls that fail twice each, with no success to allow their retries, all get theirs."""
    done = 0
    clock = {"now": 0.0}
    budget = RetryBudget(lambda: done, lambda: clock["now"])

    async def sleep(seconds: float) -> bool:
        clock["now"] += seconds / 20  # so many sleep at a time
        await asyncio.sleep(0)
        return True

    retrier = Retrier(
        RetryPolicy(elapsed=1e9), sleep, lambda *_: None, lambda: clock["now"], dice=lambda: 0.0, budget=budget
    )
    failed: Counter[int] = Counter()

    async def call(number: int) -> int:
        nonlocal done
        if failed[number] < 2:
            failed[number] += 1
            error: AsyncupError = Throttled("put", "o", "slow down")
            raise error
        done += 1
        return number

    results = await asyncio.gather(*(retrier.run(call, number) for number in range(300)))
    assert results == list(range(300))
    assert clock["now"] > WINDOW / 2, "they were spread over time"


async def test_a_drain_ends_the_wait_for_the_budget() -> None:
    budget = RetryBudget(lambda: 0, lambda: 0.0)
    while budget.take() == 0.0:
        pass
    slept: list[float] = []

    async def sleep(seconds: float) -> bool:
        slept.append(seconds)
        return len(slept) < 3

    async def call(_: None) -> None:
        raise Throttled("put", "o", "slow down")

    retrier = Retrier(RetryPolicy(), sleep, lambda *_: None, lambda: 0.0, dice=lambda: 0.0, budget=budget)
    with pytest.raises(Interrupted):
        await retrier.run(call, None)
    assert len(slept) == 3


def test_retries_that_succeed_do_not_count() -> None:
    """A server is well again, and everything that is left to send has failed once."""
    budget = RetryBudget(lambda: 0, lambda: 0.0)
    for _ in range(10_000):
        assert budget.take() == 0.0
        budget.give_back()
