"""What every `Source` promises, asked of the one in memory and of PostgreSQL: a table, and a query."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.model import Key, Row, is_deferred
from asyncup.protocols import Source
from asyncup.testing import MemorySource
from tests.conftest import Database
from tests.integration.reading import prepared, source, sql

PAGE_BYTES = 64 << 10
PAGE_ROWS = (1, 2, 3, 7, 100)

Bodies = Sequence[bytes | None]
BODIES: Bodies = [b"one", None, b"", b"\x00\xff", "fünf".encode(), None, *(b"%d" % n for n in range(7, 13))]


class InMemory:
    """Sources over a list."""

    def __init__(self) -> None:
        self._source: MemorySource

    @contextlib.asynccontextmanager
    async def open(self, bodies: Bodies, page_rows: int = 3) -> AsyncIterator[Source]:
        self._source = MemorySource(bodies, page_rows=page_rows, page_bytes=PAGE_BYTES)
        yield self._source
        await self._source.close()

    async def change(self, number: int, body: bytes | None) -> None:
        """Give the row of that number, from 1, another body."""
        self._source._bodies[number - 1] = body


class InPostgres:
    """Sources over a table, which a query may hide."""

    def __init__(self, database: Database, **what: Any) -> None:
        self._database = database
        self._what = what

    @contextlib.asynccontextmanager
    async def open(self, bodies: Bodies, page_rows: int = 3) -> AsyncIterator[Source]:
        values = [f"({n}, {_literal(body)})" for n, body in enumerate(bodies, 1)]
        insert = f"INSERT INTO t VALUES {', '.join(values)}" if values else ""
        await sql(self._database, f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, b bytea); {insert}")
        options = {**self._what, "columns": ("id",), "body": "b", "page_size": page_rows, "memory": 4 * PAGE_BYTES}
        async with source(self._database, **options) as reader:
            yield reader

    async def change(self, number: int, body: bytes | None) -> None:
        await sql(self._database, f"UPDATE t SET b = {_literal(body)} WHERE id = {number}")


def _literal(body: bytes | None) -> str:
    """A body in SQL; short, though it may be long and all alike."""
    if body is None:
        return "NULL"
    if len(body) > 1000:
        return f"convert_to(repeat('{chr(body[0])}', {len(body)}), 'UTF8')"
    return f"'\\x{body.hex()}'::bytea"


Store = InMemory | InPostgres


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "contract_of_sources") as database:
        yield database


@pytest.fixture(params=["memory", "table", "query"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return InMemory()
    what = {"table": "t"} if request.param == "table" else {"query": "SELECT * FROM t", "key": ("id",)}
    return InPostgres(request.getfixturevalue("shared"), **what)


async def rows(reader: Source, after: Key | None = None) -> list[Row]:
    return [row async for page in reader.pages(after) for row in page.rows]


def bodies_of(found: list[Row]) -> list[bytes | None]:
    return [row[-1] for row in found]


@pytest.mark.parametrize("page_rows", PAGE_ROWS)
async def test_every_row_comes_once_and_in_order(store: Store, page_rows: int) -> None:
    async with store.open(BODIES, page_rows) as reader:
        pages = [page async for page in reader.pages(None)]
    found = [row for page in pages for row in page.rows]
    assert bodies_of(found) == BODIES
    assert [int(row[reader.shape.index("id")]) for row in found] == list(range(1, len(BODIES) + 1))
    assert all(0 < len(page) <= page_rows for page in pages)


@pytest.mark.parametrize("page_rows", [1, 3, 100])
async def test_behind_the_key_of_any_row_come_exactly_the_rows_that_follow_it(store: Store, page_rows: int) -> None:
    async with store.open(BODIES, page_rows) as reader:
        found = await rows(reader)
        for number, row in enumerate(found, 1):
            assert bodies_of(await rows(reader, reader.shape.key(row))) == BODIES[number:]


async def test_a_row_is_its_key_its_columns_the_size_of_its_body_and_its_body(store: Store) -> None:
    async with store.open(BODIES) as reader:
        shape, found = reader.shape, await rows(reader)
    for row, body in zip(found, BODIES, strict=True):
        key = shape.key(row)
        assert len(key) == shape.keys
        assert all(type(part) is str for part in (*key, row[shape.index("id")]))
        assert row[-2] == (None if body is None else len(body))
        assert not is_deferred(row)
    assert len({shape.key(row) for row in found}) == len(found)


async def test_no_rows_are_no_pages(store: Store) -> None:
    async with store.open([]) as reader:
        assert [page async for page in reader.pages(None)] == []
    async with store.open([b"only"]) as reader:
        (row,) = await rows(reader)
        assert [page async for page in reader.pages(reader.shape.key(row))] == []


async def test_no_page_holds_more_bytes_than_it_may_and_larger_bodies_are_given_by_themselves(store: Store) -> None:
    large: Bodies = [
        letter * size
        for letter, size in zip(
            (b"a", b"b", b"c", b"d", b"e", b"f"), (1, 70_000, 30_000, 21_000, 21_000, 300_000), strict=True
        )
    ]
    async with store.open(large) as reader:
        assert reader.page_bytes == PAGE_BYTES
        pages = [page async for page in reader.pages(None)]
        found = [row for page in pages for row in page.rows]
        assert all(sum(len(row[-1] or b"") for row in page.rows) <= PAGE_BYTES for page in pages)
        assert [row[-2] for row in found] == [len(body or b"") for body in large]
        assert {is_deferred(row) for row in found} == {True, False}
        assert [await reader.body(row) if is_deferred(row) else row[-1] for row in found] == large


@pytest.mark.parametrize("now", [None, b"", b"z" * 90_000], ids=["NULL", "empty", "another"])
async def test_a_deferred_body_is_given_as_it_is_when_it_is_asked_for(store: Store, now: bytes | None) -> None:
    async with store.open([b"a" * 70_000]) as reader:
        (row,) = await rows(reader)
        assert is_deferred(row)
        await store.change(1, now)
        assert await reader.body(row) == now


async def test_a_page_is_read_only_when_it_is_asked_for(store: Store) -> None:
    async with store.open([b"old"] * 6) as reader:
        pages = reader.pages(None)
        assert bodies_of(list((await anext(pages)).rows)) == [b"old"] * 3
        await store.change(2, b"new")
        await store.change(5, b"new")
        assert bodies_of(list((await anext(pages)).rows)) == [b"old", b"new", b"old"]
        await pages.aclose()


async def test_readings_of_one_source_do_not_disturb_each_other(store: Store) -> None:
    async with store.open(BODIES) as reader:
        left = reader.pages(None)
        first = await anext(left)
        assert bodies_of(await rows(reader)) == BODIES
        rest = [row async for page in left for row in page.rows]
        assert bodies_of([*first.rows, *rest]) == BODIES


@pytest.mark.parametrize("stop", ["aclose", "cancel"])
async def test_a_reading_that_is_broken_off_leaves_the_source_usable(store: Store, stop: str) -> None:
    async with store.open(BODIES) as reader:
        pages = reader.pages(None)
        if stop == "aclose":
            await anext(pages)
            await pages.aclose()
        else:
            reading = asyncio.ensure_future(anext(pages))
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        assert bodies_of(await rows(reader)) == BODIES


async def test_closing_never_raises_and_may_be_repeated(store: Store) -> None:
    async with store.open(BODIES) as reader:
        pages = reader.pages(None)
        await anext(pages)
        await reader.close()
        await reader.close()
        await pages.aclose()
