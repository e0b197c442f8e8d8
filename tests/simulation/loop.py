"""An asyncio event loop whose time is a number and whose order is drawn from dice.

What asyncio leaves open is drawn: the order of what becomes due at one instant, in which order a set of tasks is
walked through, how long a thread takes, and pauses of the whole process. What asyncio promises is kept: callbacks run
in the order in which they were scheduled (https://docs.python.org/3/library/asyncio-eventloop.html#scheduling-callbacks).
One handle is run at a time, and after each the world is looked at; whatever that raises ends the run on the spot.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable
from typing import Any


class Crash(BaseException):
    """The process is gone, in the middle of whatever it did."""


class Standstill(Exception):
    """Nothing is ready and nothing will ever be: the run hangs."""


class SimulatedTask(asyncio.Task[Any]):
    """A task whose place in a set is drawn, not an address in memory: a seed gives the same order again."""

    def __init__(self, coroutine: Any, *, order: int, **options: Any) -> None:
        self._order = order
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._order

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """Begins at `now` seconds. `look` is called after each step.

    Attributes:
        steps: handles that were run.
        step_seconds: what each of them costs.
        pauses: the chance that the process stands still before an iteration, and for how long at most.
        paused: seconds that it has.
        thread_seconds: draws how long a call in a thread takes.
        threads: calls in threads that have not ended.
    """

    def __init__(self, dice: random.Random, now: float, look: Callable[[], None]) -> None:
        super().__init__()
        self.set_debug(False)
        self._dice = dice
        self._now = now
        self._look = look
        self._timers: list[tuple[float, float, int, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._left = 0
        self.steps = 0
        self.step_seconds = 0.0
        self.pauses = (0.0, 0.0)
        self.paused = 0.0
        self.thread_seconds: Callable[[], float] = lambda: 0.0
        self.threads = 0
        self.threaded = 0.0
        self.crashed = False

    def time(self) -> float:
        return self._now

    # --- scheduling -------------------------------------------------------------------------------------------

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._dice.random(), self._numbers, handle))
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_task(self, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return SimulatedTask(coroutine, order=self._dice.getrandbits(30), loop=self, **options)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when they come due."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody is to be woken."""

    # --- running ----------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        if not self._left:
            self._begin()
        self._step()
        while self._stopping and self._left:
            self._step()

    def _begin(self) -> None:
        """Take in what is due; when nothing is ready, time goes on to the next moment at which something is."""
        ready, timers = self._ready, self._timers
        self._now += 1e-9  # a clock goes on, or who waits for its last digit would wait for ever
        if not ready:
            while timers and timers[0][3]._cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Standstill
            self._now = max(self._now, timers[0][0])
        chance, longest = self.pauses
        if chance and self._dice.random() < chance:
            pause = self._dice.random() * longest
            self._now += pause
            self.paused += pause
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[3]
            if not handle._cancelled:
                ready.append(handle)
        self._left = len(ready)

    def _step(self) -> None:
        self._left -= 1
        handle = self._ready.popleft()
        if not handle._cancelled:
            self.steps += 1
            self._now += self.step_seconds
            handle._run()
            self._look()

    # --- threads ----------------------------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
        """Call a blocking function in one piece, at some later moment, whether anybody still waits for it or not."""
        future = self.create_future()
        seconds = self.thread_seconds()
        self.threads += 1
        self.threaded += seconds
        self.call_later(seconds, self._in_thread, future, function, args)
        return future

    def _in_thread(self, future: asyncio.Future[Any], function: Any, args: Any) -> None:
        self.threads -= 1
        try:
            result = function(*args)
        except Crash:
            self.crashed = True
        except Exception as exc:  # noqa: BLE001 - whoever waits gets it
            if not future.done():
                future.set_exception(exc)
        else:
            if not future.done():
                future.set_result(result)

    # --- the end ----------------------------------------------------------------------------------------------

    def open_tasks(self) -> list[asyncio.Task[Any]]:
        return sorted(asyncio.all_tasks(self), key=hash)

    def bury(self) -> None:
        """Let what is left of a run come to its end unseen; nothing of the world may be changed by it."""
        self._look = lambda: None
        self._now += 1e9  # whoever waits for time has waited
        self.pauses = (0.0, 0.0)
        self.set_exception_handler(lambda loop, context: None)
        for _ in range(3):
            tasks = self.open_tasks()
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            waiting = self.create_task(_all(tasks))
            try:
                self.run_until_complete(waiting)
            except (Standstill, asyncio.CancelledError):
                continue
        for task in self.open_tasks():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._ready.clear()
        self._timers.clear()
        self.close()


async def _all(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
