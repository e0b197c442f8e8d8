"""What happens between and within pages: connections die, statements are cancelled, tables change under the reader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Self

import asyncpg
import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import Disposition, ReadingBroken, ServerFault, SourceRefused, StatementTimedOut, Unreachable
from asyncup.model import is_deferred
from asyncup.sources.connection import session
from tests.conftest import Database
from tests.integration.reading import (
    QuickRetrier,
    emptied,
    pages,
    prepared,
    rows,
    source,
    sql,
)

NINE = """
CREATE TABLE t (n int PRIMARY KEY, b text); INSERT INTO t SELECT n, repeat('x', n * 20000) FROM generate_series(1, 9) n;
"""

#: A condition that holds for every row, once nobody else keeps the gate shut.
GATE = """
CREATE FUNCTION gate() RETURNS bool LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN true; END $$;
"""

KINDS = pytest.mark.parametrize("what", [{"table": "t"}, {"query": "TABLE t", "key": ("n",)}], ids=["table", "query"])
EVERY_KEY = [str(n) for n in range(1, 10)]


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "faults") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


class Gatekeeper:
    """Someone on a connection of their own who holds readers up in the middle of a statement."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def shut(self) -> None:
        await self._connection.execute("SELECT pg_advisory_lock(7)")

    async def open(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock(7)")

    async def run(self, text: str) -> None:
        await self._connection.execute(text)

    async def waiting(self) -> int:
        """The process of the reader that stands at the gate, as soon as one does."""
        async with asyncio.timeout(10):
            while True:
                pid = await self._connection.fetchval(
                    "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()"
                    " WHERE l.locktype = 'advisory' AND NOT l.granted"
                )
                if pid is not None:
                    return int(pid)

    async def send(self, function: str, pid: int) -> None:
        assert await self._connection.fetchval(f"SELECT {function}($1)", pid)


@contextlib.asynccontextmanager
async def gatekeeper(database: Database) -> AsyncIterator[Gatekeeper]:
    connection = await asyncpg.connect(database.dsn)
    try:
        yield Gatekeeper(connection)
    finally:
        await connection.close()


@KINDS
async def test_a_connection_that_dies_between_pages_loses_and_repeats_no_row(
    database: Database, what: dict[str, object]
) -> None:
    await sql(database, NINE)
    retrier, found = QuickRetrier(), []
    async with source(database, retrier=retrier, page_size=2, **what) as reader:
        async for page in reader.pages(None):
            found += [row[0] for row in page.rows]
            killed = (
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname"
            )
            assert await sql(database, f"{killed} = current_database() AND backend_type = 'client backend'") == "t"
    assert found == EVERY_KEY


@KINDS
@pytest.mark.parametrize("function", ["pg_terminate_backend", "pg_cancel_backend"])
async def test_a_statement_that_dies_within_a_page_loses_and_repeats_no_row(
    database: Database, function: str, what: dict[str, object]
) -> None:
    await sql(database, NINE + GATE)
    retrier = QuickRetrier()
    async with (
        gatekeeper(database) as gate,
        source(database, retrier=retrier, page_size=2, where="gate()", **what) as reader,
    ):
        reading = reader.pages(None)
        found = [row[0] for row in (await anext(reading)).rows]
        while len(found) < 9:
            await gate.shut()
            following = asyncio.create_task(anext(reading))
            await gate.send(function, await gate.waiting())
            await gate.waiting()  # it has come back
            await gate.open()
            found += [row[0] for row in (await following).rows]
        assert [page async for page in reading] == []
    assert found == EVERY_KEY
    assert len(retrier.retries) == 4


async def test_a_deferred_body_survives_a_connection_that_dies(database: Database) -> None:
    await sql(database, NINE + GATE)
    async with gatekeeper(database) as gate, source(database, table="t", body="b", where="gate()", memory=1) as reader:
        last = (await rows(reader))[-1]
        assert is_deferred(last)
        await gate.shut()
        body = asyncio.create_task(reader.body(last))
        await gate.send("pg_terminate_backend", await gate.waiting())
        await gate.open()
        assert await body == b"x" * 180_000


async def test_a_reader_that_is_cancelled_within_a_page_can_start_again(database: Database) -> None:
    await sql(database, NINE + GATE)
    async with gatekeeper(database) as gate, source(database, table="t", where="gate()") as reader:
        await gate.shut()
        reading = asyncio.create_task(rows(reader))
        await gate.waiting()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await gate.open()
        assert [row[0] for row in await rows(reader)] == EVERY_KEY


async def test_a_lock_that_does_not_go_away_ends_reading_after_bounded_attempts(database: Database) -> None:
    await sql(database, f"{NINE} ALTER DATABASE {database.name} SET lock_timeout = '20ms'")
    async with source(database, table="t", page_size=5) as reader, gatekeeper(database) as other:
        reading = reader.pages(None)
        await anext(reading)
        await other.run("BEGIN; LOCK TABLE t")
        with pytest.raises(ServerFault, match="lock timeout") as failed:
            await anext(reading)
        assert failed.value.attempts == 3
        assert failed.value.disposition is not Disposition.RETRY
        await other.run("ROLLBACK")
        assert len(await rows(reader)) == 9


class Wire:
    """A port that leads to the server until it is cut."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writers: set[asyncio.StreamWriter] = set()
        self._silenced: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self.port = 0

    @property
    def dsn(self) -> str:
        return self._database.dsn.replace(f":{self._database.server.port}/", f":{self.port}/")

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self._database.server.port)
        self._writers |= {writer, here}

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if target in self._silenced:
                        continue
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(carry(reader, here), carry(there, writer))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def silence(self) -> None:
        """Nothing comes through any more on the connections that there are, and nobody hangs up."""
        self._silenced |= self._writers

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()


async def test_connections_that_are_reset_lose_and_repeat_no_row(database: Database) -> None:
    await sql(database, NINE)
    async with Wire(database) as wire:
        found = []
        async with source(database, dsn=wire.dsn, table="t", page_size=2) as reader:
            async for page in reader.pages(None):
                found += [row[0] for row in page.rows]
                wire.cut()
    assert found == EVERY_KEY


async def test_a_server_that_is_gone_for_good_ends_reading_after_a_bounded_time(database: Database) -> None:
    await sql(database, NINE)
    async with Wire(database) as wire, source(database, dsn=wire.dsn, table="t", page_size=2) as reader:
        reading = reader.pages(None)
        await anext(reading)
        await wire.__aexit__()
        async with asyncio.timeout(20):
            with pytest.raises(Unreachable) as failed:
                await anext(reading)
    assert failed.value.disposition is Disposition.ABORT
    assert failed.value.attempts > 1


@pytest.mark.parametrize("bound", ["BEGIN", "STATEMENT"])
async def test_a_server_that_falls_silent_is_left_for_a_new_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    await sql(database, NINE + GATE)
    if bound == "STATEMENT":
        monkeypatch.setattr(session, "STATEMENT_SECONDS", 0.3)
    else:
        monkeypatch.setattr(session.Session, "_prompt", 0.3)
    retrier = QuickRetrier()
    async with (
        gatekeeper(database) as gate,
        Wire(database) as wire,
        source(database, dsn=wire.dsn, retrier=retrier, table="t", page_size=5, where="gate()") as reader,
    ):
        reading = reader.pages(None)
        found = [row[0] for row in (await anext(reading)).rows]
        if bound == "STATEMENT":
            await gate.shut()
            following = asyncio.create_task(anext(reading))
            await gate.waiting()
        wire.silence()
        if bound == "STATEMENT":
            await gate.open()
        else:
            following = asyncio.create_task(anext(reading))
        async with asyncio.timeout(20):
            found += [row[0] for row in (await following).rows]
    assert found == EVERY_KEY
    assert [type(error) for error in retrier.retries] == [Unreachable]


@pytest.mark.parametrize("setting", ["statement_timeout", "transaction_timeout"])
async def test_a_page_that_takes_too_long_is_made_smaller(database: Database, setting: str) -> None:
    await sql(
        database,
        f"""
        CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100);
        CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_sleep(0.01) WHERE $1 > 20; RETURN true; END $$;
        ALTER DATABASE {database.name} SET {setting} = '300ms'
        """,
    )
    retrier = QuickRetrier()
    async with source(database, retrier=retrier, page_size=80, table="t", where="slow(n)") as reader:
        sizes = [len(page.rows) for page in await pages(reader)]
    assert sum(sizes) == 100
    assert max(sizes) < 60
    assert {type(error) for error in retrier.retries} == {StatementTimedOut}
    assert len(retrier.retries) < 5


async def test_a_row_that_takes_too_long_ends_reading_with_the_way_out(database: Database) -> None:
    await sql(database, f"{NINE}{GATE} ALTER DATABASE {database.name} SET statement_timeout = '100ms'")
    async with gatekeeper(database) as gate, source(database, table="t", page_size=2, where="gate()") as reader:
        await gate.shut()
        with pytest.raises(StatementTimedOut, match="canceling statement due to statement timeout") as failed:
            await rows(reader)
        await gate.open()
        assert len(await rows(reader)) == 9
    assert failed.value.disposition is Disposition.ABORT
    assert failed.value.needs_configuration
    assert "ALTER ROLE" in (failed.value.hint or "")


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t RENAME TO u",
        "DROP TABLE t",
        "ALTER TABLE t RENAME n TO m",
        "ALTER TABLE t DROP n",
        "ALTER TABLE t ALTER n TYPE text",
        "ALTER TABLE t SET SCHEMA elsewhere",
    ],
)
async def test_what_the_key_stands_on_must_not_change_while_it_is_read(database: Database, change: str) -> None:
    await sql(database, f"DROP SCHEMA IF EXISTS elsewhere CASCADE; CREATE SCHEMA elsewhere; {NINE}")
    async with source(database, table="t", page_size=2) as reader:
        reading = reader.pages(None)
        await anext(reading)
        await sql(database, change)
        with pytest.raises(SourceRefused, match="has changed since the run began") as refused:
            await anext(reading)
    assert refused.value.attempts == 1
    assert "run it again" in (refused.value.hint or "")


@KINDS
@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t ADD late int DEFAULT 1",
        "ALTER TABLE t DROP b",
        "ALTER TABLE t ALTER n TYPE bigint",
        "ALTER TABLE t RENAME b TO c",
        "VACUUM FULL t",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
    ],
)
async def test_a_table_may_be_altered_while_it_is_read(
    database: Database, change: str, what: dict[str, object]
) -> None:
    await sql(database, NINE)
    async with source(database, page_size=2, **what) as reader:
        found = []
        async for page in reader.pages(None):
            found += [row[0] for row in page.rows]
            if len(found) == 4:
                await sql(database, change)
    assert found == EVERY_KEY


async def test_reading_that_does_not_advance_is_stopped(database: Database) -> None:
    await sql(
        database,
        """
        CREATE TYPE mood AS ENUM ('a', 'b', 'c');
        CREATE FUNCTION worst(text) RETURNS mood LANGUAGE sql IMMUTABLE AS $$ SELECT 'a'::mood $$;
        CREATE CAST (text AS mood) WITH FUNCTION worst(text);
        CREATE TABLE t (k mood PRIMARY KEY); INSERT INTO t VALUES ('a'), ('b'), ('c');
        """,
    )
    async with source(database, table="t", page_size=1) as reader:
        with pytest.raises(ReadingBroken, match=r"the page after the key \(b\) begins with that key again"):
            await asyncio.wait_for(pages(reader), 10)
