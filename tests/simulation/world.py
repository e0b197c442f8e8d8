"""The two servers of a simulated run, a database and a bucket, and what they alone know for certain.

The database is met behind `asyncpg.connect`, so the session, its retries and the reading of pages are the real ones.
The sink keeps the promises of `protocols.Sink`, and breaks down in every way that they leave open.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Self

import asyncpg

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
from asyncup.model import Receipt, Upload
from asyncup.sources.keyset import AGAIN, Statement
from tests.simulation.scenario import TROUBLES, RowPlan, RunPlan, Scenario

if TYPE_CHECKING:
    from tests.simulation.invariants import Invariants

#: Faults that say so after the object was stored, or before it will be.
STORED = ("lost-after", "fault-after")
ATTEMPT_TIMEOUT = 60.0


class Body(bytes):
    """The body of a row in memory. What is alive is counted: this is what `--memory` bounds."""

    __slots__ = ()
    alive: dict[int, int] = {}  # noqa: RUF012 - of the one run that there is
    total = 0

    def __new__(cls, content: bytes) -> Self:
        body = super().__new__(cls, content)
        Body.alive[id(body)] = len(body)
        Body.total += len(body)
        return body

    def __del__(self) -> None:
        size = Body.alive.pop(id(self), None)
        if size is not None:
            Body.total -= size

    @classmethod
    def forget(cls) -> None:
        """Another run begins, on a machine without memories."""
        cls.alive.clear()
        cls.total = 0


class SimulatedDatabase:
    """One table. Rows go when their time has come."""

    def __init__(self, scenario: Scenario, plan: RunPlan, dice: random.Random, watch: Invariants) -> None:
        self.scenario, self.plan, self.dice, self.watch = scenario, plan, dice, watch
        self.began = watch.now()

    async def connect(self, dsn: str | None, *, timeout: float) -> SimulatedConnection:
        await asyncio.sleep(self._seconds())
        if self.away():
            raise self.dice.choice(
                [
                    ConnectionRefusedError(111, "Connection refused"),
                    TimeoutError(),
                    asyncpg.exceptions.CannotConnectNowError("the database system is starting up"),
                ]
            )
        return SimulatedConnection(self)

    def away(self) -> bool:
        since = self.watch.now() - self.began
        return any(start <= since < end for start, end in self.plan.database_outages)

    def _seconds(self) -> float:
        return self.plan.read_seconds * (0.5 + self.dice.random())

    def trouble(self, at: str) -> Exception | None:
        """What goes wrong with this statement, if anything does."""
        if self.away():
            return asyncpg.exceptions.AdminShutdownError("terminating connection")
        if not self.plan.trouble_rate or self.dice.random() >= self.plan.trouble_rate:
            return None
        (kind,) = self.dice.choices(list(TROUBLES), list(TROUBLES.values()))
        if (kind == "commit") != (at == "COMMIT"):
            return None
        self.watch.note("trouble", len(kind))
        return {
            "shutdown": asyncpg.exceptions.AdminShutdownError("terminating connection"),
            "reset": ConnectionResetError(104, "Connection reset by peer"),
            "closed": asyncpg.exceptions.ConnectionDoesNotExistError("connection was closed"),
            "serialization": asyncpg.exceptions.SerializationError("could not serialize access"),
            "cancelled": asyncpg.exceptions.QueryCanceledError("canceling statement"),
            "commit": asyncpg.exceptions.InterfaceError("connection is closed"),
            "broken": asyncpg.exceptions.InternalServerError("invalid page in block 7"),
        }[kind]

    def page(self, phase: int, after: tuple[Any, ...] | None, limit: int, inline: int) -> list[tuple[Any, ...]]:
        first = 0 if after is None else number_of(after)
        border = self.scenario.phases
        proven, rows, now = self.scenario.proven, [], self.watch.now()
        if phase == 0:
            upto = border - 1 if border else len(self.scenario.rows)
        else:
            first, upto = max(first, border - 1), len(self.scenario.rows)
        start = first if proven or not first else first - 1
        for row in self.scenario.rows[start:upto]:
            if row.gone_at is not None and row.gone_at <= now:
                continue
            size = None if row.body is None else len(row.body)
            body = Body(row.body) if row.body is not None and len(row.body) <= inline else None
            flag = () if proven else (AGAIN if row.number == first else 0,)
            rows.append((*self.key(row), self.name(row), *flag, size, body))
            if len(rows) == limit:
                break
        return rows

    def body(self, key: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        row = self.scenario.rows[number_of(key) - 1]
        if row.gone_at is not None and row.gone_at <= self.watch.now():
            return []
        return [(None if row.body is None else Body(row.body),)]

    def key(self, row: RowPlan) -> tuple[str | None, ...]:
        if not self.scenario.phases:
            return (f"{row.number:06d}",)
        return (f"{row.number:06d}" if row.number < self.scenario.phases else None, f"{row.number:06d}")

    def name(self, row: RowPlan) -> str:
        return f"{row.number:06d}" if row.poison != "template" else f"{row.number:06d}/.."


def number_of(key: tuple[Any, ...]) -> int:
    return int(key[-1])


class SimulatedConnection:
    """What asyncpg's connection is to a session."""

    _transport = None  # there is no socket

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database
        self._closed = False

    def is_closed(self) -> bool:
        return self._closed

    async def execute(self, sql: str) -> None:
        await self._answer(sql)

    async def fetch(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        await self._answer(sql)
        return self._database.page(*arguments) if sql == "page" else self._database.body(*arguments)

    async def _answer(self, sql: str) -> None:
        database = self._database
        if self._closed:
            raise asyncpg.exceptions.InterfaceError("connection is closed")
        trouble = database.trouble(sql)
        if database.plan.hangs and database.dice.random() < database.plan.hangs / 20:
            await asyncio.Future()
        if sql in ("page", "body"):
            await asyncio.sleep(database._seconds())
        if trouble is not None:
            self._closed = not isinstance(
                trouble, (asyncpg.exceptions.SerializationError, asyncpg.exceptions.QueryCanceledError)
            )
            try:
                raise trouble
            finally:
                del trouble  # a driver does not keep what it has raised

    def terminate(self) -> None:
        self._closed = True

    async def close(self, *, timeout: float) -> None:
        self._closed = True
        if self._database.plan.hangs and self._database.dice.random() < self._database.plan.hangs:
            await asyncio.sleep(timeout)
            raise TimeoutError
        await asyncio.sleep(min(timeout, self._database._seconds()))


class SimulatedKeyset:
    """Statements that the simulated database understands."""

    def __init__(self, real: Any, phases: int) -> None:
        self.relation, self.key, self.columns, self.body = real.relation, real.key, real.columns, real.body
        self.phases = ((False, False), (True, False)) if phases else ((False,),)

    def phase_of(self, key: tuple[Any, ...]) -> int:
        return int(key[0] is None)

    def page(self, phase: int, after: Any, limit: int, inline: int) -> Statement:
        return Statement("page", (phase, after, limit, inline))

    def one_body(self, key: Any) -> Statement:
        return Statement("body", (key,))


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
            await self._put(number, upload)
        except asyncio.CancelledError:
            if self.dice.random() < 0.5 and self.scenario.rows[number - 1].poison is None:
                self._store(number)  # the request was on its way
            raise
        except AsyncupError as error:
            self.watch.refusal(number, error)
            raise
        finally:
            self.in_flight[number] -= 1
            if not self.in_flight[number]:
                del self.in_flight[number]
        self.watch.acknowledged(number, len(upload.body))
        return Receipt(upload.key, len(upload.body))

    async def close(self) -> None:
        """See `Sink.close`."""
        self.closed = True

    async def _put(self, number: int, upload: Upload) -> None:
        if len(upload.body) >= self.plan.parts_from:
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
