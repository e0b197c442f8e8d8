"""Rows from PostgreSQL through asyncpg; the only module that imports it.

Every statement runs in a short `READ ONLY` transaction whose settings make texts independent of role, database and
session, so that the same row gives the same object everywhere. Row security raises an error instead of hiding rows
(`row_security = off`: https://www.postgresql.org/docs/current/runtime-config-client.html).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from asyncup.errors import AsyncupError, ConfigError, ReadingBroken, ServerFault, SourceRefused, Unreachable
from asyncup.flow.retry import Retrier
from asyncup.model import ROW_OVERHEAD, Key, Page, Row, RowShape
from asyncup.names import nearest
from asyncup.sources.catalog import resolve_query, resolve_table, stale_collations
from asyncup.sources.keyset import AGAIN, TWICE, KeyChoice, Keyset, Relation, Statement, choose_key
from asyncup.sources.usersql import embeddable

R = TypeVar("R")

CONNECT_TIMEOUT = 10.0
#: Seconds; the last one is in milliseconds.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
#: The most rows of a page; more would save no time and hold more memory.
MAX_PAGE_ROWS = 5000
_FIRST_PAGE_ROWS = 250
_PAGE_BYTES = 16 << 20
_LARGE_BODY = 1 << 20

_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL row_security = off; SET LOCAL DateStyle = 'ISO, YMD'; "
    "SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; "
    "SET LOCAL bytea_output = hex; SET LOCAL lc_monetary = 'C'; SET LOCAL array_nulls = on"
)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300"})
_AGAIN = frozenset({"40001", "40P01", "55P03", "57014"})


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


class Session:
    """One connection, made when it is needed, and dropped when anything about it is in doubt."""

    _begin = _BEGIN

    def __init__(self, dsn: str | None, retrier: Retrier) -> None:
        self._dsn = dsn
        self._retrier = retrier
        self._connection: asyncpg.Connection[Any] | None = None

    async def run(self, work: Callable[[Any], Awaitable[R]], op: str, subject: str) -> R:
        """Do `work(connection)` in a read-only transaction of its own, again on a new connection where that may help.

        Raises:
            AsyncupError: what the server or the network said, by its class.
            Interrupted: a drain began while waiting to try again.
        """
        return await self._retrier.run(lambda _: self._once(work, op, subject), None)

    async def _once(self, work: Callable[[Any], Awaitable[R]], op: str, subject: str) -> R:
        error: AsyncupError
        try:
            connection = await self._connected()
            await connection.execute(self._begin)
            result = await work(connection)
            await connection.execute("COMMIT")
        except asyncpg.PostgresError as exc:
            error = self._refusal(exc, op, subject)
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as exc:
            # the driver calls it an internal error when the server's last words come between two statements
            if self._connection is None and not isinstance(exc, asyncpg.InternalClientError):
                # the driver's own words may be trusted; Python's quote the part that it stumbled over: a password
                known = isinstance(exc, asyncpg.InterfaceError)
                error = ConfigError(
                    "connect",
                    "--dsn",
                    str(exc) if known else "it cannot be read as a URI",
                    "write it as postgresql://user@host:5432/database; in a password, / is %2F, @ is %40, # is %23",
                )
            else:
                error = Unreachable(op, subject, f"the connection to the database was lost: {exc}")
        except ssl.SSLError as exc:
            error = ConfigError(
                "connect", "database", f"TLS failed: {exc.reason or exc}", "see sslmode and sslrootcert"
            )
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
            error = _unreadable(exc) or _unreachable(
                exc, op if self._connection is not None else "connect", subject, self._place()
            )
        except BaseException:
            self.drop()
            raise
        else:
            return result
        self.drop()
        try:
            raise error
        finally:
            del error  # it knows this frame, and the frames it: with them a page of rows would wait for a collection

    def _refusal(self, exc: Any, op: str, subject: str) -> AsyncupError:
        """The error for what the server said."""
        return _from_server(exc, op, subject)

    def _place(self) -> str:
        """Where the database is, as far as the settings say; for messages."""
        host, port = os.environ.get("PGHOST"), os.environ.get("PGPORT")
        if self._dsn is not None:
            with contextlib.suppress(ValueError):
                parts = urlsplit(self._dsn)
                host, port = parts.hostname or host, str(parts.port) if parts.port else port
        return f"{host or 'its socket'}, port {port or 5432}"

    async def _connected(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            self._connection = await asyncpg.connect(self._dsn, timeout=CONNECT_TIMEOUT)
            _keep_alive(self._connection)
        return self._connection

    def drop(self) -> None:
        """Close the connection without a word to the server."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Close the connection politely, or at least quickly."""
        if self._connection is not None:
            with contextlib.suppress(Exception):
                await self._connection.close(timeout=0.5)
            self.drop()


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
            where = None if request.where is None else embeddable(request.where, "--where")
            keyset = Keyset(relation, key, columns, request.body, where)
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


