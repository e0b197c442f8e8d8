"""What stands before every attempt: a place among those in flight, and where rates are limited, its turn.

While nothing is throttled and no rate is asked for, the limiter's `enter` is all that an attempt meets, and nothing
is counted for it. Otherwise it goes through `admit`: first the pace of its leading prefix, where it waits without
being in the way of others, then a place, then the rates that the user asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from asyncup.errors import AsyncupError, Disposition, Throttled
from asyncup.flow.level import MAX_BANDWIDTH, MAX_RATE, Account, Level
from asyncup.flow.limiter import Limiter
from asyncup.flow.rate import Turnstile
from asyncup.flow.search import Sample

#: So many failures in a row may be chance.
FEW = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be sent.

    Attributes:
        concurrency: a fixed number in flight, or None to find the best one.
        most: no more in flight than this, where that is found.
        rate: attempts a second, all of them, or None.
        bandwidth: bytes of bodies a second, or None.
        why: what is said of a fixed number; None when it was asked for.
        leading: where the leading prefix of an object key may end: at the first slash from this index on.
    """

    concurrency: int | None = None
    most: int = 1000
    rate: float | None = None
    bandwidth: float | None = None
    why: str | None = None
    leading: int = 0


class Rate(Protocol):
    """What attempts pass at some rate."""

    @property
    def waiting(self) -> int: ...

    async def pass_through(self, cost: float = 1.0) -> None: ...

    def charge(self, cost: float) -> None: ...

    def open(self) -> None: ...


class Gate:
    """Admits attempts. `call` is told when senders wait out of the way, so that others can take their place.

    `lanes` are rates that this run shares with others: why they hold it up, and whether they count bytes.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float],
        call: Callable[[], None],
        lanes: Sequence[tuple[str, Rate, bool]] = (),
    ) -> None:
        self.level = Level(limits.most, limits.concurrency, limits.why)
        self.limiter = Limiter(1)  # the first upload goes alone; what it meets, every other would meet
        #: Attempts that ended without a receipt; those of them that the server had dealt with; those it was too busy for.
        self.unacknowledged = self.dealt_with = self.throttled = 0
        #: Senders that wait for the pace of a prefix of its own.
        self.aside = 0
        self._clock, self._call = clock, call
        self._leading = limits.leading
        self._paces: dict[Account, Turnstile] = {}
        self._rates: list[tuple[str, Rate, bool]] = [
            *lanes,
            *(
                (reason, Turnstile(rate, clock), has_size)
                for reason, rate, has_size in ((MAX_RATE, limits.rate, False), (MAX_BANDWIDTH, limits.bandwidth, True))
                if rate is not None
            ),
        ]
        self._succeeded = self._failed_before = 0  # what was seen when the last success was
        self._is_open = self._has_begun = False
        self._guard()

    async def admit(self, key: str, size: int) -> Account | None:
        """Wait for a turn and a place; where the attempt is to be counted, or None."""
        account: Account | None = None
        if self.level.is_counting:
            end = key.find("/", self._leading)
            account = self.level.account_of(key[: end + 1] if end >= 0 else key[: self._leading])
            paced = self.level.paced(account)
            pace = self._paces.get(paced)
            if pace is not None and not pace.enter():
                await self._wait(pace, paced)
        limiter = self.limiter
        await limiter.acquire()
        if self._rates:
            # behind the place, not before it: turns that were taken by those who wait for one would all be used at once
            try:
                await self.turn(size)
            except BaseException:
                limiter.release()
                raise
        limiter.mark(limiter.in_flight - self.in_flight)
        return account

    async def turn(self, size: int) -> None:
        """Wait for what the rates that were asked for allow."""
        for _, rate, has_size in self._rates:
            await rate.pass_through(size if has_size else 1)

    def charge(self, size: int) -> None:
        """An upload of which nobody knew the size had so many bytes."""
        for _, rate, has_size in self._rates:
            if has_size:
                rate.charge(size)

    def failed(self, error: AsyncupError, account: Account | None) -> None:
        """Count an attempt that has no receipt, unless nothing was sent."""
        if not error.attempts:
            return
        self.unacknowledged += 1
        is_throttled = isinstance(error, Throttled)
        self.throttled += is_throttled
        self.dealt_with += error.disposition in (Disposition.DEAD_LETTER, Disposition.SKIP)
        if account is not None:
            account.answered += 1
            account.throttled += is_throttled

    @property
    def in_flight(self) -> int:
        """Attempts that are under way; those that have a place and wait for a rate are not."""
        return self.limiter.in_flight - sum(rate.waiting for _, rate, _ in self._rates)

    @property
    def is_unhindered(self) -> bool:
        """Whether no rate is asked for, and nothing was ever throttled."""
        return not self._rates and not self.throttled

    def is_in_vain(self, acknowledged: int) -> bool:
        """Whether more attempts than may be in flight have failed since the last of the `acknowledged` ones."""
        if acknowledged != self._succeeded:
            self._succeeded, self._failed_before = acknowledged, self.unacknowledged
        return self.unacknowledged - self._failed_before > max(FEW, self.limiter.limit)

    def begin(self) -> None:
        """Let others follow the first one."""
        self._has_begun = True
        self.limiter.resize(self.level.limit)

    def allow(self, limits: Limits) -> None:
        """More may be in flight than before."""
        self.level.allow(limits.most, limits.concurrency)
        if self._has_begun:
            self.limiter.resize(self.level.limit)
            self._call()

    def look(self, acknowledged: int, took: float, *, cpu: float, late: float, held_by: str) -> None:
        """Look how it goes, and let the level decide.

        `acknowledged` attempts so far, which `took` so many seconds together, `cpu` seconds of the event loop's thread, which was `late` by so many seconds;
        `held_by` is why there are not more attempts, if nothing here holds them back.
        """
        level, limiter = self.level, self.limiter
        answered = acknowledged + self.unacknowledged
        waiting = [reason for reason, rate, _ in self._rates if rate.waiting]
        took *= (acknowledged + self.dealt_with) / max(1, acknowledged)  # the others are taken to be as quick
        now = Sample(self._clock(), acknowledged + self.dealt_with, answered, took, self.in_flight, cpu, late)
        level.look(now, self.throttled, held_by=waiting[0] if waiting else None, otherwise=held_by)
        self._set_paces()
        if level.limit != limiter.limit:
            limiter.resize(level.limit)

    def open(self) -> None:
        """Let everybody through who waits for a turn: the run ends."""
        self._is_open = True
        for turnstile in (*self._paces.values(), *(rate for _, rate, _ in self._rates)):
            turnstile.open()

    async def _wait(self, pace: Turnstile, paced: Account) -> None:
        aside = paced.is_apart
        paced.waiting += 1
        self.aside += aside
        if aside:
            self._call()
        try:
            await pace.pass_through()
        finally:
            paced.waiting -= 1
            self.aside -= aside

    def _set_paces(self) -> None:
        """Make the turnstiles what the level says."""
        level, paces = self.level, self._paces
        caps = {account: account.pace.cap for account in (level.rest, *level.accounts.values())}
        for account in [account for account in paces if caps.get(account) is None]:
            paces.pop(account).open()
        for account, cap in caps.items():
            if cap is None:
                continue
            if account not in paces:
                paces[account] = Turnstile(cap, self._clock)
                if self._is_open:
                    paces[account].open()
            elif paces[account].rate != cap:
                paces[account].resize(cap)
        self._guard()

    def _guard(self) -> None:
        self.limiter.guard(bool(self._rates) or self.level.is_counting)

    def __repr__(self) -> str:
        return f"<Gate {self.limiter!r}, {self.level.reason}>"
