"""The memory budget: bytes are reserved before they are read and given back when their row is settled.

One reservation that is larger than the whole budget is granted when nothing else is held, so that every row
passes, alone if it must.
"""

from __future__ import annotations

from asyncup.flow.waiters import Waiters


class Budget:
    """A bound on bytes. Reservations are granted in the order in which they are asked for."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.peak = 0
        self._waiters = Waiters()

    @property
    def is_short(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._waiters.queue)

    async def reserve(self, size: int) -> None:
        """Wait until `size` bytes fit, and hold them."""

        def fits() -> bool:
            return not self.used or self.used + size <= self.capacity

        if self._waiters.queue or not fits():
            await self._waiters.wait(fits)
        Budget.adjust(self, size)  # of this one, whatever an heir makes of it

    def adjust(self, difference: int) -> None:
        """Correct a reservation to what was found, up or down; never waits."""
        self.used += difference
        self.peak = max(self.peak, self.used)
        if self._waiters.queue and self.used <= self.capacity:
            self._waiters.wake()

    def set_aside(self, size: int) -> None:
        """Take so much out of the capacity, for what is held without being counted here."""
        self.capacity -= size

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        self.used -= size
        if self._waiters.queue:
            self._waiters.wake()

    def __repr__(self) -> str:
        return f"<Budget {self.used}/{self.capacity} bytes, peak {self.peak}>"
