"""Who takes the objects of a benchmark: a simulator that may go away, and a bucket that is left as it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment

from asyncup.bench.simulator.launch import RunningSimulator
from asyncup.errors import AsyncupError
from asyncup.events import Notice
from asyncup.flow.interrupt import Interrupt
from asyncup.protocols import Observer, Sink

if TYPE_CHECKING:
    from asyncup.sinks.s3.removal import Removal


class Served:
    """A simulator, a sink that it answers at once, and the sink that the destination is measured with."""

    def __init__(self, running: RunningSimulator, fast: Sink, real: Sink) -> None:
        self._running = running
        self.fast = fast
        self.real = real

    async def slow_down(self, latency: str, limit: float) -> None:
        """From now on it answers so late, and takes no more than `limit` requests a second, 0 for any number.

        Raises:
            AsyncupError: it has gone.
        """
        try:
            await asyncio.to_thread(self._running.set_latency, latency)
            await asyncio.to_thread(self._running.set_limit, limit)
        except OSError as exc:
            raise _gone(str(exc)) from exc

    def check(self) -> None:
        """See that it is still there.

        Raises:
            AsyncupError: it is not.
        """
        code = self._running.process.poll()
        if code is not None:
            raise _gone(f"its process has ended with {code}")


@contextlib.contextmanager
def past_proxies() -> Iterator[None]:
    """The environment may name a proxy and not except this machine from it, which the simulator is on."""
    before, excepted = os.environ.get("no_proxy"), getproxies_environment().get("no")
    os.environ["no_proxy"] = ",".join(filter(None, (excepted, "127.0.0.1")))
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before


def _gone(why: str) -> AsyncupError:
    return AsyncupError("ask", "simulator", f"it has gone: {why}", "something ended its process: run it again")


async def remove(removal: Removal, keys: Sequence[str], where: str, interrupt: Interrupt, observer: Observer) -> None:
    """Remove what was put there; the second signal that comes meanwhile ends that too.

    Raises:
        AsyncupError: some of it may still be there; says where.
    """
    observer.on_event(Notice(f"removing {len(keys):,} objects below {where}", is_routine=True))
    removed = came = 0
    already = interrupt.requests

    def count(number: int) -> None:
        nonlocal removed
        removed = number

    def interrupted(requests: int) -> None:
        nonlocal came
        came = requests - already
        if came == 1:
            observer.on_event(Notice(f"removing {len(keys):,} objects; another signal leaves them there"))
        elif came > 1:
            removing.cancel()

    removing = asyncio.create_task(removal.remove(keys, count), name="asyncup-bench-removing")
    interrupt.watch(interrupted)
    try:
        await removing
    except (AsyncupError, asyncio.CancelledError) as exc:
        if came < 2 and not isinstance(exc, AsyncupError):
            raise
        why = str(exc) if isinstance(exc, AsyncupError) else "the removal was interrupted"
        left = f"up to {len(keys) - removed:,} objects are left there: {why}"
        raise AsyncupError("remove", where, left, f"aws s3 rm --recursive '{where}' removes them") from exc
