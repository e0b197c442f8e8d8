"""Bodies read slice by slice: every byte of one version, whatever the type and however it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import BodyRefused, Disposition, RowGone, SourceRefused, StatementTimedOut, Unreachable
from asyncup.model import Row, Streamed, is_deferred
from asyncup.sources.postgres import PostgresSource
from tests.conftest import Database
from tests.integration.reading import emptied, pages, prepared, rows, source, sql, values

SLICE = 30_000
#: Bodies of every way to be stored, in SQL, of `{n}` bytes or about so many.
NOISE = "(SELECT string_agg(sha512((i::text || n)::bytea), '' ORDER BY i) FROM generate_series(1, {n} / 64) i)"
STORED = {
    "uncompressed": ("bytea STORAGE external", NOISE),
    "incompressible": ("bytea", NOISE),
    "compressed": ("bytea", "convert_to(repeat(n || ' words ', {n} / 8), 'UTF8')"),
    "a domain": ("blob", "convert_to(repeat(n || ' words ', {n} / 8), 'UTF8')"),
    "text": ("text", "repeat(n || ' wörds 日', {n} / 13)"),
    "uncompressed text": ("text STORAGE external", "repeat(n || ' wörds 日', {n} / 13)"),
    "jsonb": ("jsonb", "jsonb_build_array(n, repeat('wörds', {n} / 6), NULL)"),
    "an array": ("text[]", "ARRAY[repeat('wörds', {n} / 6), NULL, '']"),
}


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "streams") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


async def fill(database: Database, stored: str, *sizes: int) -> None:
    kind, body = STORED[stored]
    inserts = ";".join(
        f"INSERT INTO t SELECT n, {body.format(n=size)} FROM (SELECT {n} AS n) q" for n, size in enumerate(sizes, 1)
    )
    await sql(database, f"CREATE DOMAIN blob AS bytea; CREATE TABLE t (n int PRIMARY KEY, b {kind}); {inserts}")


def reading(database: Database, **options: Any) -> Any:
    """A source whose bodies are deferred from 16 KiB on, and read in small slices."""
    return source(database, **{"table": "t", "body": "b", "memory": 1, "page_size": 4, "slice_bytes": SLICE, **options})


async def deferred(reader: PostgresSource) -> list[Row]:
    return [row for row in await rows(reader) if is_deferred(row)]


async def whole(body: Streamed) -> bytes:
    async with body.open() as (size, slices):
        pieces = [piece async for piece in slices]
    assert sum(map(len, pieces)) == size
    assert {len(piece) for piece in pieces[:-1]} <= {SLICE}
    return b"".join(pieces)


@pytest.mark.parametrize("stored", STORED)
async def test_the_slices_of_a_body_are_the_body_however_it_is_stored(database: Database, stored: str) -> None:
    await fill(database, stored, 20_000, 64 * 1024, 150_000, 400_000)
    async with reading(database) as reader:
        found = await deferred(reader)
        assert len(found) == 4
        for row in found:
            assert await whole(reader.stream(row, 1)) == await reader.body(row)


@pytest.mark.parametrize("size", [SLICE - 1, SLICE, SLICE + 1, 2 * SLICE, 3 * SLICE + 1])
async def test_the_last_slice_is_what_is_left(database: Database, size: int) -> None:
    await sql(
        database,
        f"CREATE TABLE t (n int PRIMARY KEY, b bytea STORAGE external);"
        f"INSERT INTO t VALUES (1, convert_to(rpad('', {size}, 'abcdefg'), 'UTF8'))",
    )
    async with reading(database) as reader:
        (row,) = await rows(reader)
        assert await whole(reader.stream(row, 1)) == (b"abcdefg" * size)[:size]


@pytest.mark.parametrize(
    "what",
    [
        {"query": "SELECT n, b || '\\x00ff'::bytea AS b FROM t", "key": ("n",)},
        {"query": "SELECT n, b FROM t UNION ALL SELECT -n, b FROM t", "key": ("n",)},
        {"table": "v", "key": ("n",)},
        {"table": "t", "body": None},
    ],
    ids=["computed", "union", "view", "row"],
)
async def test_whatever_a_body_comes_from_its_slices_are_it(database: Database, what: dict[str, Any]) -> None:
    await fill(database, "uncompressed", 100_000, 40_000)
    await sql(database, "CREATE VIEW v AS SELECT n, b FROM t")
    async with reading(database, **{"table": None, **what, "allow_sort": True}) as reader:
        found = await deferred(reader)
        assert len(found) >= 2
        for row in found:
            assert await whole(reader.stream(row, 1)) == await reader.body(row)


async def test_bodies_come_over_the_connection_of_the_pages_where_the_server_takes_no_other(database: Database) -> None:
    await fill(database, "uncompressed", 100_000, 40_000)
    await sql(database, "CREATE ROLE lonely LOGIN PASSWORD 'alone' CONNECTION LIMIT 1; GRANT SELECT ON t TO lonely")
    try:
        async with reading(database, dsn=f"postgresql://lonely:alone@{database.dsn.partition('@')[2]}") as reader:
            found = await deferred(reader)
            bodies = await asyncio.gather(*(whole(reader.stream(row, 1)) for row in found))
            assert [(len(body), body) for body in bodies] == [(row[-2], await reader.body(row)) for row in found]
            assert len(found) == 2
    finally:
        await sql(database, "DROP OWNED BY lonely; DROP ROLE lonely")


async def test_a_compressed_body_is_decompressed_once_and_not_for_each_slice(database: Database) -> None:
    await fill(database, "compressed", 4_000_000)
    async with reading(database, slice_bytes=20_000) as reader:
        (row,) = await rows(reader)
        async with reader.stream(row, 1).open() as (_, slices):
            count = len([piece async for piece in slices])
    toast = "SELECT reltoastrelid FROM pg_class WHERE relname = 't'"
    while await values(
        database, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ):
        await asyncio.sleep(0.01)  # a server tells what it has read when it ends
    (scans,) = await values(database, f"SELECT idx_scan FROM pg_stat_all_tables WHERE relid = ({toast})")
    assert count == 200
    assert 0 < scans < 10


# --- versions -------------------------------------------------------------------------------------------------

CHANGES = {
    "longer": "UPDATE t SET b = convert_to(repeat('new', 90000), 'UTF8')",
    "as long": "UPDATE t SET b = convert_to(repeat('x', 128000), 'UTF8')",
    "shorter": "UPDATE t SET b = 'new'",
    "empty": "UPDATE t SET b = ''",
    "NULL": "UPDATE t SET b = NULL",
    "gone": "DELETE FROM t",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stored", ["uncompressed", "compressed"])
async def test_a_body_is_of_one_version_and_the_next_reading_of_the_next(
    database: Database, stored: str, change: str
) -> None:
    await fill(database, stored, 128_000)
    async with reading(database) as reader:
        (row,) = await rows(reader)
        before = await reader.body(row)
        body = reader.stream(row, 1)
        async with body.open() as (size, slices):
            pieces = [await anext(slices)]
            await sql(database, CHANGES[change])
            await sql(database, "VACUUM t")
            pieces += [piece async for piece in slices]
        assert (size, b"".join(pieces)) == (len(before or b""), before)
        after = await reader.body(row)
        if after is None:
            with pytest.raises(RowGone) as gone:
                await whole(body)
            assert gone.value.disposition is Disposition.SKIP
        else:
            assert await whole(body) == after != before


# --- connections ----------------------------------------------------------------------------------------------

READERS = (
    "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database() "
    "AND backend_type = 'client backend' AND state = 'idle in transaction'"
)


async def test_bodies_that_are_read_at_once_have_connections_of_their_own_and_later_ones_take_them_over(
    database: Database,
) -> None:
    await fill(database, "uncompressed", 100_000, 100_000, 100_000)
    async with reading(database) as reader:
        found = await rows(reader)
        for _ in range(2):
            async with AsyncExitStack() as stack:
                opened = [await stack.enter_async_context(reader.stream(row, 1).open()) for row in found[:2]]
                firsts = [await anext(slices) for _, slices in opened]
                assert await values(database, f"SELECT count(*) {READERS}") == [2]
                assert len(await pages(reader)) == 1
                rest = [b"".join([piece async for piece in slices]) for _, slices in opened]
            assert [first + more for first, more in zip(firsts, rest, strict=True)] == [
                await reader.body(row) for row in found[:2]
            ]
        backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()"
        assert await values(database, backends) == [4]  # one of psql, one for pages, two for bodies


async def test_a_connection_that_dies_within_a_body_can_be_tried_again_from_the_start(database: Database) -> None:
    await fill(database, "uncompressed", 100_000)
    async with reading(database) as reader:
        (row,) = await rows(reader)
        body = reader.stream(row, 1)

        async def read() -> None:
            async with body.open() as (_, slices):
                await anext(slices)
                assert await sql(database, f"SELECT pg_terminate_backend(pid, 5000) {READERS}") == "t"
                async for _ in slices:
                    pass

        with pytest.raises(Unreachable) as lost:
            await read()
        assert lost.value.disposition is Disposition.RETRY
        assert await whole(body) == await reader.body(row)


async def test_a_connection_that_dies_behind_the_last_slice_does_not_matter(database: Database) -> None:
    await fill(database, "uncompressed", 100_000)
    async with reading(database) as reader:
        (row,) = await rows(reader)
        async with reader.stream(row, 1).open() as (_, slices):
            pieces = [piece async for piece in slices]
            assert await sql(database, f"SELECT pg_terminate_backend(pid, 5000) {READERS}") == "t"
        assert b"".join(pieces) == await reader.body(row)


async def test_who_takes_slices_slowly_does_not_lose_them(database: Database) -> None:
    await fill(database, "uncompressed", 100_000)
    await sql(database, f"ALTER DATABASE {database.name} SET idle_in_transaction_session_timeout = '100ms'")
    async with reading(database) as reader:
        (row,) = await rows(reader)
        async with reader.stream(row, 1).open() as (_, slices):
            pieces = [await anext(slices)]
            idle = f"SELECT 1 {READERS} AND state_change < clock_timestamp() - interval '200ms'"
            while not await values(database, idle):
                await asyncio.sleep(0.02)
            pieces += [piece async for piece in slices]
        assert b"".join(pieces) == await reader.body(row)


async def test_a_reading_that_is_broken_off_leaves_no_transaction_open(database: Database) -> None:
    await fill(database, "uncompressed", 100_000)
    async with reading(database) as reader:
        (row,) = await rows(reader)
        async with reader.stream(row, 1).open() as (_, slices):
            await anext(slices)
        assert await values(database, f"SELECT count(*) {READERS}") == [0]
        with pytest.raises(ZeroDivisionError):
            async with reader.stream(row, 1).open():
                1 / 0  # noqa: B018
        while await values(database, f"SELECT count(*) {READERS}") != [0]:
            await asyncio.sleep(0.01)


# --- what cannot be read --------------------------------------------------------------------------------------

#: Fails for one row's body, and for no other; more than a page of them.
BROKEN = """
CREATE TABLE t (n int PRIMARY KEY, b bytea);
INSERT INTO t SELECT n, convert_to('body ' || n, 'UTF8') FROM generate_series(1, 60) n;
CREATE FUNCTION made(n int, b bytea) RETURNS bytea STABLE LANGUAGE plpgsql AS
  $$ BEGIN IF n IN (7, 8, 40, 60) THEN RAISE program_limit_exceeded USING MESSAGE = 'too long'; END IF; RETURN b; END $$;
