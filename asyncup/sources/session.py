"""Connections to PostgreSQL through asyncpg; the only module that imports it.

Every statement runs in a short `READ ONLY` transaction whose settings make texts independent of role, database and
session, so that the same row gives the same object everywhere. Row security raises an error instead of hiding rows
(`row_security = off`: https://www.postgresql.org/docs/current/runtime-config-client.html).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

from asyncup.errors import AsyncupError, ConfigError, ReadingBroken, ServerFault, SourceRefused, Unreachable
from asyncup.flow.retry import Retrier

R = TypeVar("R")

CONNECT_TIMEOUT = 10.0
#: Seconds; the last one is in milliseconds.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}

_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL row_security = off; SET LOCAL DateStyle = 'ISO, YMD'; "
    "SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; "
    "SET LOCAL bytea_output = hex; SET LOCAL lc_monetary = 'C'; SET LOCAL array_nulls = on"
)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_GONE = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300"})
_AGAIN = frozenset({"40001", "40P01", "55P03", "57014"})


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

    @contextlib.asynccontextmanager
    async def held(self, op: str, subject: str) -> AsyncGenerator[Held]:
        """A transaction that stays open while it is needed, on this session's connection: all it reads is of one instant.

        Opening it is tried again as `run` is; what is done in it is not, since it ends with its connection.

        Raises:
            AsyncupError, Interrupted: as `run` does.
        """
        begin = self._begin.replace("READ COMMITTED", "REPEATABLE READ")
        connection = await self._retrier.run(lambda _: self._told(lambda: self._began(begin), op, subject), None)
        try:
            yield Held(self, connection)
            await self._told(lambda: connection.execute("COMMIT"), op, subject)
        except BaseException:
            self.drop()
            raise

    async def _once(self, work: Callable[[Any], Awaitable[R]], op: str, subject: str) -> R:
        async def whole() -> R:
            connection = await self._began(self._begin)
            result = await work(connection)
            await connection.execute("COMMIT")
            return result

        return await self._told(whole, op, subject)

    async def _began(self, begin: str) -> Any:
        connection = await self._connected()
        await connection.execute(begin)
        return connection

    async def _told(self, work: Callable[[], Awaitable[R]], op: str, subject: str) -> R:
        """What `work` gives; where the server, the network or the driver objects, our error for it, and no connection."""
        error: AsyncupError
        try:
            return await work()
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


class Held:
    """A transaction of `Session.held`."""

    def __init__(self, session: Session, connection: Any) -> None:
        self._session = session
        self._connection = connection

    async def run(self, work: Callable[[Any], Awaitable[R]], op: str, subject: str) -> R:
        """Do `work(connection)` in this transaction, once.

        Raises:
            AsyncupError: what the server or the network said, by its class; the transaction is over then.
        """
        return await self._session._told(lambda: work(self._connection), op, subject)  # noqa: SLF001 - two halves of one


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
