"""What no index gives page by page comes through one cursor: every row once, in order, asked for once, in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import ReadingBroken, SourceRefused
from asyncup.model import Row, is_deferred
from asyncup.sources.atonce import RowsAtOnce
from tests.conftest import Database
from tests.integration.reading import emptied, prepared, source, sql

#: A query that has to be read at once; `{}` stands for what it selects from `t`.
VOLATILE = "SELECT {}, random() AS asyncup_twice FROM t"


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "at_once") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


@asynccontextmanager
async def at_once(database: Database, query: str, **options: Any) -> AsyncIterator[RowsAtOnce]:
    """The rows of a query that is to be read at once."""
    async with source(database, query=query, allow_sort=False, **options) as reader:
        assert reader.access.at_once, reader.access
        yield reader.at_once()


async def everything(reader: RowsAtOnce) -> list[Row]:
    """All rows, with the bodies of those that come without."""
    found: list[Row] = []
    async for page in reader.pages(None):
        assert sum(len(row[-1] or b"") for row in page.rows) <= reader.page_bytes
        assert not any(is_deferred(row) for row in page.rows[:-1])
        for row in page.rows:
            found.append((*row[:-1], await reader.body(row)) if is_deferred(row) else row)
    return found


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1000])
async def test_every_row_comes_once_in_the_order_of_the_key(database: Database, rows: int) -> None:
    await sql(
        database,
        f"CREATE TABLE t AS SELECT n, n % 7 a, chr(n % 26 + 65) b, 'x' || n doc FROM generate_series(1, {rows}) n",
    )
    query = "SELECT n, a, b, doc FROM t ORDER BY doc"
    expected = (await sql(database, "SELECT n FROM t ORDER BY b, a, n")).splitlines()
    async with at_once(database, query, key=("b", "a", "n"), columns=("n",), body="doc") as reader:
        found = await everything(reader)
    assert [row[3] for row in found] == expected
    assert [row[-1] for row in found] == [f"x{n}".encode() for n in expected]


@pytest.mark.parametrize("body", ["b", "t", None], ids=["bytea", "text", "row"])
@pytest.mark.parametrize("storage", ["EXTENDED", "EXTERNAL"])
async def test_bodies_of_any_size_come_whole(database: Database, storage: str, body: str | None) -> None:
    sizes = [0, 1, 16_383, 16_384, 16_385, 40_000, 5, 65_536, 300_000, 7, 1_000_003, 3]
    await sql(
        database,
        f"CREATE TABLE t (n int, b bytea, t text); ALTER TABLE t ALTER b SET STORAGE {storage}; INSERT INTO t SELECT n, "
        "convert_to(repeat('0123456789', s / 10 + 1), 'UTF8'), repeat('0123456789', s / 10 + 1)"
        f"FROM unnest('{{{','.join(map(str, sizes))}}}'::int[]) WITH ORDINALITY u(s, n);"
        "UPDATE t SET b = NULL, t = NULL WHERE n = 5",
    )
    wanted = [None if n == 4 else b"0123456789" * (size // 10 + 1) for n, size in enumerate(sizes)]
    async with at_once(database, "SELECT * FROM t", key=("n",), body=body, memory=1) as reader:
        assert reader.page_bytes == 64 << 10
        found = await everything(reader)
    if body is None:
        assert [len(row[-1]) for row in found] == [row[-2] for row in found]
        assert all((value or b"null") in row[-1] for value, row in zip(wanted, found, strict=True))
    else:
        assert [row[-1] for row in found] == wanted


async def test_a_body_that_nobody_asks_for_is_passed_over(database: Database) -> None:
    await sql(database, "CREATE TABLE t AS SELECT n, repeat('x', 100000) b FROM generate_series(1, 5) n")
    async with at_once(database, "SELECT * FROM t", key=("n",), body="b", memory=1) as reader:
        found = [row async for page in reader.pages(None) for row in page.rows]
    assert [row[0] for row in found] == ["1", "2", "3", "4", "5"]
    assert all(is_deferred(row) for row in found)


async def test_what_a_volatile_function_says_is_asked_for_once(database: Database) -> None:
    await sql(
        database,
        """
        CREATE TABLE t AS SELECT n FROM generate_series(1, 300) n;
        CREATE FUNCTION said(n int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$ BEGIN
          PERFORM set_config('test.calls', (coalesce(nullif(current_setting('test.calls', true), ''), '0')::int + 1)::text, true);
          RETURN repeat(current_setting('test.calls') || ',', CASE WHEN n % 100 = 0 THEN 20000 ELSE 1 END); END $$
        """,
    )
    async with at_once(database, "SELECT n, said(n) AS b FROM t", key=("n",), body="b", memory=1) as reader:
        found = await everything(reader)
    said = [row[-1].decode().split(",")[0] for row in found]
    assert len(said) == 300
    assert len(set(said)) == 300
    assert max(map(int, said)) == 300


@pytest.mark.parametrize("limit", [0, 1, 7, 256, 1000])
async def test_a_limit_bounds_the_rows(database: Database, limit: int) -> None:
    await sql(database, "CREATE TABLE t AS SELECT n FROM generate_series(1, 300) n")
    async with at_once(database, "SELECT * FROM t", key=("n",), limit=limit) as reader:
        assert [row[0] for row in await everything(reader)] == [str(n) for n in range(1, min(limit, 300) + 1)]


@pytest.mark.parametrize("place", [1, 2, 128, 256, 257, 299])
async def test_a_key_that_is_not_unique_is_refused(database: Database, place: int) -> None:
    await sql(database, f"CREATE TABLE t AS SELECT n FROM generate_series(1, 300) n UNION ALL SELECT {place}")
    async with at_once(database, "SELECT * FROM t", key=("n",)) as reader:
        with pytest.raises(SourceRefused, match=rf"several rows have the key \({place}\)"):
            await everything(reader)


async def test_null_in_the_key_is_refused_before_any_row_is_given(database: Database) -> None:
    await sql(database, "CREATE TABLE t AS SELECT n, nullif(n, 299) a FROM generate_series(1, 300) n")
    async with at_once(database, "SELECT * FROM t", key=("n", "a")) as reader:
        with pytest.raises(SourceRefused, match=r"NULL in the key \(n, a\)"):
            await anext(reader.pages(None))


async def test_all_rows_are_of_one_instant(database: Database) -> None:
    await sql(database, "CREATE TABLE t AS SELECT n, 'old' b FROM generate_series(1, 600) n")
    async with at_once(database, "SELECT * FROM t", key=("n",), body="b") as reader:
        pages = reader.pages(None)
        found = list((await anext(pages)).rows)
        await sql(database, "UPDATE t SET b = 'new'; INSERT INTO t VALUES (601, 'new'); DELETE FROM t WHERE n > 590")
        found += [row async for page in pages for row in page.rows]
    assert [row[-1] for row in found] == [b"old"] * 600


async def test_a_lost_connection_ends_the_reading_and_says_what_to_do(database: Database) -> None:
    await sql(database, "CREATE TABLE t AS SELECT n FROM generate_series(1, 600) n")
    async with at_once(database, "SELECT * FROM t", key=("n",)) as reader:
        pages = reader.pages(None)
        await anext(pages)
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        assert await sql(database, ended) == "t"
        with pytest.raises(ReadingBroken, match="cannot go on") as broken:
            await anext(pages)
        assert "--allow-sort" in (broken.value.hint or "")


async def test_a_transaction_may_be_idle_for_as_long_as_sending_takes(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t AS SELECT n FROM generate_series(1, 600) n;"
        f"ALTER DATABASE {database.name} SET idle_in_transaction_session_timeout = '50ms'",
    )
    async with at_once(database, "SELECT * FROM t", key=("n",)) as reader:
        pages = reader.pages(None)
        found = len(await anext(pages))
        await asyncio.sleep(0.2)
        assert found + len([row async for page in pages for row in page.rows]) == 600


async def test_a_reading_that_is_broken_off_leaves_no_transaction_behind(database: Database) -> None:
    await sql(database, "CREATE TABLE t AS SELECT n FROM generate_series(1, 600) n")
    async with at_once(database, "SELECT * FROM t", key=("n",)) as reader:
        pages = reader.pages(None)
        await anext(pages)
        await pages.aclose()
        assert len(await everything(reader)) == 600


async def test_columns_and_queries_may_be_called_like_ours(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t AS SELECT n, n AS p, n AS g, n AS q, n AS whole, n AS twice, n AS k0, n AS piece, n AS asyncup_twice "
        "FROM generate_series(1, 3) n",
    )
    options = {"key": ("g", "asyncup_twice"), "columns": ("p", "k0", "twice"), "where": "q.whole > 1"}
    async with at_once(database, "SELECT * FROM t", **options) as reader:
        found = await everything(reader)
    assert [row[:5] for row in found] == [("2",) * 5, ("3",) * 5]
    assert found[0][-1] == (b'{"n":2,"p":2,"g":2,"q":2,"whole":2,"twice":2,"k0":2,"piece":2,"asyncup_twice":2}')


async def test_the_rows_of_a_view_come_at_once_too(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t AS SELECT n, n % 3 a FROM generate_series(1, 9) n; CREATE VIEW whole AS SELECT a, count(*) FROM t GROUP BY a",
    )
    async with source(database, table="whole", key=("a",), columns=("count",), allow_sort=False) as reader:
        assert reader.access.at_once
        found = await everything(reader.at_once())
    assert [row[:2] for row in found] == [("0", "3"), ("1", "3"), ("2", "3")]
    assert found[0][-1] == b'{"a":0,"count":3}'
