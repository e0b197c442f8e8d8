"""The bucket of a simulated run. The sink keeps the promises of `protocols.Sink`, and breaks down in every way that they
leave open.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    DestinationRefused,
    PayloadCorrupted,
    RowRefused,
    ServerFault,
    StaleRequest,
    Throttled,
    Unreachable,
)
from asyncup.flow.retry import Retrier
from asyncup.model import Receipt, Streamed, Upload
from tests.simulation.scenario import RunPlan, Scenario

if TYPE_CHECKING:
    from tests.simulation.invariants import Invariants

#: Faults that say so after the object was stored, or before it will be.
STORED = ("lost-after", "fault-after")
ATTEMPT_TIMEOUT = 60.0


class SimulatedSink:
    """A bucket's door. `stored` outlives runs: the numbers of the rows whose bytes are stored."""

    is_aws = False
    endpoint_url = "http://simulated"
    honours_conditions = True

    def __init__(
        self, scenario: Scenario, plan: RunPlan, dice: random.Random, watch: Invariants, stored: set[int]
    ) -> None:
        self.scenario, self.plan, self.dice, self.watch, self.stored = scenario, plan, dice, watch, stored
        self.began = watch.now()
        self.in_flight: dict[int, int] = {}
        self.closed = False
        self.retrier: Retrier
        self._kinds, self._weights = list(plan.faults), list(plan.faults.values())

    def objects(self, retrier: Retrier) -> None:
        """Nobody asks what is there."""

    async def check(self) -> None:
        """See `Sink.check`."""
        await self._latency()
        self._knock()

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        number = int(upload.key[2:])
        self.in_flight[number] = self.in_flight.get(number, 0) + 1
        try:
            self.watch.attempt(number, upload, len(self.in_flight))
            size = len(upload.body)
            if isinstance(upload.body, Streamed):
                size = await self._put_streamed(number, upload, upload.body)
            else:
                await self._put(number, upload, size)
        except asyncio.CancelledError:
            row = self.scenario.rows[number - 1]
            if self.dice.random() < 0.5 and row.poison is None and not isinstance(upload.body, Streamed):
                self._store(number)  # the request was on its way
            raise
        except AsyncupError as error:
            self.watch.refusal(number, error)
            raise
        finally:
            self.in_flight[number] -= 1
            if not self.in_flight[number]:
                del self.in_flight[number]
        self.watch.acknowledged(number, size)
        return Receipt(upload.key, size)

    async def close(self) -> None:
        """See `Sink.close`."""
        self.closed = True

    async def _put_streamed(self, number: int, upload: Upload, body: Streamed) -> int:
        """Read all of it before the last request is made, and no more at a time than may be held."""
        async with body.open() as found:
            content, held = bytearray(), list[bytes]()
            async for piece in found.slices:
                content += piece
                held.append(piece)
                if sum(map(len, held)) >= body.window:
                    await self.retrier.run(self._part, len(content))
                    held.clear()
            self.watch.read_whole(number, bytes(content))
            await self._put(number, upload, 0)
            return found.size

    async def _put(self, number: int, upload: Upload, size: int) -> None:
        if size >= self.plan.parts_from:
            for part in range(3):
                await self.retrier.run(self._part, part)
        if self.plan.hangs and self.dice.random() < self.plan.hangs:
            await asyncio.Future()
        poison = self.scenario.rows[number - 1].poison
        kind = self._fault() if poison is None else None
        await self._latency()
        self._knock()
        if poison is not None:
            raise RowRefused("put", upload.key, "KeyTooLong")
        if kind is None:
            self._store(number)
            return
        self.watch.note(kind, number)
        if kind in STORED:
            self._store(number)
        elif kind == "lost-late":
            asyncio.get_running_loop().call_later(self.dice.random() * 5, self._store, number)
        elif kind in ("slow", "timeout"):
            await asyncio.sleep(ATTEMPT_TIMEOUT * (self.dice.random() if kind == "slow" else 1))
        if kind == "slow":
            self._store(number)
            return
        raise self._error(kind, upload.key)

    async def _part(self, part: int) -> None:
        kind = self._fault()
        await self._latency()
        if kind not in (None, "slow", "refused", "surprise"):
            raise self._error(kind, f"part {part}")

    async def _latency(self) -> None:
        shape, seconds = self.plan.latency, self.plan.latency_seconds
        if shape == "none":
            return
        if shape == "turns":
            for _ in range(self.dice.randint(1, 4)):
                await asyncio.sleep(0)
        elif shape == "fixed":
            await asyncio.sleep(seconds)
        elif shape == "steps":  # many at one instant, in any order
            await asyncio.sleep(seconds * self.dice.randint(1, 3))
        elif shape == "uniform":
            await asyncio.sleep(seconds * self.dice.random())
        else:
            await asyncio.sleep(min(ATTEMPT_TIMEOUT, seconds * self.dice.lognormvariate(0.0, 1.5)))

    def _fault(self) -> str | None:
        if not self._kinds or self.dice.random() >= self.plan.fault_rate:
            return None
        return self.dice.choices(self._kinds, self._weights)[0]

    def _knock(self) -> None:
        since = self.watch.now() - self.began
        if any(start <= since < end for start, end in self.plan.outages):
            kind = Unreachable if self.dice.random() < 0.7 else ConnectionLost
            raise kind("put", "bucket", "nobody answers")

    def _store(self, number: int) -> None:
        if not self.watch.over:
            self.stored.add(number)
            self.watch.note("store", number)

    def _error(self, kind: str, key: str) -> Exception:
        if kind == "throttled":
            wish = self.dice.choice([None, None, 0.5, 5.0])
            return Throttled("put", key, "SlowDown", None, wish)
        if kind == "surprise":
            return RuntimeError("a defect in a sink")
        return {
            "lost": ConnectionLost,
            "lost-after": ConnectionLost,
            "lost-late": ConnectionLost,
            "timeout": ConnectionLost,
            "fault": ServerFault,
            "fault-after": ServerFault,
            "unreachable": Unreachable,
            "corrupted": PayloadCorrupted,
            "stale": StaleRequest,
            "refused": DestinationRefused,
        }[kind]("put", key, kind)
