"""Reading from a standby: what is there is read, what recovery takes away is asked for again, and nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import ServerFault, StateRefused
from asyncup.sources.connection.statesession import StateSession
from tests.conftest import Database
from tests.integration.reading import QuickRetrier, emptied, prepared, rows, source, sql
from tests.integration.standbys import catch_up, standby_of
from tests.integration.test_postgres_faults import EVERY_KEY, GATE, NINE, gatekeeper


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "standby") as database:
        yield database


@pytest.fixture(scope="module")
def follower(postgres: EmbeddedPostgres, room: Database, servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    """A standby that cancels readers at once when they are in the way of recovery."""
    with standby_of(postgres, servers_folder / "standby", "max_standby_streaming_delay=0") as server:
        yield server


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


@pytest.fixture
def standby(follower: EmbeddedPostgres, database: Database) -> Database:
    """The table of nine rows, as the standby has it."""
    database.sql(NINE + GATE)
    catch_up(follower, database.server)
    return Database(follower, database.name)


async def test_rows_are_read_from_a_standby_while_the_primary_writes(standby: Database, database: Database) -> None:
    found = []
    async with source(standby, table="t", page_size=2, body="b", columns=("n",)) as reader:
        async for page in reader.pages(None):
            found += [row[0] for row in page.rows]
            await sql(database, f"INSERT INTO t VALUES ({20 + len(found)})")
            await asyncio.to_thread(catch_up, standby.server, database.server)
    assert found[:9] == EVERY_KEY
    assert len(found) > 9


async def test_a_statement_that_is_in_the_way_of_recovery_is_tried_again(standby: Database, database: Database) -> None:
    retrier = QuickRetrier()
    async with (
        gatekeeper(standby) as gate,
        source(standby, retrier=retrier, table="t", page_size=9, where="gate()") as reader,
    ):
        await gate.shut()
        reading = asyncio.create_task(rows(reader))
        await gate.waiting()
        await sql(database, "UPDATE t SET b = 'new' WHERE n = 9")
        await sql(database, "VACUUM t")
        async with asyncio.timeout(20):
            while not retrier.retries:
                await asyncio.sleep(0.01)
        await gate.open()
        assert [row[0] for row in await reading] == EVERY_KEY
    assert isinstance(retrier.retries[0], ServerFault)
    assert "conflict with recovery" in retrier.retries[0].message
    assert "hot_standby_feedback" in (retrier.retries[0].hint or "")


@pytest.mark.parametrize(
    ("attributes", "is_standby"),
    [("standby", True), ("prefer-standby", True), ("read-only", True), ("primary", False), ("read-write", False)],
)
async def test_of_several_servers_the_one_is_taken_that_is_wanted(
    standby: Database, database: Database, attributes: str, is_standby: bool
) -> None:
    ports = f"{database.server.port},127.0.0.1:{standby.server.port}"
    dsn = database.dsn.replace(str(database.server.port), ports) + f"?target_session_attrs={attributes}"
    async with source(
        database, dsn=dsn, query="SELECT 1 AS n, pg_is_in_recovery() AS b", key=("n",), body="b"
    ) as reader:
        assert [row[-1] for row in await rows(reader)] == [b"true" if is_standby else b"false"]


async def test_state_is_not_kept_on_a_standby(standby: Database) -> None:
    session = StateSession(standby.dsn, QuickRetrier(), "public", "state")
    try:
        with pytest.raises(StateRefused, match="takes no writes") as refused:
            await session.fetch("CREATE TABLE state (a int)")
    finally:
        await session.close()
    assert "a database that takes writes" in (refused.value.hint or "")
