"""Queries and views, whose keys no index vouches for: what is unique is read exactly once, what is not is refused.

And the ends of SQL that users write: semicolons, comments, brackets and parameters.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import SourceRefused
from tests.conftest import Database
from tests.integration.reading import (
    PAGE_SIZES,
    check_exactly_once,
    emptied,
    pages,
    prepared,
    read,
    rows,
    source,
    sql,
)


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "queries") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


QUERIES = {
    "a select": "SELECT n, a, b FROM t",
    "a join": "SELECT t.n, t.a, o.b FROM t JOIN t o USING (n)",
    "a union": "SELECT n, a, b FROM t WHERE n < 5 UNION ALL SELECT n, a, b FROM t WHERE n >= 5",
    "a window": "SELECT *, row_number() OVER (ORDER BY n DESC) FROM t",
    "a common table": "WITH w AS MATERIALIZED (SELECT * FROM t) SELECT * FROM w",
    "an order and a limit of its own": "SELECT * FROM t ORDER BY n DESC LIMIT 100",
    "values": "VALUES " + ", ".join(f"({n % 4}, '{n // 4}', {n})" for n in range(11, -1, -1)),
    "a function": "SELECT i AS n, i % 4 AS a, (i / 4)::text AS b FROM generate_series(0, 11) i",
}


@pytest.fixture(scope="module")
def twelve(postgres: EmbeddedPostgres) -> Iterator[Database]:
    text = """
    CREATE TABLE t (n int PRIMARY KEY, a int, b text);
    INSERT INTO t SELECT n, n % 4, n / 4 FROM generate_series(0, 11) n;
    CREATE TABLE nulls (n int PRIMARY KEY, a int);
    INSERT INTO nulls SELECT n, nullif(n % 4, 0) FROM generate_series(1, 9) n;
    CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT * FROM t; CREATE VIEW holes AS TABLE nulls
    """
    with prepared(postgres, "twelve", text) as database:
        yield database


@pytest.mark.parametrize("query", QUERIES)
async def test_every_row_of_a_query_is_read_exactly_once(twelve: Database, query: str) -> None:
    a, b, n = ("column1", "column2", "column3") if query == "values" else ("a", "b", "n")
    by_number = [str(number) for number in range(12)]
    by_pair = [str(4 * group + rest) for rest in range(4) for group in range(3)]
    await check_exactly_once(twelve, by_number, column=n, query=QUERIES[query], key=(n,))
    await check_exactly_once(twelve, by_pair, column=n, query=QUERIES[query], key=(a, b))


@pytest.mark.parametrize("view", ["v", "m"], ids=["plain", "materialized"])
async def test_every_row_of_a_view_is_read_exactly_once_by_the_key_given(twelve: Database, view: str) -> None:
    await check_exactly_once(twelve, [str(n) for n in range(12)], table=view, key=("n",), resumed=PAGE_SIZES)


TAILS = {
    "nothing": "",
    "a semicolon": ";",
    "semicolons": " ;\n; ",
    "a comment": " -- no ; here",
    "a semicolon and a comment": "; -- done;",
    "a comment and a semicolon": " /* all */ ;",
    "a nested comment": " /* a /* b */ ; */ ; -- c",
    "a comment with a bracket": " -- :)",
}


@pytest.mark.parametrize("tail", TAILS)
async def test_sql_may_end_in(twelve: Database, tail: str) -> None:
    options = {"columns": ("n",), "key": ("n",), "where": f"n % 2 = 0 {TAILS[tail]}"}
    found = await read(twelve, query=f"SELECT * FROM t WHERE n > 2{TAILS[tail]}", **options)
    assert [row[0] for row in found] == ["4", "6", "8", "10"]


TEXTS = {
    "a string": "';--)'",
    "a string with a backslash": "'\\;)'",
    "an escape string": r"E'\';)'",
    "a dollar string": "$$;)$1$$",
    "a tagged dollar string": "$a$ $$ ; ) -- $a$",
    "a quoted name": '(SELECT max("; -- )") FROM (VALUES (\'x\')) v("; -- )"))',
    "a name with a dollar": "(SELECT max(a$1) FROM (VALUES ('x')) v(a$1))",
}


@pytest.mark.parametrize("text", TEXTS)
async def test_sql_keeps_semicolons_and_brackets_within(twelve: Database, text: str) -> None:
    (row,) = await read(twelve, query=f"SELECT {TEXTS[text]}::text AS t, 1 AS n;", key=("n",), columns=("t",))
    assert row[1] == await sql(twelve, f"SELECT {TEXTS[text]}::text")


OUTSIDE = {
    "a closing bracket": ("n = 1) OR (n = 2", "bracket"),
    "a parameter": ("n >= $1", r"\$1"),
    "a second statement": ("true; DROP TABLE t", r"syntax error|multiple commands"),
    "a string without an end": ("b = 'x", "unterminated quoted string"),
    "a comment without an end": ("true /* ", r"unterminated /\* comment"),
    "nothing": ("", "syntax error"),
}


@pytest.mark.parametrize("what", OUTSIDE)
async def test_sql_that_would_leave_its_place_is_refused(twelve: Database, what: str) -> None:
    text, reason = OUTSIDE[what]
    with pytest.raises(SourceRefused, match=reason):
        await read(twelve, table="t", where=text)
    if text:
        with pytest.raises(SourceRefused, match=reason):
            await read(twelve, query=f"SELECT * FROM t WHERE {text}", key=("n",))
    assert await sql(twelve, "SELECT count(*) FROM t") == "12"


@pytest.mark.parametrize("texts", [("2", "2"), ("2.0", "2.00")], ids=["the same text", "other texts"])
@pytest.mark.parametrize("size", [*PAGE_SIZES, None])
async def test_a_key_that_is_not_unique_is_refused_wherever_a_page_ends(
    twelve: Database, size: int | None, texts: tuple[str, str]
) -> None:
    for place in (0, 1, 2, 5):
        before, behind = [str(1 + n / 10) for n in range(place)], [str(3 + n) for n in range(5 - place)]
        values = ", ".join(f"({value}::numeric)" for value in (*before, *texts, *behind))
        with pytest.raises(SourceRefused, match=r"several rows have the key \(2") as refused:
            await read(twelve, query=f"SELECT k FROM (VALUES {values}) v(k)", key=("k",), page_size=size)
        assert "--key" in (refused.value.hint or "")


async def test_a_second_row_with_the_last_key_is_refused_after_a_resume(twelve: Database) -> None:
    query = "SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (2, 'b'), (3, 'c')) v(k, t)"
    for size in PAGE_SIZES:
        async with source(twelve, query=query, key=("k", "t"), page_size=size) as reader:
            with pytest.raises(SourceRefused, match=r"several rows have the key \(2, b\)"):
                await rows(reader, ("2", "b"))


@pytest.mark.parametrize("what", [{"query": "TABLE nulls"}, {"table": "holes"}], ids=["query", "view"])
async def test_null_in_the_key_of_a_query_is_refused_before_reading(twelve: Database, what: dict[str, str]) -> None:
    with pytest.raises(SourceRefused, match=r"NULL in the key \(a, n\)") as refused:
        async with source(twelve, key=("a", "n"), **what):
            pass
    assert "--where" in (refused.value.hint or "")
    assert len(await read(twelve, key=("a", "n"), where="a IS NOT NULL", **what)) == 7


async def test_null_that_comes_into_the_key_of_a_query_while_it_is_read_is_refused(database: Database) -> None:
    await sql(database, "CREATE TABLE t AS SELECT n a, n b FROM generate_series(1, 9) n")
    async with source(database, query="TABLE t", key=("a", "b"), page_size=3) as reader:
        reading = reader.pages(None)
        await anext(reading)
        await sql(database, "INSERT INTO t VALUES (5, NULL)")
        with pytest.raises(SourceRefused, match=r"NULL in the key \(a, b\)"):
            await anext(reading)


@pytest.mark.parametrize("what", [{"table": "t"}, {"query": "SELECT * FROM t", "key": ("n",)}], ids=["table", "query"])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM t WHERE n = 3",
        "DELETE FROM t WHERE n <= 3",
        "UPDATE t SET n = 0 WHERE n = 3",
        "UPDATE t SET n = 100 WHERE n = 3",
        "INSERT INTO t VALUES (2.5)",
    ],
)
async def test_a_change_at_the_cursor_loses_and_repeats_no_other_row(
    database: Database, change: str, what: dict[str, object]
) -> None:
    await sql(database, "CREATE TABLE t (n numeric PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9)")
    found = []
    async with source(database, columns=("n",), page_size=3, **what) as reader:
        async for page in reader.pages(None):
            found += [row[0] for row in page.rows]
            if len(found) == 3:
                await sql(database, change)
    assert [n for n in found if n != "100"] == [str(n) for n in range(1, 10)]


@pytest.mark.parametrize("used", ["key", "columns", "body", None])
async def test_a_column_name_that_a_query_has_twice_cannot_be_used(twelve: Database, used: str | None) -> None:
    query = "SELECT 1 AS n, 2 AS twice, 3 AS twice"
    uses = {"key": ("n",), "columns": ("n",), "body": "n"}
    async with source(twelve, query=query, **uses) as reader:
        assert [row[:2] for row in await rows(reader)] == [("1", "1")]
    uses |= {"body": None} if used is None else {used: "twice" if used == "body" else ("twice",)}
    with pytest.raises(SourceRefused, match="twice") as refused:
        await read(twelve, query=query, **uses)
    assert "AS" in (refused.value.hint or "")


@pytest.mark.parametrize(
    "what",
    [
        {"table": "nulls"},
        {"table": "nulls", "key": ("a",)},
        {"query": "TABLE nulls", "key": ("n",)},
        {"query": "TABLE nulls", "key": ("n",), "where": "n <> 3"},
    ],
    ids=["table", "NULLs", "query", "filter"],
)
async def test_a_limit_bounds_the_rows_whatever_the_page_size(twelve: Database, what: dict[str, object]) -> None:
    everything = [row[:2] for row in await read(twelve, columns=("n",), **what)]
    assert len(everything) >= 8
    asyncio.get_running_loop().set_debug(False)  # hundreds of statements
    async with source(twelve, columns=("n",), **what) as reader:
        for reader._page_size, reader._limit in itertools.product((*PAGE_SIZES, None), (0, 1, 7, 1000)):
            found, size, limit = await pages(reader), reader._page_size, reader._limit
            assert [row[:2] for page in found for row in page.rows] == everything[:limit], (size, limit)
            assert all(0 < len(page) <= (size or 9) for page in found)
