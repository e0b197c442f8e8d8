"""The two stages of stopping: drain on the first signal, or when the time is over, abort on the next signal.

Signal handlers only call `request`; what stopping means is told to it by whoever is running.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


class Interrupt:
    """A request to stop. `signal` is the first one that came, None while nobody asked.

    `has_expired` says that it was no signal that asked first, but the end of the run's time.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.has_expired = False
        self._drain: Callable[[], object] | None = None
        self._abort: Callable[[], object] | None = None
        self._watchers: list[Callable[[int], None]] = []
        self._branches: list[Interrupt] = []
        self._requests = 0
        self._event = asyncio.Event()

    @property
    def requests(self) -> int:
        """How many there were."""
        return self._requests

    @property
    def draining(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str:
        """The signal as people know it, SIGINT; or the flag whose time is over."""
        if self.has_expired:
            return "--timeout"
        return signal.Signals(self.signal).name if self.signal is not None else ""

    def attach(self, drain: Callable[[], object], abort: Callable[[], object]) -> None:
        """From now on the first request calls `drain`, a later one `abort`; at once for those that came already."""
        self._drain, self._abort = drain, abort
        if self.draining:
            drain()
        if self._requests > 1:
            abort()

    def attach_task(self) -> None:
        """From now on every request cancels the task that calls this."""
        task = asyncio.current_task()
        if task is not None:
            self.attach(task.cancel, task.cancel)

    def detach(self) -> None:
        """Nobody is running any more; requests are only remembered."""
        self._drain = self._abort = None

    def watch(self, watcher: Callable[[int], None]) -> None:
        """Tell `watcher` of every request, whoever is running, with its number from 1; at once of those that came."""
        self._watchers.append(watcher)
        if self._requests:
            watcher(self._requests)

    def branch(self) -> Interrupt:
        """Another one, for one of several who run: it gets every request that comes here, those that came already too."""
        branch = Interrupt()
        self._branches.append(branch)
        branch.has_expired = self.has_expired
        if self.signal is not None:
            for _ in range(self._requests):
                branch.request(self.signal)
        return branch

    def request(self, signum: int) -> None:
        """Ask to stop; ask again to stop at once."""
        self._requests += 1
        for watcher in self._watchers:
            watcher(self._requests)
        is_first = self.signal is None
        if is_first:
            self.signal = signum
            self._event.set()
        for branch in self._branches:
            branch.request(signum)
        stop = self._drain if is_first else self._abort
        if stop is not None:
            stop()

    def expire(self) -> None:
        """Ask to stop, since the time is over; nothing where somebody has asked already."""
        if self.signal is not None:
            return
        self.has_expired = True
        for branch in self._branches:
            branch.has_expired = branch.has_expired or branch.signal is None
        self.request(signal.SIGTERM)

    async def sleep(self, seconds: float) -> bool:
        """Sleep; False as soon as a drain is asked for."""
        if self.draining:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return True
        return False
