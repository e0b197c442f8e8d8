"""Reading and keeping state through PgBouncer, where every transaction may go to another connection of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import SourceRefused, Unreachable
from tests.conftest import Bucket, Database, Program
from tests.integration.poolers import Pooler, pgbouncer
from tests.integration.reading import QuickRetrier, emptied, prepared, read, rows, source, sql

TABLE = """
CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN word AS text;
CREATE TABLE t (id bigint PRIMARY KEY, m mood DEFAULT 'happy', w word DEFAULT 'x', b bytea DEFAULT '\\x00ff');
INSERT INTO t SELECT n FROM generate_series(1, 900) n;
"""
IDS = [str(n) for n in range(1, 901)]


@pytest.fixture(scope="module")
def transactions(postgres: EmbeddedPostgres, servers_folder: Path) -> Iterator[Pooler]:
    with pgbouncer(postgres, servers_folder / "transactions", "transaction", "query_wait_timeout = 1") as pooler:
        yield pooler


@pytest.fixture(scope="module")
def statements(postgres: EmbeddedPostgres, servers_folder: Path) -> Iterator[Pooler]:
    with pgbouncer(postgres, servers_folder / "statements", "statement") as pooler:
        yield pooler


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "poolers") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


KINDS = pytest.mark.parametrize(
    "what", [{"table": "t"}, {"query": "SELECT id, m, w, b FROM t", "key": ("id",)}], ids=["table", "query"]
)


@KINDS
async def test_every_row_comes_once_though_the_server_connection_is_shared_and_dies(
    database: Database, transactions: Pooler, what: dict[str, object]
) -> None:
    await sql(database, TABLE)
    retrier, found = QuickRetrier(), []
    async with source(
        database, dsn=transactions.dsn(database), retrier=retrier, page_size=100, columns=("m", "w"), **what
    ) as reader:
        async for page in reader.pages(None):
            found += [row[0] for row in page.rows]
            assert await asyncio.to_thread(transactions.sql, database, "SELECT count(*) FROM t") == "900"
            if len(found) == 300:
                assert await sql(
                    database,
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()",
                )
    assert found == IDS


@KINDS
async def test_nothing_of_ours_is_left_for_the_next_client(
    database: Database, transactions: Pooler, what: dict[str, object]
) -> None:
    await sql(database, TABLE)
    names = [
        "DateStyle",
        "IntervalStyle",
        "row_security",
        "jit",
        "plan_cache_mode",
        "TimeZone",
        "extra_float_digits",
        "search_path",
    ]
    look = ", ".join(f"current_setting('{name}')" for name in names)
    look = f"SELECT pg_backend_pid(), {look}, (SELECT count(*) FROM pg_prepared_statements)"
    before = await asyncio.to_thread(transactions.sql, database, look)
    assert before.endswith("|0")
    async with source(
        database, dsn=transactions.dsn(database), page_size=100, columns=("m", "w"), where="w = 'x'", **what
    ) as reader:
        assert len(await rows(reader)) == 900
        assert await asyncio.to_thread(transactions.sql, database, look) == before
    assert await asyncio.to_thread(transactions.sql, database, look) == before


async def test_a_pooler_without_transactions_is_refused_with_the_way_out(
    database: Database, statements: Pooler
) -> None:
    await sql(database, TABLE)
    with pytest.raises(SourceRefused, match="statement pooling mode") as refused:
        await read(database, dsn=statements.dsn(database), table="t")
    assert "pool_mode=transaction" in (refused.value.hint or "")
    assert refused.value.attempts == 1


async def test_a_parameter_that_the_pooler_does_not_take_is_refused_with_the_way_out(
    database: Database, transactions: Pooler
) -> None:
    with pytest.raises(SourceRefused, match="unsupported startup parameter: options") as refused:
        await read(database, dsn=transactions.dsn(database) + "?options=-c%20jit%3Doff", table="t")
    assert "ignore_startup_parameters" in (refused.value.hint or "")


async def test_a_pooler_that_has_no_connection_is_tried_again(database: Database, transactions: Pooler) -> None:
    await sql(database, TABLE)
    retrier = QuickRetrier()
    async with source(database, dsn=transactions.dsn(database), retrier=retrier, table="t", page_size=500) as reader:
        reading = reader.pages(None)
        await anext(reading)
        await asyncio.to_thread(transactions.admin, f"PAUSE {database.name}")
        try:
            with pytest.raises(Unreachable, match="query_wait_timeout"):
                await anext(reading)
        finally:
            await asyncio.to_thread(transactions.admin, f"RESUME {database.name}")
        assert len(retrier.retries) > 0
        assert len(await rows(reader)) == 900


def test_a_run_with_its_state_in_the_database_goes_on_through_a_pooler(
    asyncup: Program, database: Database, transactions: Pooler, bucket: Bucket
) -> None:
    database.sql(TABLE)
    asyncup.environment = bucket.server.environment
    flags = [
        *("--dsn", transactions.dsn(database), "--table=t", f"--to=s3://{bucket.name}/{{id}}", "--body=b"),
        *("--state=postgres:public.state", "--concurrency=8", "--page-size=50"),
    ]
    process = asyncup.start("sync", *flags, "--max-rate=150", "--output=json")
    asyncup.interrupt(process, when=lambda: sum(1 for _ in bucket.folder.iterdir()) > 100)
    assert asyncup.finish(process).code == 130
    begun = len(bucket.objects())
    assert 100 < begun < 900
    assert "public.t" in asyncup("status", "--dsn", flags[1], "--state=postgres:public.state").stdout
    run = asyncup("sync", *flags, "--output=json")
    assert (run.code, run.summary["status"]) == (0, "complete"), run.stderr
    assert run.summary["resumed"]
    assert set(bucket.objects()) == set(IDS)
    assert transactions.sql(database, "SELECT count(*) FROM pg_prepared_statements") == "0"
