"""The database of a simulated run, and what it alone knows for certain: which rows there are, and until when.

It is met where a session opens its connection, so the session, its retries and the reading of pages are the real ones.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from asyncup.model import WHOLE, Range
from asyncup.sources.bodies import UNREAD
from asyncup.sources.keyset import AGAIN, Keyset, Statement
from tests.simulation.ranges import number_of
from tests.simulation.scenario import TROUBLES, RowPlan, RunPlan, Scenario

if TYPE_CHECKING:
    from tests.simulation.invariants import Invariants


class Body(bytes):
    """The body of a row in memory, or a piece of it. What is alive is counted: this is what `--memory` bounds."""

    __slots__ = ()
    alive: dict[int, int] = {}  # noqa: RUF012 - of the one run that there is; the row of each
    total = 0

    def __new__(cls, content: bytes, number: int) -> Self:
        body = super().__new__(cls, content)
        Body.alive[id(body)] = number
        Body.total += len(body)
        return body

    def __del__(self) -> None:
        if Body.alive.pop(id(self), None) is not None:
            Body.total -= len(self)

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
        self._connections: list[SimulatedConnection] = []

    async def connect(self) -> SimulatedConnection:
        await asyncio.sleep(self._seconds())
        if self.away():
            raise self.dice.choice(
                [
                    ConnectionRefusedError(111, "Connection refused"),
                    TimeoutError(),
                    asyncpg.exceptions.CannotConnectNowError("the database system is starting up"),
                ]
            )
        connection = SimulatedConnection(self)
        self._connections = [*self.open_connections, connection]
        allowed = self.plan.readers + (self.plan.streams if self.plan.streams_from is not None else 0)
        if len(self._connections) > allowed:
            raise self.watch.violated(f"{len(self._connections)} connections to the database, {allowed} allowed")
        return connection

    @property
    def open_connections(self) -> list[SimulatedConnection]:
        return [connection for connection in self._connections if not connection.is_closed()]

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

    def leaves(self) -> dict[int, str | None]:
        """The partitions by oid, with the name of each."""
        now, scenario = self.watch.now(), self.scenario
        name = "t" if scenario.renamed_at is None or now < scenario.renamed_at else "u"
        return {leaf: f"public.{name}{leaf}" for leaf, came in enumerate(scenario.leaves, 1) if came <= now}

    def page(
        self,
        phase: int,
        after: tuple[Any, ...] | None,
        limit: int,
        inline: int,
        part: Range,
        sql: str,
    ) -> list[tuple[Any, ...]]:
        if sql != ("public.t" if part.leaf is None else self.leaves().get(part.leaf)):
            raise asyncpg.exceptions.UndefinedTableError(f"relation {sql} does not exist")
        again = 0 if after is None else number_of(after)
        proven, rows, now = self.scenario.proven, [], self.watch.now()
        members, border = self.scenario.members(part), self.scenario.phases or len(self.scenario.rows) + 1
        first = max(again + proven, border if phase else 0)
        for place in range(bisect_left(members, first), len(members)):
            row = self.scenario.rows[members[place] - 1]
            if row.number >= border and not phase:
                break
            if not self._is_there(row, now):
                continue
            size = None if row.body is None else UNREAD if inline < 0 else len(row.body)
            body = Body(row.body, row.number) if row.body is not None and len(row.body) <= inline else None
            flag = () if proven else (AGAIN if row.number == again else 0,)
            rows.append((*self.scenario.key(row.number), self.name(row), *flag, size, body))
            if len(rows) == limit:
                break
        return rows

    def body(self, key: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        row = self.scenario.rows[number_of(key) - 1]
        if not self._is_there(row, self.watch.now()):
            return []
        return [(None if row.body is None else Body(row.body, row.number),)]

    def slices(self, key: tuple[Any, ...], step: int) -> Iterator[tuple[int, Body]]:
        """The row's body as it is now, slice by slice."""
        row = self.scenario.rows[number_of(key) - 1]
        body = row.body if self._is_there(row, self.watch.now()) else None
        if body is None:
            return iter(())
        return ((len(body), Body(body[start : start + step], row.number)) for start in range(0, len(body) or 1, step))

    def _is_there(self, row: RowPlan, now: float) -> bool:
        return self.scenario.comes_at(row.number) <= now and (row.gone_at is None or now < row.gone_at)

    def name(self, row: RowPlan) -> str:
        return f"{row.number:06d}" if row.poison != "template" else f"{row.number:06d}/.."


class SimulatedConnection:
    """What asyncpg's connection is to a session."""

    _transport = None  # there is no socket

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database
        self._closed = False
        self._is_busy = False
        self._slices: Iterator[Any] = iter(())

    def is_closed(self) -> bool:
        return self._closed

    async def execute(self, sql: str, **_: Any) -> None:
        await self._answer(sql)

    async def fetch(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        await self._answer(sql)
        if sql.startswith("DECLARE"):
            self._slices = self._database.slices(*arguments)
        elif sql.startswith("FETCH"):
            return list(itertools.islice(self._slices, 1))
        elif sql in ("page", "body"):
            return self._database.page(*arguments) if sql == "page" else self._database.body(*arguments)
        return []

    async def _answer(self, sql: str) -> None:
        if self._is_busy:
            raise self._database.watch.violated("two statements at a time on one connection")
        self._is_busy = True
        try:
            await self._work(sql)
        finally:
            self._is_busy = False

    async def _work(self, sql: str) -> None:
        database = self._database
        if self._closed:
            raise asyncpg.exceptions.InterfaceError("connection is closed")
        trouble = database.trouble(sql)
        if database.plan.hangs and database.dice.random() < database.plan.hangs / 20:
            await asyncio.Future()
        if sql in ("page", "body") or sql.startswith("FETCH"):
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


@dataclass(frozen=True, slots=True)
class SimulatedKeyset(Keyset):
    """Statements that the simulated database understands; in all else the real one."""

    def page(self, phase: int, after: Any, limit: int, inline: int, part: Range = WHOLE) -> Statement:
        arguments: Any = phase, after, limit, -1 if self.unread else inline, part, self.relation.sql
        return Statement("page", arguments)

    def one_body(self, key: Any) -> Statement:
        return Statement("body", (key,))

    def slices(self, key: Any, length: int) -> Statement:
        return Statement("slices", (key, length))
