"""Bodies: no page holds more of them than it may, and what is too large for a page comes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.model import is_deferred
from asyncup.sources.postgres import MAX_PAGE_ROWS
from tests.conftest import Database
from tests.integration.reading import (
    PAGE_SIZES,
    emptied,
    pages,
    prepared,
    rows,
    source,
    sql,
)

#: The least that a page may hold; `memory=1` asks for it.
PAGE = 64 << 10

#: A table of numbered rows whose bodies repeat one letter, `length` times.
FILL = """
CREATE TABLE t (n int PRIMARY KEY, b {kind});
INSERT INTO t SELECT n, {body} FROM unnest(ARRAY{lengths}) WITH ORDINALITY AS l(length, n)
"""


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "bodies") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


async def fill(database: Database, lengths: list[int], kind: str = "bytea") -> None:
    body = "repeat(chr(96 + n::int % 1000), length)"
    await sql(database, FILL.format(kind=kind, lengths=lengths, body=f"{body}::{kind}"))


@pytest.mark.parametrize("what", [{"table": "t"}, {"query": "TABLE t", "key": ("n",)}], ids=["table", "query"])
async def test_no_page_holds_more_bytes_than_it_may_and_every_body_comes(
    database: Database, what: dict[str, Any]
) -> None:
    lengths = [0, 1, 655, 656, 9362, 9363, 21845, 21846, PAGE // 2, PAGE // 2 + 1, PAGE, PAGE + 1, 300_000, 2, 3] + [
        8192
    ] * 9
    await fill(database, lengths)
    for size in (*PAGE_SIZES, None):
        bodies: list[bytes | None] = []
        async with source(database, body="b", page_size=size, memory=1, **what) as reader:
            assert reader.page_bytes == PAGE
            for page in await pages(reader):
                assert sum(len(row[-1] or b"") for row in page.rows) <= PAGE, size
                bodies += [await reader.body(row) if is_deferred(row) else row[-1] for row in page.rows]
        assert bodies == [bytes([96 + n]) * length for n, length in enumerate(lengths, 1)], size


async def test_only_a_body_over_its_share_of_the_page_is_deferred(database: Database) -> None:
    share = PAGE // 4
    await fill(database, [share, share + 1, share, share, share, share, share, share])
    async with source(database, table="t", body="b", page_size=4, memory=1) as reader:
        first, second = await pages(reader)
    assert [is_deferred(row) for row in first.rows] == [False, True, False, False]
    assert [row[-2] for row in first.rows] == [share, share + 1, share, share]
    assert sum(len(row[-1]) for row in second.rows) == PAGE


async def test_an_empty_body_is_not_null_and_neither_is_deferred(database: Database) -> None:
    await sql(database, "CREATE TABLE t (n int PRIMARY KEY, b text); INSERT INTO t VALUES (1, NULL), (2, '')")
    async with source(database, table="t", body="b", page_size=100_000, memory=1) as reader:
        found = await rows(reader)
    assert [row[1:] for row in found] == [(None, None), (0, b"")]
    assert not any(map(is_deferred, found))


KINDS = {
    "bytea": (r"'\x00ff'::bytea || convert_to(repeat('é', 50000), 'UTF8')", b"\x00\xff" + "é".encode() * 50000),
    "text": ("repeat('é', 50000)", "é".encode() * 50000),
    "varchar": ("repeat('日', 50000)", "日".encode() * 50000),
    "jsonb": ("jsonb_build_array(repeat('é', 50000), 1)", b'["' + "é".encode() * 50000 + b'", 1]'),
    "blob": (r"'\x00'::bytea || convert_to(repeat('x', 99999), 'UTF8')", b"\0" + b"x" * 99999),
    "text[]": ("ARRAY[repeat('x', 99999), NULL, '']", b"{" + b"x" * 99999 + b',NULL,""}'),
}


@pytest.mark.parametrize("page_size", [1, 1000], ids=["with its page", "deferred"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_body_of_any_type_is_its_text_or_its_bytes(database: Database, kind: str, page_size: int) -> None:
    value, expected = KINDS[kind]
    await sql(
        database,
        f"CREATE DOMAIN blob AS bytea; CREATE TABLE t (n int PRIMARY KEY, b {kind}); INSERT INTO t SELECT 1, {value}",
    )
    async with source(database, table="t", body="b", page_size=page_size) as reader:
        (row,) = await rows(reader)
        assert is_deferred(row) == (page_size == 1000)
        assert row[-2] == len(expected)
        assert (await reader.body(row) if is_deferred(row) else row[-1]) == expected


async def test_a_row_as_json_is_deferred_like_any_body(database: Database) -> None:
    await sql(
        database, "CREATE TABLE t (n int PRIMARY KEY, b text); INSERT INTO t VALUES (1, repeat('é', 50000)), (2, NULL)"
    )
    async with source(database, table="t", memory=1) as reader:
        large, small = await rows(reader)
        assert is_deferred(large)
        assert await reader.body(large) == b'{"n":1,"b":"' + "é".encode() * 50000 + b'"}'
        assert small[-1] == b'{"n":2,"b":null}'


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DELETE FROM t WHERE n = 2", None),
        ("UPDATE t SET b = NULL WHERE n = 2", None),
        ("UPDATE t SET n = 9 WHERE n = 2", None),
        ("UPDATE t SET live = false WHERE n = 2", None),
        ("UPDATE t SET b = 'new' WHERE n = 2", b"new"),
    ],
)
@pytest.mark.parametrize("what", [{"table": "t"}, {"query": "TABLE t", "key": ("n",)}], ids=["table", "query"])
async def test_a_deferred_body_is_read_as_it_is_now(
    database: Database, what: dict[str, Any], change: str, expected: bytes | None
) -> None:
    await fill(database, [1, 100_000, 1], "text")
    await sql(database, "ALTER TABLE t ADD live bool DEFAULT true")
    async with source(database, body="b", where="live", memory=1, **what) as reader:
        found = await rows(reader)
        assert [is_deferred(row) for row in found] == [False, True, False]
        await sql(database, change)
        assert await reader.body(found[1]) == expected


async def test_a_deferred_body_is_found_by_any_key(database: Database) -> None:
    await sql(
        database,
        """
        CREATE TABLE t (a numeric, d timestamptz, n serial PRIMARY KEY, b text);
        INSERT INTO t (a, d) SELECT a, d FROM unnest('{NaN,1.00,1,NULL}'::numeric[]) a,
          unnest('{infinity,0044-03-15 12:00:00.000001 BC,20000-01-01,NULL}'::timestamptz[]) d;
        UPDATE t SET b = rpad(n::text, 70000)
        """,
    )
    async with source(database, table="t", key=("a", "d"), columns=("n",), body="b", memory=1) as reader:
        found = await rows(reader)
        bodies = [await reader.body(row) for row in found]
        assert [body[:2].strip() for body in bodies] == [row[3].encode() for row in found]
    assert len(found) == 16


async def test_pages_of_small_rows_are_large_but_bounded(database: Database) -> None:
    await sql(database, "CREATE TABLE t AS SELECT generate_series(1, 12000) n; ALTER TABLE t ADD PRIMARY KEY (n)")
    async with source(database, table="t") as reader:
        found = await pages(reader)
    assert [int(row[0]) for page in found for row in page.rows] == list(range(1, 12001))
    assert max(len(page) for page in found[:-1]) == len(found[-2]) == MAX_PAGE_ROWS


async def test_pages_shrink_where_rows_grow_so_that_bodies_come_with_them_again(database: Database) -> None:
    await fill(database, [1] * 1000 + [3000] * 1500, "text")
    async with source(database, table="t", body="b", memory=2 << 20) as reader:
        found = await pages(reader)
    assert [int(row[0]) for page in found for row in page.rows] == list(range(1, 2501))
    assert max(len(page) for page in found) > reader.page_bytes // 3000
    assert not any(is_deferred(row) for page in found[-3:] for row in page.rows)


async def test_pages_shrink_where_the_texts_of_columns_are_long(database: Database) -> None:
    await fill(database, [20_000] * 1000, "text")
    await sql(database, "ALTER TABLE t ADD small text DEFAULT 's'")
    async with source(database, table="t", body="small", columns=("b",), memory=2 << 20) as reader:
        sizes = [len(page) for page in await pages(reader)]
    assert sum(sizes) == 1000
    assert max(sizes[1:]) <= reader.page_bytes // 20_000
