"""The retry loop: what is tried again, how often, how long, after which waits, and what follows when it is final."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup import errors
from asyncup.errors import (
    AsyncupError,
    BucketElsewhere,
    ClockSkewed,
    ConnectionLost,
    CredentialsExpired,
    Disposition,
    PayloadCorrupted,
    RowRefused,
    ServerFault,
    SourceRefused,
    StaleRequest,
    StatementTimedOut,
    Throttled,
    Unreachable,
)
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Interrupted, Retrier, RetryPolicy

Maker = Callable[[], AsyncupError]


def make(kind: type[AsyncupError], **options: float) -> Maker:
    return lambda: kind("put", "o", "no", **options)  # type: ignore[arg-type]


class Server:
    """Answers a call with the next of its faults, the last of them for ever, then with its argument.

    Time passes only in waits, and `takes` seconds in each attempt; the dice show `dice`.
    """

    def __init__(
        self,
        faults: Sequence[Maker],
        *,
        policy: RetryPolicy | None = None,
        dice: float = 1.0,
        takes: float = 0.0,
        for_ever: bool = False,
    ) -> None:
        self.faults = list(faults)
        self.for_ever = for_ever
        self.takes = takes
        self.dice = dice
        self.now = 1000.0
        self.attempts: list[float] = []
        self.waits: list[float] = []
        self.seen: list[tuple[str, int, float]] = []
        self.draining = False
        self.retrier = Retrier(
            policy or RetryPolicy(),
            self._sleep,
            lambda error, attempt, delay: self.seen.append((error.type, attempt, delay)),
            clock=lambda: self.now,
            dice=lambda: self.dice,
        )

    async def run(self, argument: str = "answer") -> str:
        return await self.retrier.run(self._call, argument)

    async def fail(self) -> AsyncupError:
        """Run to the end, which must be an error; and what it is must be final."""
        with pytest.raises(AsyncupError) as caught:
            await self.run()
        assert caught.value.disposition is not Disposition.RETRY
        return caught.value

    async def _call(self, argument: str) -> str:
        self.attempts.append(self.now)
        self.now += self.takes
        if not self.faults:
            return argument
        fault = self.faults[0] if self.for_ever and len(self.faults) == 1 else self.faults.pop(0)
        raise fault()

    async def _sleep(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return not self.draining


STALE = [StaleRequest, ClockSkewed, CredentialsExpired, BucketElsewhere]
RETRIED = [Unreachable, ConnectionLost, ServerFault, StatementTimedOut, Throttled, PayloadCorrupted, *STALE]
FINAL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, AsyncupError) and kind not in RETRIED
]


async def test_a_call_that_succeeds_is_made_once_with_its_argument() -> None:
    server = Server([])
    assert await server.run("argument") == "argument"
    assert (len(server.attempts), server.waits, server.seen) == (1, [], [])


@pytest.mark.parametrize("kind", RETRIED)
async def test_what_may_mend_by_itself_is_tried_again_and_seen(kind: type[AsyncupError]) -> None:
    server = Server([make(kind)])
    assert await server.run() == "answer"
    assert len(server.attempts) == 2
    assert server.seen == [(kind.__name__, 1, server.waits[0])]


@pytest.mark.parametrize("kind", FINAL)
async def test_what_cannot_mend_by_itself_is_final_at_once(kind: type[AsyncupError]) -> None:
    server = Server([make(kind)])
    error = await server.fail()
    assert (len(server.attempts), error.attempts, server.seen) == (1, 1, [])
    assert error.disposition is kind.disposition


@pytest.mark.parametrize(
    ("kind", "attempts", "after"),
    [
        (ConnectionLost, 10, Disposition.DEAD_LETTER),
        (ServerFault, 10, Disposition.DEAD_LETTER),
        (Throttled, 10, Disposition.DEAD_LETTER),
        (PayloadCorrupted, 2, Disposition.DEAD_LETTER),
        (StatementTimedOut, 2, Disposition.ABORT),
        *((kind, 2, Disposition.ABORT) for kind in STALE),
    ],
)
async def test_attempts_are_bounded_and_what_follows_is_what_the_error_says(
    kind: type[AsyncupError], attempts: int, after: Disposition
) -> None:
    server = Server([make(kind)], for_ever=True, dice=0.0)
    error = await server.fail()
    assert len(server.attempts) == error.attempts == attempts
    assert error.disposition is after
    assert [attempt for _, attempt, _ in server.seen] == list(range(1, attempts))


async def test_one_attempt_means_no_second_one() -> None:
    server = Server([make(ServerFault)], policy=RetryPolicy(max_attempts=1))
    assert (await server.fail()).attempts == 1
    assert not server.waits


async def test_a_server_that_cannot_be_reached_is_bounded_by_time_alone_seconds_before_it_ever_answered() -> None:
    server = Server([make(Unreachable)], for_ever=True, dice=0.001)
    error = await server.fail()
    assert error.disposition is Disposition.ABORT
    assert len(server.attempts) > 100  # with such dice; attempts are no bound here
    assert 9 < server.attempts[-1] - server.attempts[0] <= 10


async def test_a_server_that_has_answered_once_gets_minutes_to_come_back() -> None:
    server = Server([])
    await server.run()
    server.faults, server.for_ever, server.attempts = [make(Unreachable)], True, []
    await server.fail()
    assert 160 < server.attempts[-1] - server.attempts[0] <= 180


@pytest.mark.parametrize("kind", [ServerFault, Throttled, RowRefused, SourceRefused, StaleRequest])
async def test_an_error_that_the_server_itself_sent_is_an_answer(kind: type[AsyncupError]) -> None:
    server = Server([make(kind)], for_ever=True, dice=0.0)
    await server.fail()
    server.faults, server.attempts = [make(Unreachable)], []
    server.dice = 1.0
    await server.fail()
    assert server.attempts[-1] - server.attempts[0] > 60


async def test_a_server_that_is_throttling_from_the_start_is_given_all_its_attempts() -> None:
    server = Server([make(Throttled)], for_ever=True, dice=0.5)
    assert (await server.fail()).attempts == 10
    assert server.attempts[-1] - server.attempts[0] > 10


async def test_attempts_that_reached_nobody_do_not_count_against_a_row() -> None:
    server = Server([])
    await server.run()
    # away for a while, then busy for a moment, as servers are when they come back
    server.faults = [make(Unreachable)] * 15 + [make(ServerFault)] * 9
    server.dice = 0.1
    assert await server.run() == "answer"


@pytest.mark.parametrize("kind", [*STALE, PayloadCorrupted])
async def test_an_error_with_two_tries_has_its_second_one_whatever_came_before(kind: type[AsyncupError]) -> None:
    server = Server([make(ServerFault), make(Throttled), make(kind)], dice=0.1)
    assert await server.run() == "answer"
    server = Server([make(kind), make(ServerFault), make(kind), make(kind)], dice=0.1)
    assert (await server.fail()).attempts == 3


async def test_two_different_reasons_to_sign_anew_do_not_end_the_run() -> None:
    server = Server([make(ClockSkewed), make(CredentialsExpired), make(BucketElsewhere)], dice=0.1)
    assert await server.run() == "answer"


async def test_no_attempt_begins_later_than_the_policy_allows_after_the_first_failure() -> None:
    policy = RetryPolicy(max_attempts=1000, elapsed=60.0, first_elapsed=60.0)
    server = Server([make(ServerFault)], policy=policy, for_ever=True, takes=7.0)
    error = await server.fail()
    first_failure = server.attempts[0] + 7.0
    assert 40 < server.attempts[-1] - first_failure <= 60
    assert error.attempts == len(server.attempts) < 20


async def test_one_call_s_failures_do_not_count_against_the_next() -> None:
    server = Server([make(ServerFault)] * 9, dice=0.1)
    await server.run()
    server.faults = [make(ServerFault)] * 9
    assert await server.run() == "answer"


@pytest.mark.parametrize(
    ("kind", "ceilings"),
    [
        (ServerFault, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20]),
        (Throttled, [1, 2, 4, 8, 16, 20, 20]),
        (Unreachable, [0.1, 0.2, 0.4]),
    ],
)
def test_the_ceiling_of_the_wait_doubles_up_to_the_cap(kind: type[AsyncupError], ceilings: list[float]) -> None:
    delays = [RetryPolicy().delay(make(kind)(), attempt, lambda: 1.0) for attempt in range(1, len(ceilings) + 1)]
    assert delays == pytest.approx(ceilings)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10_000), st.sampled_from(RETRIED))
def test_the_jitter_is_full_from_nothing_to_the_ceiling(dice: float, attempt: int, kind: type[AsyncupError]) -> None:
    policy = RetryPolicy()
    ceiling = policy.delay(make(kind)(), attempt, lambda: 1.0)
    assert policy.delay(make(kind)(), attempt, lambda: dice) == pytest.approx(dice * ceiling)
    assert ceiling <= policy.cap


@pytest.mark.parametrize("wish", [0.0, 2.5, 170.0])
@pytest.mark.parametrize(("kind", "base"), [(Throttled, 1.0), (ServerFault, 0.1)])
async def test_a_server_s_own_wish_is_the_least_that_is_waited(
    kind: type[AsyncupError], base: float, wish: float
) -> None:
    server = Server([make(kind, retry_after=wish)], dice=0.0)
    await server.run()
    assert server.waits == [wish]
    # jitter comes on top, so that those who were told the same do not come back at the same moment
    server = Server([make(kind, retry_after=wish)], dice=0.9)
    await server.run()
    assert server.waits == [pytest.approx(wish + 0.9 * base)]


async def test_a_wish_beyond_the_time_that_is_left_is_final_without_waiting() -> None:
    server = Server([make(Throttled, retry_after=3600.0)])
    error = await server.fail()
    assert error.disposition is Disposition.DEAD_LETTER
    assert not server.waits


async def test_a_drain_ends_the_wait_for_another_attempt() -> None:
    server = Server([make(ServerFault)], for_ever=True)
    server.draining = True
    with pytest.raises(Interrupted):
        await server.run()
    assert len(server.attempts) == 1


async def test_an_attempt_in_the_air_is_not_touched_by_a_drain() -> None:
    interrupt, gate = Interrupt(), asyncio.Event()
    retrier = Retrier(RetryPolicy(), interrupt.sleep, lambda *_: None)

    async def call(argument: str) -> str:
        await gate.wait()
        return argument

    running = asyncio.create_task(retrier.run(call, "late"))
    await asyncio.sleep(0)
    interrupt.request(2)
    gate.set()
    assert await running == "late"


@pytest.mark.parametrize("stranger", [ValueError("a defect"), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_what_is_no_error_of_ours_passes_untouched(stranger: BaseException) -> None:
    calls = itertools.count(1)

    async def call(_: None) -> None:
        next(calls)
        raise stranger

    with pytest.raises(type(stranger)) as caught:
        await Server([]).retrier.run(call, None)
    assert caught.value is stranger
    assert next(calls) == 2


@pytest.mark.parametrize("dice", [0.3, 0.8, 1.0])
async def test_a_server_that_cannot_be_reached_gets_all_of_its_time(dice: float) -> None:
    server = Server([make(Unreachable)], for_ever=True, dice=dice)
    await server.fail()
    assert server.now - 1000.0 == pytest.approx(RetryPolicy().first_elapsed)


async def test_an_attempt_that_was_made_already_counts_and_a_final_error_of_it_stays_as_it_is() -> None:
    server = Server([])
    first = ServerFault("put", "o", "500")
    assert await server.retrier.run(server._call, "answer", first) == "answer"
    assert [attempt for _, attempt, _ in server.seen] == [1]
    final = RowRefused("put", "o", "too long")
    final.attempts = 7  # of a part of it
    with pytest.raises(RowRefused) as caught:
        await server.retrier.run(server._call, "answer", final)
    assert caught.value is final
    assert final.attempts == 7