CREATE VIEW v AS SELECT n, made(n, b) AS b FROM t
"""


@pytest.mark.parametrize("page_size", [1, 7, 60, None])
async def test_a_body_that_the_server_cannot_make_costs_its_row_and_no_other(
    database: Database, page_size: int | None
) -> None:
    await sql(database, BROKEN)
    async with source(database, table="v", key=("n",), body="b", page_size=page_size) as reader:
        found = await rows(reader)
        assert [row[0] for row in found] == [str(n) for n in range(1, 61)]
        broken = [row for row in found if is_deferred(row)]
        assert [row[0] for row in broken] == ["7", "8", "40", "60"]
        assert [row[-1] for row in found if not is_deferred(row)] == [
            b"body %d" % n for n in range(1, 61) if n not in (7, 8, 40, 60)
        ]
        for row in broken:
            with pytest.raises(BodyRefused, match="too long"):
                await reader.body(row)
            with pytest.raises(BodyRefused, match="too long"):
                await whole(reader.stream(row, 1))
        again = await reader.chosen([("40",), ("3",), ("60",), ("99",), ("1",)])
        assert [(row[0], row[-3], row[-1]) for row in again] == [
            ("40", 1, None),
            ("3", 2, b"body 3"),
            ("60", 3, None),
            ("1", 5, b"body 1"),
        ]


async def test_a_body_that_takes_too_long_costs_its_row(database: Database) -> None:
    await fill(database, "uncompressed", 100_000)
    await sql(
        database,
        "CREATE FUNCTION slow(b bytea) RETURNS bytea STABLE LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(60); RETURN b; END';"
        "CREATE VIEW v AS SELECT n, slow(b) AS b FROM t;"
        f"ALTER DATABASE {database.name} SET statement_timeout = '200ms'",
    )
    async with source(database, table="v", key=("n",), body="b", page_size=1) as reader:
        (row,) = await rows(reader)
        assert is_deferred(row)
        with pytest.raises(BodyRefused, match="longer over a statement"):
            await reader.body(row)
        with pytest.raises(StatementTimedOut) as timed_out:
            await whole(reader.stream(row, 1))
        assert timed_out.value.exhausted is Disposition.DEAD_LETTER


async def test_an_error_that_is_of_no_body_ends_reading(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t AS SELECT n, ''::bytea AS b FROM generate_series(1, 60) n; ALTER TABLE t ADD PRIMARY KEY (n)",
    )
    async with source(database, table="t", body="b", where="1 / (n - 30) < 99") as reader:
        with pytest.raises(SourceRefused, match="division by zero"):
            await rows(reader)
