"""The gate: nothing in the way while nothing is limited; turns, paces and places when something is."""

from __future__ import annotations

import asyncio

import pytest

from asyncup.errors import RowRefused, ServerFault, Throttled
from asyncup.flow.gate import Gate, Limits
from asyncup.flow.level import FIXED, MAX_BANDWIDTH, MAX_RATE, ROWS, THROTTLED, Account
from asyncup.flow.rate import TURN_SECONDS
from tests.unit.turns import cancel, settle

REFUSAL = Throttled("put", "o", "SlowDown")


class Play:
    """A gate, a clock that is set by hand, and looks at it."""

    def __init__(self, limits: Limits) -> None:
        self.now = 100.0
        self.calls = 0
        self.acknowledged = 0
        self.gate = Gate(limits, lambda: self.now, self._called)
        self.gate.begin()

    def _called(self) -> None:
        self.calls += 1

    def look(self, seconds: float = 0.0) -> str:
        self.now += seconds
        self.gate.look(self.acknowledged, 0.01 * self.acknowledged, cpu=0.0, late=0.0, held_by=ROWS)
        return self.gate.level.reason

    def end(self, account: Account | None, *, throttled: bool = False) -> None:
        """An attempt has its end."""
        if throttled:
            self.gate.failed(REFUSAL, account)
        else:
            self.acknowledged += 1
            if account is not None:
                account.acknowledged += 1
                account.answered += 1

    def throttle(self, prefixes: tuple[str, ...] = ("a/",), *, second: int = 20) -> None:
        """Some seconds in which every fifth attempt of the first prefix is throttled."""
        for _ in range(second):
            for prefix in prefixes:
                account = self.gate.level.account_of(prefix) if self.gate.level.is_counting else None
                for number in range(10):
                    self.end(account, throttled=prefix == prefixes[0] and number < 2)
            self.look(0.05)


async def test_while_nothing_is_limited_whoever_comes_enters_and_nothing_is_counted() -> None:
    play = Play(Limits(3))
    assert [play.gate.limiter.enter() for _ in range(4)] == [True, True, True, False]
    play.gate.limiter.release()
    assert await play.gate.admit("a/b", 1) is None
    assert play.gate.is_unhindered
    assert play.look() == FIXED
    assert repr(play.gate) == f"<Gate <Limiter 3/3, peak 3>, {FIXED}>"


@pytest.mark.parametrize(
    ("limits", "size", "together", "reason"),
    [
        (Limits(100, rate=50.0), 1, 3, MAX_RATE),
        (Limits(100, bandwidth=500.0), 10, 3, MAX_BANDWIDTH),
        (Limits(100, bandwidth=400.0), 10_000, 1, MAX_BANDWIDTH),
    ],
)
async def test_a_rate_that_was_asked_for_holds_from_the_first_attempt_on_and_is_said(
    limits: Limits, size: int, together: int, reason: str
) -> None:
    play = Play(limits)
    assert not play.gate.limiter.enter(), "everybody has to wait for a turn"
    waiting = [asyncio.create_task(play.gate.admit("k", size)) for _ in range(20)]
    await settle()
    assert play.gate.in_flight == play.gate.limiter.peak == together
    assert play.look() == reason
    await cancel(*waiting)


async def test_a_throttled_run_is_paced_and_forgets_it_when_the_pace_is_not_needed() -> None:
    play = Play(Limits(500))
    play.throttle()
    assert play.look() == THROTTLED
    assert not play.gate.limiter.enter()
    waiting = [asyncio.create_task(play.gate.admit("a/1", 1)) for _ in range(200)]
    await settle()
    paced = play.gate.limiter.in_flight
    assert 0 < paced < 100
    assert play.gate.level.rest.waiting == 200 - paced
    play.gate.open()
    await asyncio.gather(*waiting)
    for _ in range(200):  # a quiet quarter of an hour, as far as the server is concerned
        play.acknowledged += 10
        play.look(0.25)
    assert play.gate.limiter.enter()
    assert play.look() == FIXED


async def test_only_the_prefix_that_is_throttled_waits_and_others_are_called_in_its_place() -> None:
    play = Play(Limits(500, leading=len("data/")))
    play.throttle(("data/a/", "data/b/", "data/c/"), second=60)
    level = play.gate.level
    assert {prefix for prefix, account in level.accounts.items() if account.is_apart} == {"data/a/"}
    waiting = [asyncio.create_task(play.gate.admit("data/a/x/1", 1)) for _ in range(100)]
    await settle()
    held, aside = play.gate.limiter.in_flight, play.gate.aside
    assert held + aside == 100
    assert aside > 50
    assert play.calls == aside
    for key in ("data/b/1", "data/c/1", "data/new"):
        assert await asyncio.wait_for(play.gate.admit(key, 1), 5) is not None
    assert play.gate.limiter.in_flight == held + 3
    await cancel(*waiting)
    assert play.gate.aside == 0


async def test_what_no_server_was_asked_is_not_counted_and_what_it_dealt_with_is_no_failure_of_it() -> None:
    play = Play(Limits(2))
    unsent = RowRefused("put", "o", "it is there")
    unsent.attempts = 0
    play.gate.failed(unsent, None)
    assert play.gate.unacknowledged == 0
    for error in (RowRefused("put", "o", "no"), ServerFault("put", "o", "not now"), REFUSAL):
        play.gate.failed(error, None)
    assert (play.gate.unacknowledged, play.gate.dealt_with, play.gate.throttled) == (3, 1, 1)
    assert not play.gate.is_unhindered


async def test_turns_that_nobody_could_use_are_not_made_up_for() -> None:
    """Every place is taken for a while; those who waited do not all go at once then."""
    play = Play(Limits(10, rate=50.0))
    waiting = [asyncio.create_task(play.gate.admit("k", 1)) for _ in range(30)]
    while play.gate.in_flight < 10:
        play.now += 0.02
        await asyncio.sleep(TURN_SECONDS)
    play.now += 10
    for _ in range(10):
        play.gate.limiter.release()
    await settle()
    assert play.gate.in_flight <= 3
    await cancel(*waiting)
