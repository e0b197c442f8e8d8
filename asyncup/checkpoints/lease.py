"""How long a lease is surely ours, and how long to insist on a request to the server that keeps it.

A lease is taken for a minute and renewed with every save, and every quarter of a minute where nothing is saved. Time is
counted from before the request that took or renewed it, so that it ends here before it ends at the server, whatever the
clocks of the two say.

A server that is gone for longer than the lease does not end the run. Every write names what it follows (a token, an ETag),
so one that succeeds proves that nobody has had the job meanwhile, and one that is refused ends the run before it has
changed anything. So a run whose lease has run out keeps asking for minutes, and sends on: an object has the same key
whoever sends it, a run that takes the job over sends again whatever no checkpoint has passed, and no letter or checkpoint
is written before the lease is surely ours again. Where a server cannot refuse (`is_fenced`), a run ends with its lease.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from asyncup.checkpoints.owner import Owner
from asyncup.errors import AsyncupError, StateLost, StateRefused, Unreachable
from asyncup.flow.ending import Grace
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier, RetryPolicy

R = TypeVar("R")

LEASE_SECONDS = 60.0
RENEWAL_SECONDS = 15.0
#: What a run gives the server at its end to take the lease back; otherwise it runs out by itself.
RELEASE_SECONDS = 5.0
#: How long a server that has answered before is asked again, as everywhere: minutes.
PATIENCE_SECONDS = RetryPolicy().elapsed
#: What a write that cannot be fenced by itself needs of the lease when it begins: more than such a request may take.
MARGIN_SECONDS = 20.0
#: What a request gets, whoever makes it: longer than the limits that the clients and the servers have of their own.
_ATTEMPT_SECONDS = 30.0
#: What an unfenced request gets when the lease has run out: after a machine slept, it may still be nobody else's.
_LEAST_SECONDS = 5.0
#: What a request gets beyond the drain's own time, and after the second signal.
_DRAIN_SECONDS = 5.0
_ABORT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that holds the lock of a job. `until` is when its lease ends unless it is renewed, by the server's clock."""

    owner: Owner
    until: str | None = None

    def __str__(self) -> str:
        until = f", its lease until {self.until} unless it is renewed" if self.until else ""
        return f"{self.owner}, since {self.owner.since}{until}"


def refused(name: str, holder: Holder, seconds: float) -> StateRefused:
    """The error for a job that another run holds."""
    return StateRefused(
        "lock job",
        name,
        f"another run of this job is in progress: {holder}",
        f"wait for it (one that was killed lets go after {seconds:g} seconds), or give this run a --name of its own",
    )


class Tenure:
    """The time for which a lease is ours. Times in seconds.

    `on_retry` is told of every attempt that failed and of the wait for the next one. `is_fenced` is whether the server
    refuses whoever has lost the job.
    """

    def __init__(
        self,
        interrupt: Interrupt,
        drain_timeout: float,
        on_retry: Callable[[AsyncupError, int, float], None] = lambda *_: None,
        *,
        seconds: float = LEASE_SECONDS,
        renewal: float = RENEWAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.seconds = seconds
        self.is_fenced = True
        self._renewal = renewal
        self._on_retry = on_retry
        self._clock = clock
        self._dice = dice
        self._begun = clock()
        self._lost: StateLost | None = None
        self._grace = Grace(drain_timeout, beyond=_DRAIN_SECONDS, abort=_ABORT_SECONDS)
        interrupt.watch(self._grace.interrupted)

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew the lease."""
        return self._clock() - self._begun >= self._renewal

    @property
    def left(self) -> float:
        """Seconds for which nobody else can have the lease."""
        return self._begun + self.seconds - self._clock()

    async def insist(
        self, call: Callable[[], Awaitable[R]], op: str, subject: str, *, extends: bool = True, patience: float = 1e9
    ) -> R:
        """Call until it succeeds, for minutes at most, and not beyond the end of an interrupted run.

        The lease may run out meanwhile, so `call` has to be refused by the server, or to see for itself, when another run
        has the job. Success prolongs the lease where it `extends` it. What is lost stays lost.

        Raises:
            StateLost: another run has the job, or it did not succeed in time.
        """
        if self._lost is not None:
            raise StateLost(self._lost.op, self._lost.subject, self._lost.message, self._lost.hint)

        async def attempt(_: None) -> R:
            try:
                async with asyncio.timeout(_ATTEMPT_SECONDS):
                    return await (self.timed(call()) if extends else call())
            except TimeoutError as exc:
                raise Unreachable(op, subject, f"there was no answer within {_ATTEMPT_SECONDS:g} seconds") from exc

        allowed = PATIENCE_SECONDS if self.is_fenced else max(self.left, _LEAST_SECONDS)
        patience = min(patience, allowed, self._grace.left)
        policy = RetryPolicy(max_attempts=1_000_000, elapsed=patience, first_elapsed=patience, cap=5.0)
        retrier = Retrier(policy, _sleep, self._on_retry, self._clock, self._dice)
        try:
            async with self._grace.timeout(patience):
                return await retrier.run(attempt, None)
        except TimeoutError:
            raise self._lose(op, subject, "there was no answer in time") from None
        except StateLost as exc:
            self._lost = exc
            raise
        except AsyncupError as exc:
            raise self._lose(op, subject, exc.message) from exc

    async def timed(self, request: Awaitable[R]) -> R:
        """Make a request that takes or renews the lease: it is ours from before the request, if that succeeds."""
        begun = self._clock()
        result = await request
        self._begun = begun
        return result

    def _lose(self, op: str, subject: str, reason: str) -> StateLost:
        hint = "what was settled since the last save will be sent again; run the same command again"
        self._lost = StateLost(op, subject, f"the state cannot be written: {reason}", hint)
        return self._lost


async def _sleep(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return True
