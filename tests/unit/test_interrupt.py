"""The two stages of stopping: the first request drains, the second aborts, whenever they come."""

from __future__ import annotations

import asyncio
import signal

import pytest

from asyncup.flow.interrupt import Interrupt
from tests.unit.turns import settle


class Runner:
    """Someone who is running, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def attach(self, interrupt: Interrupt) -> None:
        interrupt.attach(drain=lambda: self.told.append("drain"), abort=lambda: self.told.append("abort"))


async def test_the_first_request_drains_and_every_later_one_aborts() -> None:
    interrupt, runner = Interrupt(), Runner()
    runner.attach(interrupt)
    assert not interrupt.draining
    interrupt.request(signal.SIGINT)
    assert interrupt.draining
    assert runner.told == ["drain"]
    interrupt.request(signal.SIGINT)
    interrupt.request(signal.SIGTERM)
    assert runner.told == ["drain", "abort", "abort"]


@pytest.mark.parametrize(("signum", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
async def test_the_first_signal_is_the_one_that_is_remembered(signum: int, name: str) -> None:
    interrupt = Interrupt()
    assert (interrupt.signal, interrupt.name) == (None, "")
    interrupt.request(signum)
    interrupt.request(signal.SIGINT)
    assert (interrupt.signal, interrupt.name) == (signum, name)


async def test_a_request_that_came_before_anyone_ran_drains_who_comes() -> None:
    interrupt, runner = Interrupt(), Runner()
    interrupt.request(signal.SIGINT)
    runner.attach(interrupt)
    assert runner.told == ["drain"]


async def test_who_is_detached_is_told_nothing_and_who_comes_next_is() -> None:
    interrupt, first, second = Interrupt(), Runner(), Runner()
    first.attach(interrupt)
    interrupt.detach()
    interrupt.request(signal.SIGINT)
    interrupt.request(signal.SIGINT)
    assert first.told == []
    second.attach(interrupt)
    assert (first.told, second.told) == ([], ["drain", "abort"]), "the abort was asked for already"


async def test_a_sleep_ends_at_its_time_or_at_once_when_a_drain_is_asked_for() -> None:
    interrupt = Interrupt()
    assert await interrupt.sleep(0) is True
    sleeps = [asyncio.create_task(interrupt.sleep(3600)) for _ in range(3)]
    await settle()
    assert not any(sleep.done() for sleep in sleeps)
    interrupt.request(signal.SIGTERM)
    assert await asyncio.gather(*sleeps) == [False, False, False]
    assert await interrupt.sleep(3600) is False


async def test_a_sleep_can_be_cancelled() -> None:
    sleep = asyncio.create_task(Interrupt().sleep(3600))
    await settle()
    sleep.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleep


def test_every_branch_is_drained_by_the_first_request_and_aborted_by_the_second_and_can_be_asked_alone() -> None:
    told: list[str] = []
    interrupt = Interrupt()
    branches = {name: interrupt.branch() for name in "ab"}
    for name, branch in branches.items():
        branch.attach(lambda name=name: told.append(f"drain {name}"), lambda name=name: told.append(f"abort {name}"))
    branches["a"].request(signal.SIGTERM)
    assert (told, interrupt.draining, branches["b"].draining) == (["drain a"], False, False)
    interrupt.request(signal.SIGINT)
    assert told[1:] == ["abort a", "drain b"]
    interrupt.request(signal.SIGINT)
    assert told[3:] == ["abort a", "abort b"]
    late = interrupt.branch()
    late.attach(lambda: told.append("drain late"), lambda: told.append("abort late"))
    assert told[5:] == ["drain late", "abort late"]


async def test_the_end_of_the_time_drains_once_and_a_signal_behind_it_aborts() -> None:
    interrupt, runner, late = Interrupt(), Runner(), Interrupt()
    branch = interrupt.branch()
    runner.attach(branch)
    interrupt.expire()
    interrupt.expire()
    assert (runner.told, interrupt.name, branch.name, branch.has_expired) == (["drain"], "--timeout", "--timeout", True)
    assert interrupt.branch().has_expired
    interrupt.request(signal.SIGTERM)
    assert runner.told == ["drain", "abort"]
    late.request(signal.SIGINT)
    late.expire()
    assert (late.name, late.has_expired) == ("SIGINT", False)