def _keep_alive(connection: Any) -> None:
    """Notice a server that has vanished without a word within two minutes, and keep firewalls from forgetting the flow.

    What the system does not have (macOS, Windows) is left out. Source: https://man7.org/linux/man-pages/man7/tcp.7.html.
    """
    transport = connection._transport  # noqa: SLF001 - the driver gives no other way to its socket
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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


def _from_server(exc: asyncpg.PostgresError, op: str, subject: str) -> AsyncupError:
    """The error class for an SQLSTATE."""
    state = getattr(exc, "sqlstate", None) or ""
    message = (exc.message or str(exc)).strip()  # str() of it repeats detail and hint
    if exc.detail:
        message += f" ({exc.detail})"
    hint = exc.hint
    if state in _GONE or (state.startswith("08") and state != "08P01"):
        return Unreachable(op, subject, f"the database ended the connection: {message}")
    if state in _AGAIN:
        return ServerFault(op, subject, f"the database asks to try again: {message}", hint)
    if state == "28P01":
        return SourceRefused("connect", "database", message, "check the password in --dsn, PGPASSWORD or ~/.pgpass")
    if state.startswith("28"):
        return SourceRefused("connect", "database", message, "check user, host and pg_hba.conf")
    if state == "3D000":
        return SourceRefused("connect", "database", message, "check the database's name in --dsn or PGDATABASE")
    if state[:2] in ("42", "22", "0A", "3F", "25", "2F"):
        return SourceRefused(
            op, subject, message, _advice(state, message) or hint or "check --table, --query, --where and --key"
        )
    return ReadingBroken(op, subject, f"{message} (SQLSTATE {state or 'unknown'})", hint)


def _advice(state: str, message: str) -> str | None:
    """What to do where the server's own hint does not fit someone who did not write the SQL."""
    if state == "42501" and "row-level security" in message:
        return "connect as a role with BYPASSRLS or as the table's owner: hidden rows would be missing silently"
    if state == "42501" and "for database" in message:
        return "the role needs: GRANT CONNECT ON DATABASE … TO …"
    if state == "42501":
        return "a role that may read it needs: GRANT SELECT ON … TO …; and GRANT USAGE ON SCHEMA … TO …"
    if state == "42883" and "ordering operator" in message:
        return "give a --key of columns that can be ordered"
    return None


def _unreadable(exc: BaseException) -> ConfigError | None:
    """The error for a file of the connection's settings, which the driver reads before it connects; else None."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_name != "_parse_connect_dsn_and_args":
        trace = trace.tb_next
    if trace is None or not isinstance(exc, OSError):
        return None
    name = f" {exc.filename}" if exc.filename else ""
    return ConfigError(
        "connect",
        "database",
        f"a file of the connection's settings{name} cannot be read: {exc.strerror or exc}",
        "check who may read ~/.postgresql, ~/.pgpass and what PGSSLROOTCERT, PGSSLCERT and PGSSLKEY name; "
        "HOME says where ~ is, and PGSSLKEY and PGSSLCERT name other files than those there",
    )


def _unreachable(exc: BaseException, op: str, subject: str, place: str) -> Unreachable:
    reason = str(exc) or ("timed out" if isinstance(exc, TimeoutError) else exc.__class__.__name__)
    return Unreachable(
        op, subject, f"cannot reach the database at {place}: {reason}", "check host and port, and that it runs"
    )


def connection_string(dsn: str | None) -> str | None:
    """The DSN to use: the flag, else DATABASE_URL, else None for the PG* variables.

    Raises:
        ConfigError: it is not a URI.
    """
    found = dsn or os.environ.get("DATABASE_URL")
    if found and not found.startswith(("postgresql://", "postgres://")):
        scheme = found.partition("://")[0] if "://" in found else None
        reason = f"the scheme {scheme}:// is not postgresql://" if scheme else "it is not a URI"
        raise ConfigError(
            "connect",
            "--dsn" if dsn else "DATABASE_URL",
            reason,
            "write it as postgresql://user@host:5432/database, or set PGHOST, PGUSER, PGPASSWORD and the like",
        )
    return found or None
