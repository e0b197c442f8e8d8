"""A PostgresSource on a test's own database, and everything that it reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import AsyncupError
from asyncup.flow.retry import Retrier, RetryPolicy
from asyncup.model import Key, Page, Row
from asyncup.sources.connection.session import Session
from asyncup.sources.postgres import PostgresSource, Request
from tests.conftest import Database

PAGE_SIZES = (1, 2, 3, 7, 100)

_REQUEST = Request(
    table=None,
    query=None,
    query_name="query-0",
    key=None,
    columns=(),
    body=None,
    where=None,
    limit=None,
    page_size=None,
    memory=256 << 20,
    allow_sort=True,
)


@contextlib.contextmanager
def prepared(postgres: EmbeddedPostgres, name: str, text: str = "SELECT 1") -> Iterator[Database]:
    """A database for all tests of a module: they only read, or each begins with an empty one (`emptied`)."""
    database = Database(postgres, name)
    postgres.psql(f"CREATE DATABASE {name}")
    database.sql(text)
    yield database
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


def emptied(database: Database) -> Database:
    """The database with nothing in it, and open to all."""
    name = database.name
    database.sql(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public;"
        f"GRANT ALL ON DATABASE {name} TO public; ALTER DATABASE {name} RESET ALL"
    )
    return database


class QuickRetrier(Retrier):
    """Tries again at once, a second long; `retries` keeps the errors that were tried again."""

    def __init__(self) -> None:
        async def sleep(_: float) -> bool:
            await asyncio.sleep(0)
            return True

        self.retries: list[AsyncupError] = []
        policy = RetryPolicy(max_attempts=3, elapsed=1.0, first_elapsed=0.3, base=0.0, throttled_base=0.0)
        super().__init__(policy, sleep, lambda error, *_: self.retries.append(error))


def request(**options: Any) -> Request:
    """A request for a table (or a query), its primary key and no column; page by page, whatever a page costs."""
    return replace(_REQUEST, **options)


@contextlib.asynccontextmanager
async def session(database: Database, dsn: str | None = None, retrier: Retrier | None = None) -> AsyncIterator[Session]:
    """A session on the database, closed at the end."""
    opened = Session(dsn or database.dsn, retrier or QuickRetrier())
    try:
        yield opened
    finally:
        await opened.close()


@contextlib.asynccontextmanager
async def source(
    database: Database, *, dsn: str | None = None, retrier: Retrier | None = None, **options: Any
) -> AsyncIterator[PostgresSource]:
    """A source on the database, closed at the end."""
    async with session(database, dsn, retrier) as opened:
        reader = await PostgresSource.resolve(opened, request(**options))
        try:
            yield reader
        finally:
            await reader.close()


async def pages(reader: PostgresSource, after: Key | None = None) -> list[Page]:
    """All pages behind a key."""
    return [page async for page in reader.pages(after)]


async def rows(reader: PostgresSource, after: Key | None = None) -> list[Row]:
    """All rows behind a key, in the order in which they were read."""
    return [row for page in await pages(reader, after) for row in page.rows]


async def read(database: Database, **options: Any) -> list[Row]:
    """All rows of a request."""
    async with source(database, **options) as reader:
        return await rows(reader)


async def sql(database: Database, text: str) -> str:
    """Run SQL through psql, past the driver that is under test."""
    return await asyncio.to_thread(database.sql, text)


async def values(database: Database, query: str) -> list[Any]:
    """The first column of a query, through psql."""
    found: list[Any] = json.loads(await sql(database, f"SELECT coalesce(json_agg(q.*), '[]') FROM ({query}) q"))
    return [next(iter(row.values())) for row in found]


async def check_exactly_once(
    database: Database,
    expected: list[str | None],
    *,
    column: str = "n",
    resumed: tuple[int, ...] = (100,),
    **options: Any,
) -> PostgresSource:
    """With every page size, and behind every row's key: exactly the rows that follow, in order, each once.

    And by their keys, from the last to the first, the same rows again, bodies included.

    `expected` are the texts of `column`, one a row; `resumed` are the page sizes of the readings that start in the
    middle. Gives a source, for what else there is to check.
    """
    asyncio.get_running_loop().set_debug(False)  # a stack for each of hundreds of statements; other tests keep it on
    async with session(database) as opened:
        reader = await PostgresSource.resolve(opened, request(columns=(column,), **options))
        place = reader.shape.index(column)
        for size in PAGE_SIZES:
            reader._page_size = size
            found = await rows(reader)
            assert [row[place] for row in found] == expected, f"page size {size}"
            for position, row in enumerate(found if size in resumed else (), 1):
                key = reader.shape.key(row)
                behind = [later[place] for later in await rows(reader, key)]
                assert behind == expected[position:], f"page size {size}, after {key}"
        backwards = list(reversed(found))
        again = await reader.chosen([reader.shape.key(row) for row in backwards]) if found else []
        assert [parts(reader, row) for row in again] == [parts(reader, row) for row in backwards], "by their keys"
        assert [row[-3] for row in again] == list(range(1, len(found) + 1))
        return reader


def parts(reader: PostgresSource, row: Row) -> tuple[Any, ...]:
    """A row without what its statement says of it: key, columns, size and body."""
    return (*row[: reader.shape.keys + len(reader.shape.columns)], *row[-2:])
