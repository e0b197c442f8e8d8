"""The rows of a table or a query in PostgreSQL, page by page in key order."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asyncup.errors import ReadingBroken, SourceRefused
from asyncup.model import ROW_OVERHEAD, Key, Page, Row, RowShape
from asyncup.names import nearest
from asyncup.sources.catalog import resolve_query, resolve_table, stale_collations
from asyncup.sources.keyset import AGAIN, TWICE, KeyChoice, Keyset, Relation, Statement, choose_key
from asyncup.sources.session import Session
from asyncup.sources.usersql import embeddable

MAX_PAGE_ROWS = 5000
_FIRST_PAGE_ROWS = 250
_PAGE_BYTES = 16 << 20
_LARGE_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What to read: a table or a query, and which of its columns are needed for what.

    `asked_by` says which flag a column of `columns` is from.
    """

    table: str | None
    query: str | None
    query_name: str
    key: tuple[str, ...] | None
    columns: tuple[str, ...]
    body: str | None
    where: str | None
    limit: int | None
    page_size: int | None
    memory: int
    asked_by: Mapping[str, str] = field(default_factory=dict)


class PostgresSource:
    """The rows of one table or query, in key order.

    Each row is the driver's own record, laid out as `shape` says.
    """

    def __init__(
        self, session: Session, keyset: Keyset, request: Request, estimate: int | None, notices: list[str]
    ) -> None:
        self._session = session
        self._keyset = keyset
        self._limit = request.limit
        self._page_size = request.page_size
        self._average = 0.0
        self.relation: Relation = keyset.relation
        self.key: KeyChoice = keyset.key
        self.estimated_rows = estimate
        self.notices = notices
        self.page_bytes = max(64 << 10, min(_PAGE_BYTES, request.memory // 4))
        self.shape = RowShape(len(keyset.key.columns), keyset.columns)

    @property
    def body_type(self) -> str:
        """The type of the body's column beneath any domain; `json` for the whole row."""
        return "json" if self._keyset.body is None else self.relation.column(self._keyset.body).base

    @classmethod
    async def resolve(cls, session: Session, request: Request) -> PostgresSource:
        """Ask the server what the request comes to, and check that it can be read completely.

        Raises:
            SourceRefused: it cannot, and why.
            Unreachable: no answer.
        """
        subject = request.table or request.query_name

        async def look(connection: Any) -> PostgresSource:
            if request.table is not None:
                relation = await resolve_table(connection, request.table)
            else:
                relation = await resolve_query(connection, request.query or "", request.query_name)
            _check_columns(relation, request)
            if relation.is_query and request.key is None:
                raise SourceRefused(
                    "choose key",
                    relation.label,
                    "it is a view or a foreign table, so nothing says which columns identify a row",
                    "name them with --key",
                )
            key = choose_key(relation, request.key)
            columns = tuple(relation.column(name) for name in request.columns)
            conditions = () if request.where is None else (embeddable(request.where, "--where"),)
            keyset = Keyset(relation, key, columns, request.body, conditions)
            await _check_nulls(connection, keyset)
            version = connection.get_server_version().major
            notices = await stale_collations(connection, version, relation, key.columns)
            estimate = await _estimate(connection, keyset)
            return cls(session, keyset, request, estimate, notices)

        return await session.run(look, "resolve", subject)

    async def pages(self, after: Key | None) -> AsyncGenerator[Page, None]:
        """See `Source.pages`."""
        phase = 0 if after is None else self._keyset.phase_of(after)
        left = self._limit
        while phase < len(self._keyset.phases):
            size = self._page_rows(left, after)
            if size < 1:
                return
            rows = await self._read(self._keyset.page(phase, after, size, self.page_bytes // size))
            full = len(rows) == size
            rows = self._checked(rows, after)
            if rows:
                after = self.shape.key(rows[-1])
                self._learn(rows)
                if left is not None:
                    left -= len(rows)
                page = [Page(rows)]
                del rows
                yield page.pop()  # whoever takes it holds it alone: its memory ends with its last row
            if not full:
                phase += 1
                after = None

    @property
    def page_rows(self) -> int:
        """How many rows make a page now, by the rows seen so far."""
        return self._page_rows(None, None)

    async def chosen(self, keys: Sequence[Key]) -> Sequence[Row]:
        """The rows that have one of these keys, in the order of `keys`; none for a key whose row has gone.

        Before the body's size stands the place of the row's key in `keys`, from 1.

        Raises:
            SourceRefused: several rows have one key.
        """
        rows = await self._read(self._keyset.chosen(keys, self.page_bytes // len(keys)))
        for row, following in itertools.pairwise(rows):
            if row[-3] == following[-3]:
                raise _several(self.relation.label, self.shape.key(row))
        if rows:
            self._learn(rows)
        return rows

    async def estimated_behind(self, after: Key) -> int | None:
        """About how many rows are behind a key, as the planner sees it; None when it cannot say."""
        statement = self._keyset.behind(after)
        if statement is None:
            return None
        rows = await self._read(replace(statement, sql=f"EXPLAIN (FORMAT JSON) {statement.sql}"))
        return _planned_rows(rows)

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`."""
        rows = await self._read(self._keyset.one_body(self.shape.key(row)))
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """See `Source.close`."""
        await self._session.close()

    async def _read(self, statement: Statement) -> Sequence[Row]:
        async def fetch(connection: Any) -> Sequence[Row]:
            rows: Sequence[Row] = await connection.fetch(statement.sql, *statement.arguments)
            return rows

        return await self._session.run(fetch, "read", self.relation.label)

    def _page_rows(self, left: int | None, after: Key | None) -> int:
        """How many rows to ask for: what fills half of a page's bytes, by the rows seen so far."""
        size = self._page_size
        if size is None:
            size = int(self.page_bytes / 2 / self._average) if self._average else _FIRST_PAGE_ROWS
            size = max(1, min(MAX_PAGE_ROWS, size))
            size = 1 << (size.bit_length() - 1) if size < MAX_PAGE_ROWS else size  # few statements to prepare
        size = max(1, min(size, MAX_PAGE_ROWS, self.page_bytes // ROW_OVERHEAD))
        if left is not None:
            size = min(size, left)
        reads_again = size and after is not None and not self.key.proven
        return size + 1 if reads_again else size

    def _learn(self, rows: Sequence[Row]) -> None:
        """Move the average row size towards this page's.

        Deferred bodies count too, or rows that grow would be read one by one to the end; but only up to a bound,
        since from there on they would be deferred on a smaller page as well.
        """
        bound = min(_LARGE_BODY, self.page_bytes // 4)
        sample = rows[:: len(rows) // 64 + 1]
        mean = sum(min(row[-2] or 0, bound) for row in sample) / len(sample) + 256
        self._average = mean if not self._average else 0.5 * self._average + 0.5 * mean

    def _checked(self, rows: Sequence[Row], after: Key | None) -> Sequence[Row]:
        """The page without the row at the cursor, which an unproven key reads again.

        Raises:
            SourceRefused: the key is not unique, or NULLs have come into it.
            ReadingBroken: reading does not advance.
        """
        if not self.key.proven:
            twice = next((row for row in rows if row[-3] == TWICE), None)
            if twice is not None:
                raise _several(self.relation.label, self.shape.key(twice))
            if any(None in self.shape.key(row) for row in rows):
                raise _null_in_key(self._keyset)
            rows = rows[1:] if rows and rows[0][-3] == AGAIN else rows
        if rows and self.shape.key(rows[0]) == after:
            raise ReadingBroken(
                "read",
                self.relation.label,
                f"the page after the key ({', '.join(str(part) for part in after)}) begins with that key again",
                "the comparison operators of the key's type are inconsistent; give another --key",
            )
        return rows


def _check_columns(relation: Relation, request: Request) -> None:
    twice = {name for name in relation.names if relation.names.count(name) > 1}
    for flag, names in (
        ("--key", request.key or ()),
        ("--body", relation.names if request.body is None else (request.body,)),
        *((request.asked_by.get(name, "--to"), (name,)) for name in request.columns),
    ):
        for name in names:
            if name not in relation.names:
                raise SourceRefused(
                    "resolve columns",
                    flag,
                    f"{relation.label} has no column {name}",
                    nearest(name, relation.names),
                )
            if name in twice:
                raise SourceRefused(
                    "resolve columns",
                    flag,
                    f"{relation.label} has several columns {name}",
                    "give each a name of its own: SELECT …, … AS …",
                )


async def _check_nulls(connection: Any, keyset: Keyset) -> None:
    """Refuse NULLs in a key that no index vouches for: they would never be read."""
    if keyset.key.proven:
        return
    statement = keyset.null_keys()
    if await connection.fetch(statement.sql, *statement.arguments):
        raise _null_in_key(keyset)


def _null_in_key(keyset: Keyset) -> SourceRefused:
    return SourceRefused(
        "choose key",
        keyset.relation.label,
        f"some rows have NULL in the key ({', '.join(column.name for column in keyset.key.columns)}); "
        "they would never be read",
        "give a --key that is never NULL, or leave those rows out with --where",
    )


def _several(label: str, key: Key) -> SourceRefused:
    return SourceRefused(
        "read",
        label,
        f"several rows have the key ({', '.join(str(part) for part in key)}); one would overwrite or hide another",
        "give a --key whose columns together are different for every row",
    )


async def _estimate(connection: Any, keyset: Keyset) -> int | None:
    """The planner's estimate of the rows; planning a page as well shows mistakes in the SQL before anything is sent."""
    page = keyset.page(0, None, 1, 0)
    await connection.fetch(f"EXPLAIN {page.sql}", *page.arguments)
    return _planned_rows(await connection.fetch(f"EXPLAIN (FORMAT JSON) {keyset.everything().sql}"))


def _planned_rows(rows: Sequence[Row]) -> int | None:
    """How many rows a plan expects."""
    try:
        return int(json.loads(rows[0][0])[0]["Plan"]["Plan Rows"])
    except (LookupError, TypeError, ValueError):
        return None
