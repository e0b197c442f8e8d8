"""The one retry loop of the program: every request to a server goes through it, one attempt per call.

Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). An error's class decides
whether it is tried again at all. An answered request is bounded by attempts and by time; a server that cannot be
reached is bounded by time alone: seconds before it has ever answered, minutes after.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from asyncup.errors import AsyncupError, ConnectionLost, Disposition, ServerFault, Throttled, Unreachable
from asyncup.flow.retrybudget import RetryBudget

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to try. Times in seconds.

    Attributes:
        max_attempts: the most attempts for one answered request, the first included.
        elapsed: no attempt is decided on later than this after the first one failed; the budget may still delay it.
        first_elapsed: the same for a server that has never answered.
        base, throttled_base: the first ceiling of the jittered delay, doubled with each attempt.
        cap: the highest ceiling.
    """

    max_attempts: int = 10
    elapsed: float = 180.0
    first_elapsed: float = 10.0
    base: float = 0.1
    throttled_base: float = 1.0
    cap: float = 20.0

    def delay(self, error: AsyncupError, attempt: int, dice: Callable[[], float]) -> float:
        """Seconds to wait after the failed `attempt` (the first is 1); a server's own wish is honoured."""
        base = self.throttled_base if isinstance(error, Throttled) else self.base
        wait = dice() * min(self.cap, base * float(2 ** min(attempt - 1, 30)))
        if isinstance(error, ServerFault) and error.retry_after is not None:
            wait += error.retry_after
        return wait


class Interrupted(Exception):
    """The run is draining; what waited for another attempt is left unsettled."""


async def sleep_on(seconds: float) -> bool:
    """For a retrier that no drain interrupts."""
    await asyncio.sleep(seconds)
    return True


class Retrier:
    """Tries calls against one server. `sleep(seconds)` returns False when the wait was cut short by a drain.

    `budget` is what all retriers of a run share: when it is spent, an attempt waits for longer than its own delay.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        sleep: Callable[[float], Awaitable[bool]],
        on_retry: Callable[[AsyncupError, int, float], None],
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
        budget: RetryBudget | None = None,
        on_success: Callable[[], object] = lambda: None,
    ) -> None:
        self._policy = policy
        self._sleep = sleep
        self._on_retry = on_retry
        self._clock = clock
        self._dice = dice
        self._budget = budget
        self._on_success = on_success
        #: Whether the server has ever answered: then it is given minutes to come back, not seconds.
        self.answered = False

    @classmethod
    def once(cls) -> Retrier:
        """One that tries nothing again."""
        return cls(RetryPolicy(max_attempts=1, elapsed=0, first_elapsed=0), sleep_on, lambda *_: None)

    async def run(self, call: Callable[[A], Awaitable[R]], argument: A, failed: AsyncupError | None = None) -> R:
        """Call until it succeeds or its error is final. `failed` is the error of an attempt that was made already.

        Raises:
            AsyncupError: the last error; its `attempts` is set, and its `disposition` is what follows, never RETRY.
            Interrupted: a drain began while waiting.
        """
        if failed is not None and failed.disposition is not Disposition.RETRY:
            try:
                raise failed
            finally:
                failed = (
                    None  # it knows this frame, and the frame it: what the frames hold must not wait for a collection
                )
        failures: tuple[type[AsyncupError], ...] = ()
        first_failure: float | None = None
        while True:
            try:
                if failed is not None:
                    raise failed
                result = await call(argument)
            except AsyncupError as error:
                failed = None
                now = self._clock()
                if first_failure is None:
                    first_failure = now
                failures = (*failures, type(error))
                error.attempts = len(failures)
                delay = self._next_delay(error, failures, now - first_failure)
                if delay is None:
                    raise
                self._on_retry(error, len(failures), delay)
            else:
                self.answered = True
                if first_failure is not None and self._budget is not None:
                    self._budget.give_back()
                self._on_success()
                return result
            if not await self._sleep(delay) or not await self._granted(first_failure + self._policy.elapsed):
                raise Interrupted

    async def _granted(self, until: float) -> bool:
        """Wait until the budget has room for one more retry, or for the row's own bound; False when a drain began."""
        budget = self._budget
        while budget is not None and self._clock() < until and (wait := budget.take()) > 0:
            if not await self._sleep(wait):
                return False
        return True

    def _next_delay(self, error: AsyncupError, failures: Sequence[type[AsyncupError]], elapsed: float) -> float | None:
        """Seconds until the next attempt, or None when `error`, the last of `failures`, is final.

        Only answered attempts count against `max_attempts`, and only those of its own class against an error's: a
        server that was away, or busy, has not yet refused anything twice.
        """
        if not isinstance(error, Unreachable | ConnectionLost):
            self.answered = True
        if error.disposition is not Disposition.RETRY:
            return None
        policy = self._policy
        # a row that met a reset, a fault and a throttle has met nothing three times
        delay = policy.delay(error, failures.count(type(error)), self._dice)
        limit = policy.elapsed if self.answered else policy.first_elapsed
        if isinstance(error, Unreachable) and elapsed < limit:
            delay = min(delay, limit - elapsed)  # it gets all of its time: long jitter must not cut it short
        spent = elapsed + delay > limit or len(failures) - failures.count(Unreachable) >= policy.max_attempts
        if error.max_attempts is not None:
            spent = spent or failures.count(type(error)) >= error.max_attempts
        if spent:
            error.disposition = error.exhausted
            return None
        return delay
