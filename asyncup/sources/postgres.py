"""The rows of a table or a query in PostgreSQL, page by page in key order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from asyncup.errors import AsyncupError, ReadingBroken, SourceRefused, StatementTimedOut
from asyncup.model import ROW_OVERHEAD, SLICE_BYTES, WHOLE, Key, Page, Range, Reach, Row, RowShape, Streamed
from asyncup.names import nearest, written
from asyncup.sources.atonce import RowsAtOnce
from asyncup.sources.bodies import UNREAD
from asyncup.sources.catalog import leaves_of, resolve_query, resolve_table, stale_collations
from asyncup.sources.connection.faults import CHECK_FLAGS
from asyncup.sources.connection.session import Session
from asyncup.sources.increments.incremental import Begun, begin, guard, rule_of
from asyncup.sources.increments.incrementkeys import by_column, by_former_key, check_paged
from asyncup.sources.increments.mark import Mark
from asyncup.sources.keyset import (
    AGAIN,
    TWICE,
    KeyChoice,
    Keyset,
    Relation,
    Statement,
    choose_key,
    null_in_key,
    several,
)
from asyncup.sources.planner.access import Access
from asyncup.sources.planner.explain import judge, refusal
from asyncup.sources.ranges import divide, shard_condition
from asyncup.sources.slices import Slicer, of_body
from asyncup.sources.usersql import embeddable

R = TypeVar("R")

MAX_PAGE_ROWS = 5000
_FIRST_PAGE_ROWS = 250
_PAGE_BYTES = 16 << 20
_LARGE_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What to read: a table or a query, and which of its columns are needed for what.

    `asked_by` says which flag a column of `columns` is from. `readers` may read at a time. `shard` is one of so many parts,
    counted from 0. With `large_object` the body is the large object whose oid the column holds. `incremental` is the column
    by which a run tells what is new.
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
    readers: int = 1
    shard: tuple[int, int] | None = None
    allow_sort: bool = False
    large_object: bool = False
    slice_bytes: int = SLICE_BYTES
    incremental: str | None = None


class PostgresSource:
    """The rows of one table or query, in key order.

    Each row is the driver's own record, laid out as `shape` says.
    """

    def __init__(
        self, session: Session, keyset: Keyset, request: Request, estimate: int | None, notices: list[str]
    ) -> None:
        self._sessions = [session]
        self._idle = [session]
        self._turn = asyncio.Semaphore(1)
        self._request = request
        self._keyset = keyset
        self._readers = 1 if request.limit is not None else request.readers
        self._limit = request.limit
        self._slice_bytes = request.slice_bytes
        self._page_size = request.page_size
        self._average = 0.0
        self._most_rows = MAX_PAGE_ROWS  # less for a while where bodies among them cannot be read
        self._timely_rows = MAX_PAGE_ROWS
        self._slicer = Slicer(
            lambda: session.another(),  # noqa: PLW0108 - as it is by then
            self._session_free,
            keyset.relation.label,
        )
        self.relation: Relation = keyset.relation
        self.key: KeyChoice = keyset.key
        self.estimated_rows = estimate
        self.access = Access(rows=estimate)
        self.notices = notices
        self.page_bytes = max(64 << 10, min(_PAGE_BYTES, request.memory // (2 + 2 * request.readers)))
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
        try:
            return await cls._looked_up(session, request)
        except SourceRefused as refused:
            if refused.op == "resolve":
                await _blame_flags(session, request, refused)
            raise

    @classmethod
    async def _looked_up(cls, session: Session, request: Request) -> PostgresSource:
        subject = request.table or request.query_name

        async def look(connection: Any) -> PostgresSource:
            if request.table is not None:
                relation = await resolve_table(connection, request.table)
            else:
                relation = await resolve_query(connection, request.query or "", request.query_name)
            _check_columns(relation, request)
            _check_body(relation, request)
            if request.incremental is not None:
                rule_of(relation, request.incremental)
            if relation.is_query and request.key is None:
                raise SourceRefused(
                    "choose key",
                    relation.label,
                    "it is a view or a foreign table, so nothing says which columns identify a row",
                    "name them with --key",
                )
            key = choose_key(relation, request.key)
            columns = tuple(relation.column(name) for name in request.columns)
            conditions: tuple[str, ...] = () if request.where is None else (embeddable(request.where, "--where"),)
            keyset = Keyset(relation, key, columns, request.body, conditions, large_object=request.large_object)
            keyset = replace(keyset, utf8=connection.get_settings().server_encoding == "UTF8")
            version = connection.get_server_version().major
            notices = session.notices + await stale_collations(connection, version, relation, key.columns)
            notices += _too_large(request)
            estimate = _share(await _estimate(connection, keyset), request)
            if request.shard is not None:
                keyset = replace(keyset, shard=shard_condition(relation.alias, key.columns, request.shard))
            keyset, access = await judge(connection, keyset, estimate)
            if request.incremental is not None and request.key is None:
                keyset, access, said = await by_column(connection, keyset, access, request.incremental, estimate)
                notices += said
            source = cls(session, keyset, request, estimate, notices)
            is_one_page = not relation.is_query and request.limit is not None and request.limit <= source.page_rows
            if not (access.paged or request.allow_sort or is_one_page):
                if not relation.is_query:
                    raise refusal(relation, [column.name for column in key.columns], access)
                if request.incremental is not None:
                    check_paged(relation, access)
                access = replace(access, at_once=True)
            else:
                await _check_nulls(connection, keyset)
            source.access = access
            return source

        return await session.run(look, "resolve", subject)

    async def begin_increment(self, column: str, kept: Mapping[str, Any], lag: float | None, *, goes_on: bool) -> Begun:
        """Pin the bounds of an incremental run (see `incremental.begin`), and read within them from here on.

        Raises:
            SourceRefused: what the server shows is not enough for bounds that miss nothing.
            StateRefused: what was `kept` is of no use.
        """

        async def pin(connection: Any) -> Begun:
            return await begin(connection, self._keyset, column, kept, lag, goes_on=goes_on)

        begun = await self._session_run(pin, "pin bounds")
        await self.narrow(begun.mark)
        return begun

    async def page_by(self, column: str, names: Sequence[str]) -> None:
        """Read by the key that the runs of an incremental job had before; rows have another shape from here on.

        Raises:
            SourceRefused: rows cannot be read by it any more.
        """

        async def look(connection: Any) -> tuple[Keyset, Access]:
            rows, allow_sort = self.estimated_rows, self._request.allow_sort
            return await by_former_key(connection, self._keyset, column, names, rows, allow_sort=allow_sort)

        self._keyset, self.access = await self._session_run(look, "choose key")
        self.key = self._keyset.key
        self.shape = RowShape(len(self.key.columns), self._keyset.columns)

    async def narrow(self, mark: Mark) -> None:
        """Read within the bounds of a mark from here on."""
        conditions = (*self._keyset.conditions, *mark.conditions(self.relation))
        self._keyset = replace(self._keyset, conditions=conditions)
        everything = self._keyset.everything()
        rows = await self._read(replace(everything, sql=f"EXPLAIN (FORMAT JSON) {everything.sql}"))
        self.estimated_rows = _share(_planned_rows(rows), self._request)
        for session in self._sessions:
            session.guard = guard(mark, self.relation.label)

    async def widen(self) -> str | None:
        """Connect for as many readers as were asked for, or as the server takes; why there are fewer, None if there are not."""
        wanted = self._request.readers
        if wanted > 1 and (self._limit is not None or self.relation.is_query or not self.key.proven):
            self._readers = 1
            return (
                "--readers: one reader does it, since a query, a view and a --limit are read from one end to the other"
            )
        for _ in range(wanted - len(self._sessions)):
            session = self._sessions[0].another()
            refused = await session.refused()
            if refused is not None:
                await session.close()
                self._readers = len(self._sessions)
                return f"{self._readers} of {wanted} readers have a connection; a further one was refused: {refused}"
            self._sessions.append(session)
            self._idle.append(session)
            self._turn.release()
        return None

    async def divide(self) -> tuple[Reach, ...]:
        """The parts that the readers take one after another; none where all of it is read as one."""
        if self._readers == 1:
            return ()

        async def look(connection: Any) -> tuple[Reach, ...]:
            return await divide(connection, self._keyset, self._readers, self.estimated_rows)

        return await self._session_run(look, "divide")

    async def further(self, parts: Collection[Range]) -> list[Range]:
        """The partitions that are in none of these parts: those that came since they were cut."""
        known = {part.leaf for part in parts} - {None}
        if not known:
            return []
        await self._look_for_leaves()
        return [Range(leaf=leaf) for leaf in self._keyset.relation.leaves if leaf not in known]

    async def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:
        """See `Source.pages`. A partition that has gone has no rows."""
        if part.leaf is not None and part.leaf not in self._keyset.relation.leaves:
            return
        keyset = self._keyset.within(part.leaf)
        phase = keyset.phase_of(after) if after is not None else int(part.nulls is True)
        end = 1 if part.nulls is False else len(keyset.phases)
        left = self._limit
        while phase < end:
            size = self._page_rows(left, after)
            if size < 1:
                return
            try:
                rows, size = await self._read_page(keyset, phase, after, size, part)
            except SourceRefused:
                if part.leaf is None or not await self._has_moved(part.leaf, keyset):
                    raise
                if part.leaf not in self._keyset.relation.leaves:
                    return
                keyset = self._keyset.within(part.leaf)
                continue
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

    def at_once(self) -> RowsAtOnce:
        """The same rows through one cursor, in place of pages; for where `access.at_once` says so."""
        return RowsAtOnce(
            self._sessions[0],
            self._keyset,
            limit=self._limit,
            page_rows=self._page_size,
            page_bytes=self.page_bytes,
        )

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
        rows = await self._read_chosen(keys)
        for row, following in itertools.pairwise(rows):
            if row[-3] == following[-3]:
                raise several(self.relation.label, self.shape.key(row))
        if rows:
            self._learn(rows)
        return rows

    async def sampled(self, share: float, most: int) -> Sequence[Key]:
        """The keys of rows in a random `share` of a table's blocks, a percentage, in key order; `most` at most."""
        return [tuple(row) for row in await self._read(self._keyset.sampled(share, most))]

    async def estimated_behind(self, after: Key) -> int | None:
        """About how many rows are behind a key, as the planner sees it; None when it cannot say."""
        statement = self._keyset.behind(after)
        if statement is None:
            return None
        rows = await self._read(replace(statement, sql=f"EXPLAIN (FORMAT JSON) {statement.sql}"))
        return _planned_rows(rows)

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`."""
        try:
            rows = await self._read(self._keyset.one_body(self.shape.key(row)))
        except AsyncupError as error:
            refused = of_body(error, is_suspect=self._is_suspect(row))
            try:
                if refused is error:
                    raise
                raise refused from error
            finally:
                del refused  # it knows this frame, and the frame it
        return rows[0][0] if rows else None

    def stream(self, row: Row, window: int) -> Streamed:
        """See `Source.stream`."""
        statement, is_suspect = self._keyset.slices(self.shape.key(row), self._slice_bytes), self._is_suspect(row)
        size = 0 if row[-2] == UNREAD else row[-2]
        return Streamed(size, window, lambda: self._slicer.open(statement, is_suspect=is_suspect))

    async def close(self) -> None:
        """See `Source.close`."""
        await self._slicer.close()
        for session in self._sessions:
            await session.close()

    def _is_suspect(self, row: Row) -> bool:
        """Whether what the server refuses to read of a row is its body's fault: no page need ever have looked at it."""
        return self._keyset.large_object or row[-2] == UNREAD

    async def _read_page(
        self, keyset: Keyset, phase: int, after: Key | None, size: int, part: Range
    ) -> tuple[Sequence[Row], int]:
        """A page, and how many rows it was to have.

        Where it takes too long, or the server cannot make all bodies of it, of which it does not say one, the page is made
        smaller, down to one row; which then comes without its body, and whoever asks for that hears why.
        """
        least = 1 if after is None or self.key.proven else 2
        while True:
            size = min(size, max(least, min(self._most_rows, self._timely_rows)))
            try:
                rows = await self._read(keyset.page(phase, after, size, self.page_bytes // size, part))
            except (StatementTimedOut, ReadingBroken, SourceRefused) as error:
                if isinstance(error, StatementTimedOut) and size > least:
                    self._timely_rows = size // 2
                    continue
                found = await self._read_unread(keyset.without_bodies().page(phase, after, size, 0, part))
                if found is None:
                    raise
                if len(found) <= least:
                    self._most_rows = 1
                    return found, size
                self._most_rows = max(least, len(found) // 2)
            else:
                self._most_rows = min(2 * self._most_rows, MAX_PAGE_ROWS)
                if (
                    self._timely_rows < MAX_PAGE_ROWS
                ):  # little by little: to learn again where it ends takes two timeouts
                    self._timely_rows += self._timely_rows // 16 + 1
                return rows, size

    async def _read_chosen(self, keys: Sequence[Key]) -> Sequence[Row]:
        """The same for chosen rows."""
        try:
            return await self._read(self._keyset.chosen(keys, self.page_bytes // len(keys)))
        except (StatementTimedOut, ReadingBroken, SourceRefused) as error:
            if len(keys) == 1 or not isinstance(error, StatementTimedOut):
                found = await self._read_unread(self._keyset.without_bodies().chosen(keys, 0))
                if found is None:
                    raise
                if len(keys) == 1:
                    return found
        half = len(keys) // 2
        behind = [(*row[:-3], row[-3] + half, *row[-2:]) for row in await self._read_chosen(keys[half:])]
        return [*await self._read_chosen(keys[:half]), *behind]

    async def _read_unread(self, statement: Statement) -> Sequence[Row] | None:
        """Rows without their bodies; None where these are not what the server objects to."""
        try:
            return await self._read(statement)
        except (StatementTimedOut, ReadingBroken, SourceRefused):
            return None

    async def _read(self, statement: Statement) -> Sequence[Row]:
        async def fetch(connection: Any) -> Sequence[Row]:
            rows: Sequence[Row] = await connection.fetch(statement.sql, *statement.arguments)
            return rows

        return await self._session_run(fetch, "read")

    async def _has_moved(self, leaf: int, keyset: Keyset) -> bool:
        """Whether a partition has another name by now than in this keyset of its own, or is no longer one."""
        await self._look_for_leaves()
        return leaf not in self.relation.leaves or self._keyset.within(leaf).relation.sql != keyset.relation.sql

    async def _look_for_leaves(self) -> None:
        async def look(connection: Any) -> Mapping[int, str | None]:
            return await leaves_of(connection, self.relation.sql)

        self.relation = replace(self.relation, leaves=await self._session_run(look, "look for partitions"))
        self._keyset = replace(self._keyset, relation=self.relation)

    async def _session_run(self, work: Callable[[Any], Awaitable[R]], op: str) -> R:
        """Do `work(connection)` on a session that is idle."""
        async with self._session_free() as session:
            return await session.run(work, op, self.relation.label)

    @asynccontextmanager
    async def _session_free(self) -> AsyncGenerator[Session]:
        """A session that is idle, to oneself; each reader that may be has one."""
        async with self._turn:
            session = self._idle.pop()
            try:
                yield session
            finally:
                self._idle.append(session)

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
        since from there on they would be deferred on a smaller page as well. Texts of columns come with every page.
        """
        texts = self.shape.keys + len(self.shape.columns)
        bound = min(_LARGE_BODY, self.page_bytes // 4)
        sample = rows[:: len(rows) // 64 + 1]
        size = sum(min(row[-2] or 0, bound) + sum(len(text or "") for text in row[:texts]) for row in sample)
        mean = size / len(sample) + 256
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
                raise several(self.relation.label, self.shape.key(twice))
            if any(None in self.shape.key(row) for row in rows):
                raise null_in_key(self.relation, self.key)
            rows = rows[1:] if rows and rows[0][-3] == AGAIN else rows
        if rows and self.shape.key(rows[0]) == after:
            raise ReadingBroken(
                "read",
                self.relation.label,
                f"the page after the key ({', '.join(str(part) for part in after)}) begins with that key again",
                "the comparison operators of the key's type are inconsistent; give another --key",
            )
        return rows


def _too_large(request: Request) -> list[str]:
    """What to say of a page size beyond the bound."""
    is_too_large = request.page_size is not None and request.page_size > MAX_PAGE_ROWS
    return [f"--page-size {request.page_size}: a page has {MAX_PAGE_ROWS:,} rows at most"] * is_too_large


async def _blame_flags(session: Session, request: Request, refused: SourceRefused) -> None:
    """Say of SQL that the server refuses which flag it is of, as far as can be told."""
    flags = [name for name in ("query", "table", "where", "key") if getattr(request, name) is not None]
    if refused.hint == CHECK_FLAGS:
        refused.hint = f"check {' and '.join(f'--{name}' for name in flags)}"
    if request.where is None or refused.message.startswith("permission denied"):
        return
    with contextlib.suppress(AsyncupError):
        await PostgresSource.resolve(session, replace(request, where=None))
        refused.op, refused.subject = "read SQL", "--where"


def _check_columns(relation: Relation, request: Request) -> None:
    twice = {name for name in relation.names if relation.names.count(name) > 1}
    for flag, names in (
        ("--key", request.key or ()),
        ("--incremental", () if request.incremental is None else (request.incremental,)),
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


def _check_body(relation: Relation, request: Request) -> None:
    if request.large_object and request.body is not None:
        column = relation.column(request.body)
        if column.base != "oid":
            raise SourceRefused(
                "resolve columns",
                "--body",
                f"column {column.name} of {relation.label} is {column.type}, not the oid of a large object",
                f"--body {written(column.name)} takes the column's own value",
            )


async def _check_nulls(connection: Any, keyset: Keyset) -> None:
    """Refuse NULLs in a key that no index vouches for: they would never be read."""
    if keyset.key.proven:
        return
    statement = keyset.null_keys()
    if await connection.fetch(statement.sql, *statement.arguments):
        raise null_in_key(keyset.relation, keyset.key)


def _share(rows: int | None, request: Request) -> int | None:
    """What a shard has of so many rows."""
    return rows if rows is None or request.shard is None else -(-rows // request.shard[1])


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
