"""The limit on requests in flight: one number for all senders, which can be changed while they run."""

from __future__ import annotations

from asyncup.flow.waiters import Waiters


class Limiter:
    """A semaphore whose limit moves. Starts at `limit`; `peak` is the most that was ever in flight.

    A guarded one lets nobody enter without waiting: whoever guards it sends them to `acquire` when their time has come,
    and marks the peak.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._door = limit  # the limit for those who do not wait
        self._is_guarded = False
        self.in_flight = 0
        self.peak = 0
        self._waiters = Waiters()

    def enter(self) -> bool:
        """Take a place without waiting; False when there is none, or when others wait for it."""
        if self.in_flight >= self._door or self._waiters.queue:
            return False
        self.in_flight += 1
        if self.in_flight > self.peak:  # noqa: PLR1730 - a call of max would cost more than all the rest
            self.peak = self.in_flight
        return True

    async def acquire(self) -> None:
        """Wait for a place; places are given in the order in which they are asked for."""
        if self.in_flight >= self.limit or self._waiters.queue:
            await self._waiters.wait(self._has_place)
        self.in_flight += 1
        if not self._is_guarded:
            self.mark()
        if self._waiters.queue and self._has_place():
            self._waiters.wake()

    def mark(self, waiting: int = 0) -> None:
        """Remember the most that were in flight; `waiting` of those that have a place wait for something else."""
        self.peak = max(self.peak, self.in_flight - waiting)

    def release(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        if self._waiters.queue and self.in_flight < self.limit:
            self._waiters.wake()

    def resize(self, limit: int) -> None:
        """Change the limit; those above it finish, nobody is cut off."""
        self.limit = limit
        self.guard(self._is_guarded)
        self._waiters.wake(limit - self.in_flight)

    def guard(self, is_guarded: bool) -> None:
        """From now on nobody enters without waiting, or everybody again for whom there is a place."""
        self._is_guarded = is_guarded
        self._door = 0 if is_guarded else self.limit

    def _has_place(self) -> bool:
        return self.in_flight < self.limit

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight}/{self.limit}, peak {self.peak}>"
