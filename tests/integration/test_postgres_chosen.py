"""Rows read again by their keys: one for each key, in the order of the keys, and those that have gone as such.

That every type of key, and every pattern of NULLs in it, finds its row again is proven where their pages are
(`check_exactly_once`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import SourceRefused
from asyncup.model import Key, Row, is_deferred
from asyncup.sources.chosen import ChosenRows
from asyncup.sources.postgres import PostgresSource
from tests.conftest import Database
from tests.integration.reading import emptied, parts, prepared, rows, source, sql


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "chosen_rows") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


class Keys:
    """Keys from a list; `asked` is how many were asked for, each time."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = list(keys)
        self.asked: list[int] = []

    async def take(self, most: int) -> list[Key]:
        self.asked.append(most)
        taken, self._keys = self._keys[:most], self._keys[most:]
        return taken


async def chosen(reader: PostgresSource, keys: Sequence[Key]) -> tuple[ChosenRows, list[Row]]:
    found = ChosenRows(reader, Keys(keys).take)
    return found, [row async for page in found.pages(None) for row in page.rows]


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    "what",
    [{"table": "t"}, {"table": "t", "key": ("day",)}, {"query": "SELECT * FROM t -- all", "key": ("id",)}],
    ids=["table", "key with NULLs", "query"],
)
async def test_each_key_is_one_row_as_a_page_has_it_or_one_that_has_gone(
    database: Database, what: dict[str, Any], page_size: int
) -> None:
    await sql(
        database,
        'CREATE TABLE t (id int PRIMARY KEY, gone int, day date, "We ird" text); ALTER TABLE t DROP gone;'
        "INSERT INTO t SELECT n, CASE WHEN n % 2 = 0 THEN DATE '0044-03-15 BC' END, 'ä' || n FROM generate_series(1, 9) n",
    )
    async with source(database, columns=("We ird",), page_size=page_size, **what) as reader:
        before = {reader.shape.key(row): parts(reader, row) for row in await rows(reader)}
        await sql(database, "DELETE FROM t WHERE id IN (2, 7); UPDATE t SET \"We ird\" = 'new' WHERE id = 3")
        keys = [*reversed(before), *list(before)[:2]]  # the last two for the second time
        found, again = await chosen(reader, keys)
        now = {reader.shape.key(row): parts(reader, row) for row in await rows(reader)}
        assert [reader.shape.key(row) for row in again] == keys
        for row in again:
            key = reader.shape.key(row)
            if key in now:
                assert parts(reader, row) == now[key]
            else:
                assert is_deferred(row)
                assert await found.body(row) is None
        assert found.gone == sum(key not in now for key in keys) >= 2


async def test_rows_that_the_condition_does_not_select_any_more_have_gone(database: Database) -> None:
    await sql(database, "CREATE TABLE t (id int PRIMARY KEY, live bool); INSERT INTO t VALUES (1, true), (2, false)")
    async with source(database, table="t", where="live OR false -- no more") as reader:
        _, found = await chosen(reader, [("1",), ("2",)])
        assert [is_deferred(row) for row in found] == [False, True]


async def test_no_name_in_a_condition_is_taken_for_one_of_ours(database: Database) -> None:
    await sql(
        database,
        'CREATE TABLE given (k0 int PRIMARY KEY, place int, body text, p text, "given" int);'
        "INSERT INTO given SELECT n, 100 + n, 'b' || n, 'p', 10 * n FROM generate_series(1, 5) n",
    )
    where = "place > 102 AND given.k0 < 5 AND p = 'p' AND body <> '' AND \"given\".\"given\" > 0"
    async with source(database, table="given", columns=("place",), where=where) as reader:
        expected = [parts(reader, row) for row in await rows(reader)]
        _, found = await chosen(reader, [(str(n),) for n in range(1, 6)])
        assert [parts(reader, row) for row in found if not is_deferred(row)] == expected
        assert [row[1] for row in found] == [None, None, "103", "104", None]


async def test_large_bodies_are_deferred_and_read_by_themselves(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t SELECT n, repeat('x', n * 30000) "
        "FROM generate_series(1, 4) n",
    )
    async with source(database, table="t", body="b", memory=256 << 10, page_size=2) as reader:
        reading, found = await chosen(reader, [(str(n),) for n in (4, 1, 3, 2)])
        assert [is_deferred(row) for row in found] == [True, False, True, True]
        assert [row[-2] for row in found] == [120_000, 30_000, 90_000, 60_000]
        assert await reading.body(found[2]) == b"x" * 90_000
        await sql(database, "DELETE FROM t WHERE id = 4")
        assert await reading.body(found[0]) is None
        assert reading.gone == 1


async def test_a_key_that_has_come_to_be_that_of_two_rows_is_refused(database: Database) -> None:
    await sql(database, "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)")
    async with source(database, query="SELECT id FROM t", key=("id",)) as reader:
        _, found = await chosen(reader, [("2",), ("1",), ("2",)])
        assert [row[0] for row in found] == ["2", "1", "2"]
        await sql(database, "INSERT INTO t VALUES (2)")
        with pytest.raises(SourceRefused, match=r"several rows have the key \(2\)"):
            await chosen(reader, [("1",), ("2",)])


async def test_rows_are_found_through_the_index_of_their_key(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t (a int, b int, c text, PRIMARY KEY (a, b)); INSERT INTO t SELECT n / 100, n % 100, 'x' "
        "FROM generate_series(1, 50000) n; ANALYZE t",
    )
    async with source(database, table="t", key=("c",), where="b >= 0") as reader:
        statement = reader._keyset.chosen([("x", str(n), "7") for n in range(100)], 1000)

        async def explain(connection: Any) -> str:
            return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {statement.sql}", *statement.arguments))

        plan = await reader._sessions[0].run(explain, "explain", "t")
        assert "Index Scan" in plan, plan
        assert "Seq Scan" not in plan, plan


async def test_no_more_keys_are_taken_at_once_than_make_a_page(database: Database) -> None:
    await sql(database, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 20)")
    async with source(database, table="t", page_size=8) as reader:
        keys = Keys([(str(n),) for n in range(1, 21)])
        pages = [len(page) async for page in ChosenRows(reader, keys.take).pages(None)]
        assert (pages, keys.asked) == ([8, 8, 4], [8, 8, 8, 8])
