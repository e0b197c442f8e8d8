"""Connections to PostgreSQL through asyncpg; the only module that imports it.

Every statement runs in a short `READ ONLY` transaction whose settings make texts independent of role, database and
session, so that the same row gives the same object everywhere. Row security raises an error instead of hiding rows
(`row_security = off`: https://www.postgresql.org/docs/current/runtime-config-client.html).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Self, TypeVar

import asyncpg

from asyncup.errors import AsyncupError, ConfigError, ReadingBroken, Unreachable
from asyncup.flow.retry import Retrier
from asyncup.sources.connection.faults import Fault, error_of
from asyncup.sources.connection.login import Login
from asyncup.sources.connection.servers import Server, Target
from asyncup.sources.connection.tls import refusal, unencrypted

R = TypeVar("R")

#: Seconds for a statement. A page may honestly take minutes; a peer that has gone is noticed by keepalives long before.
STATEMENT_SECONDS = 3600.0
#: Seconds for what takes no time but a pooler's: PgBouncer lets a client wait for two minutes (`query_wait_timeout`).
PROMPT_SECONDS = 180.0

#: What SET TRANSACTION SNAPSHOT says of one that is not there, in the one version or the other.
_NO_SNAPSHOT = ("22023", "42704")
NO_TIMEOUTS = (
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL row_security = off; SET LOCAL DateStyle = 'ISO, YMD'; "
    "SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; "
    "SET LOCAL bytea_output = hex; SET LOCAL lc_monetary = 'C'; SET LOCAL array_nulls = on; "
    "SET LOCAL plan_cache_mode = force_custom_plan; "
    # a statement whose client has gone would hold back vacuum, and the bound of every incremental run; where the
    # server's system cannot look, it refuses the setting
    "SELECT set_config('client_connection_check_interval', '5s', true) "
    "WHERE current_setting('client_connection_check_interval', true) IS NOT NULL AND version() LIKE '%linux%'"
)


class Session:
    """One connection, made when it is needed, and dropped when anything about it is in doubt."""

    _begin = _BEGIN
    _prompt = PROMPT_SECONDS
    _is_frozen = False
    _server: Server | None = None  # that the last connection led to

    def __init__(self, login: Login | str | None, retrier: Retrier) -> None:
        self._login = login if isinstance(login, Login) else Login(login)
        self._retrier = retrier
        self._connection: asyncpg.Connection[Any] | None = None
        self._place = "its socket"
        self._role: str | None = None
        self._has_password = False
        #: What there is to say about the connection's settings.
        self.notices: list[str] = []
        #: Looks at the server before each transaction, and raises where it is not the one to read from.
        self.guard: Callable[[Any], Awaitable[None]] | None = None

    def another(self) -> Self:
        """A session like this one, with a connection of its own."""
        other = copy.copy(self)
        other._connection = None  # noqa: SLF001 - it is one of us
        return other

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
            await self._told(lambda: connection.execute("COMMIT", timeout=self._prompt), op, subject)
        except BaseException:
            self.drop()
            raise

    async def freeze(self) -> Self:
        """A session that reads everything as of now, and so do those made from it: all share one exported snapshot.

        This one keeps the snapshot and can do nothing else; when it loses its connection, or is closed, nothing can be
        read as of then any more.
        Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION.

        Raises:
            AsyncupError: it cannot be had.
        """
        begin = self._begin.replace("READ COMMITTED", "REPEATABLE READ")

        async def export() -> str:
            connection = await self._began(begin)
            await connection.fetch(NO_TIMEOUTS)
            return str(await connection.fetchval("SELECT pg_export_snapshot()"))

        name = await self._retrier.run(lambda _: self._told(export, "export snapshot", "database"), None)
        isolation, _, settings = begin.partition(";")
        reader = self.another()
        reader._begin = f"{isolation}; SET TRANSACTION SNAPSHOT '{name}';{settings}"  # noqa: SLF001 - it is one of us
        reader._is_frozen = True  # noqa: SLF001
        return reader

    async def refused(self) -> AsyncupError | None:
        """Why no connection can be had now, without trying again; None when there is one."""
        try:
            await self._told(self._connected, "connect", "database")
        except AsyncupError as error:
            return error
        return None

    async def _once(self, work: Callable[[Any], Awaitable[R]], op: str, subject: str) -> R:
        async def whole() -> R:
            connection = await self._began(self._begin)
            result = await work(connection)
            await connection.execute("COMMIT", timeout=self._prompt)
            return result

        return await self._told(whole, op, subject)

    async def _began(self, begin: str) -> Any:
        connection = await self._connected()
        try:
            await connection.execute(begin, timeout=self._prompt)
        except asyncpg.PostgresError as exc:
            if not self._is_frozen or exc.sqlstate not in _NO_SNAPSHOT:
                raise
            raise ReadingBroken(
                "import",
                "snapshot",
                f"the snapshot that this run reads has gone with its connection: {exc.message}",
                "run it again from the beginning, or leave --snapshot out: such a run resumes",
            ) from exc
        if self.guard is not None:
            await self.guard(connection)
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
                known = str(exc) if isinstance(exc, asyncpg.InterfaceError) else "a name in it is none of a host"
                error = ConfigError("connect", self._login.origin, known, "check host, port and user")
            else:
                error = Unreachable(op, subject, f"the connection to the database was lost: {exc}")
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
            error = _unreadable(exc) or _unreachable(
                exc, op if self._connection is not None else "connect", subject, self._place
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
        closed = isinstance(exc, asyncpg.ConnectionDoesNotExistError) and isinstance(
            exc.__cause__, asyncpg.PostgresError
        )
        if closed:
            exc = exc.__cause__  # the server's last words, with which it closed the connection
        state = getattr(exc, "sqlstate", None) or ""
        message = (exc.message or str(exc)).strip()  # str() of it repeats detail and hint
        if exc.detail:
            message += f" ({exc.detail})"
        error = error_of(Fault(state, message, exc.hint, closed, self._role), op, subject)
        if state == "28P01" and not self._has_password:
            reason = "; ".join(self.notices) or "no password was found"
            error.hint = f"{reason}: give it in --dsn, PGPASSWORD or ~/.pgpass, or with --password-command"
        return error

    async def _connected(self) -> asyncpg.Connection[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            self._connection = await self._open()
        return self._connection

    async def _open(self) -> asyncpg.Connection[Any]:
        """A connection to the first server that takes it.

        Raises:
            ConfigError: the settings make no connection.
            Exception: what the last server that could not be reached came to.
        """
        target = await asyncio.to_thread(self._login.target)
        self._place, self._role = target.place, target.user
        password = await self._made_password()
        wanted = ("standby", "any") if target.attributes == "prefer-standby" else (target.attributes,)
        servers = random.sample(target.servers, len(target.servers)) if target.is_shuffled else target.servers
        if self._is_frozen and self._server is not None:
            servers = [self._server]  # a snapshot is that of one server
        failures: list[Exception] = []
        for attributes in wanted:
            for server in servers:
                try:
                    connection = await self._reach(target, server, attributes, password)
                except (
                    OSError,
                    asyncpg.CannotConnectNowError,
                    asyncpg.TargetServerAttributeNotMatched,
                    ConfigError,  # TLS does not come about: another server may do better
                ) as exc:
                    failures.append(exc)
                else:
                    self._server = server
                    _keep_alive(connection, target.keepalives)
                    return connection
        try:
            last = next((exc for exc in reversed(failures) if not isinstance(exc, ConfigError)), failures[-1])
            if isinstance(last, asyncpg.TargetServerAttributeNotMatched):
                raise ConnectionError(f"no server there is {target.attributes}, as target_session_attrs asks")
            raise last
        finally:
            failures.clear()  # each knows this frame, and the frame them

    async def _made_password(self) -> str | None:
        try:
            return await self._login.made_password()
        except AsyncupError as error:
            if isinstance(error, Unreachable) and not self._retrier.answered:
                # it has never worked, so that it is wrong is likelier than that it is to wait for
                raise ConfigError(error.op, error.subject, error.message, error.hint) from error
            raise
        except Exception as exc:
            raise ConfigError("connect", "password", f"the callable raised {exc.__class__.__name__}: {exc}") from exc

    async def _reach(
        self, target: Target, server: Server, attributes: str, password: str | None
    ) -> asyncpg.Connection[Any]:
        """A connection to one server. The driver looks nothing up: what it could find has been looked up before.

        Raises:
            ConfigError: TLS, which has to be, does not come about.
        """
        if password is None:
            password, warning = await asyncio.to_thread(target.password_for, server)
            self.notices += [warning] if warning is not None and warning not in self.notices else []
        self._has_password = bool(password)
        mode = "disable" if server.is_socket else target.tls.mode_for(is_local=server.is_local)
        arguments: dict[str, Any] = {
            "ssl": False,
            "direct_tls": target.tls.is_direct and mode != "disable",
            "host": server.address or server.host,
            "port": server.port,
            "user": target.user,
            "password": lambda: password or "",
            "database": target.database,
            "server_settings": dict(target.parameters),
            "target_session_attrs": attributes,
            "timeout": target.timeout,
            "command_timeout": STATEMENT_SECONDS,
            "statement_cache_size": 0,  # a pooler gives a named statement to somebody else
            **target.kerberos,
        }
        if mode in {"allow", "prefer"}:
            arguments |= {"ssl": None, "dsn": target.tls.preferred(mode)}
        elif mode != "disable":
            name = server.host if server.address else None
            arguments["ssl"] = await asyncio.to_thread(target.tls.context, mode, name)
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(**arguments)
        except ssl.SSLError as exc:
            raise refusal(exc, str(server)) from exc
        except ConnectionError as exc:
            if mode not in {"disable", "allow", "prefer"} and "rejected SSL upgrade" in str(exc):
                raise unencrypted(str(server), mode, is_asked_for=target.tls.mode is not None) from exc
            raise
        return connection

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


def _keep_alive(connection: Any, options: Mapping[str, int]) -> None:
    """Notice a server that has vanished without a word, and keep firewalls from forgetting the flow.

    What the system does not have (macOS, Windows) is left out. Source: https://man7.org/linux/man-pages/man7/tcp.7.html.
    """
    transport = connection._transport  # noqa: SLF001 - the driver gives no other way to its socket
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in options.items():
        if hasattr(socket, name):
            level = socket.SOL_SOCKET if name == "SO_KEEPALIVE" else socket.IPPROTO_TCP
            found.setsockopt(level, getattr(socket, name), value)


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
    words = re.sub(r"^\[Errno -?\d+\] ", "", str(exc))
    reason = words or ("timed out" if isinstance(exc, TimeoutError) else exc.__class__.__name__)
    return Unreachable(
        op,
        subject,
        f"cannot reach the database at {place}: {reason}",
        "check host and port, and that it runs; --dsn, DATABASE_URL or the PG* variables say where it is",
    )
