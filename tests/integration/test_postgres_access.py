"""Who may read what, and what is said when the server does not let us in or cannot be reached at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.embedded.server import free_port
from asyncup.errors import ConfigError, Disposition, SourceRefused, Unreachable
from asyncup.sources.connection import servers
from tests.conftest import Database
from tests.integration.reading import (
    QuickRetrier,
    emptied,
    prepared,
    read,
    rows,
    source,
    sql,
)

PASSWORD = "it's p@ss:word/?#%"


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "access") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


@dataclass
class Role:
    """A role without any right of its own."""

    name: str
    database: Database

    @property
    def dsn(self) -> str:
        return f"postgresql://{self.name}:{quote(PASSWORD, safe='')}@{self.database.dsn.rpartition('@')[2]}"


@pytest.fixture
def role(database: Database) -> Iterator[Role]:
    """A role, and a table `t` of three rows that it may not read."""
    name = "reader_of_t"
    database.sql(
        f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}';"
        "CREATE TABLE t (n int PRIMARY KEY, owner text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'a');"
    )
    yield Role(name, database)
    database.sql(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


async def test_a_role_that_may_only_select_can_read(role: Role) -> None:
    await sql(role.database, f"GRANT SELECT ON t TO {role.name}")
    assert len(await read(role.database, dsn=role.dsn, table="t")) == 3


@pytest.mark.parametrize(
    ("change", "what", "message"),
    [
        ("SELECT", {"table": "t"}, "permission denied for table t"),
        ("SELECT", {"query": "TABLE t", "key": ("n",)}, "permission denied for table t"),
        ("GRANT SELECT (n) ON t TO {0}", {"table": "t"}, "permission denied for table t"),
        ("CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s; GRANT SELECT ON s.t TO {0}", {"table": "s.t"}, "for schema s"),
        (
            "CREATE VIEW v WITH (security_invoker) AS TABLE t; GRANT SELECT ON v TO {0}",
            {"table": "v", "key": ("n",)},
            "for table t",
        ),
    ],
    ids=["a table", "a query", "a column", "a schema", "a view"],
)
async def test_a_missing_privilege_is_named(role: Role, change: str, what: dict[str, object], message: str) -> None:
    await sql(role.database, change.format(role.name))
    with pytest.raises(SourceRefused, match=message) as refused:
        await read(role.database, dsn=role.dsn, **what)
    assert "GRANT SELECT" in (refused.value.hint or "")
    assert refused.value.attempts == 1


async def test_columns_that_may_be_read_are_enough_for_a_body_of_one(role: Role) -> None:
    await sql(role.database, f"GRANT SELECT (n) ON t TO {role.name}")
    assert [row[-1] for row in await read(role.database, dsn=role.dsn, table="t", body="n")] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("what", [{"table": "t"}, {"query": "TABLE t", "key": ("n",)}], ids=["table", "query"])
async def test_row_security_that_would_hide_rows_is_refused(role: Role, what: dict[str, object], forced: bool) -> None:
    await sql(
        role.database,
        f"GRANT SELECT ON t TO {role.name}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY own ON t USING (owner = 'a');"
        + f"ALTER TABLE t OWNER TO {role.name}, FORCE ROW LEVEL SECURITY"
        * forced,
    )
    with pytest.raises(SourceRefused, match=r'row-level security policy for table "t"') as refused:
        await read(role.database, dsn=role.dsn, **what)
    assert "BYPASSRLS" in (refused.value.hint or "")
    await sql(role.database, f"ALTER ROLE {role.name} BYPASSRLS")
    assert len(await read(role.database, dsn=role.dsn, **what)) == 3


@pytest.mark.parametrize(
    ("change", "part", "other", "message", "hint"),
    [
        ("SELECT", quote(PASSWORD, safe=""), "secret", "password authentication failed", "PGPASSWORD"),
        ("SELECT", "reader_", "nobody_", "password authentication failed", "PGPASSWORD"),
        ("SELECT", "/access", "/nowhere", 'database "nowhere" does not exist', "PGDATABASE"),
        ("ALTER ROLE {0} NOLOGIN", "", "", "not permitted to log in", "pg_hba.conf"),
        ("REVOKE CONNECT ON DATABASE {1} FROM public", "", "", "permission denied for database", "GRANT CONNECT"),
    ],
    ids=["password", "role", "database", "login", "connect"],
)
async def test_a_door_that_stays_shut_is_refused_at_once(
    role: Role, change: str, part: str, other: str, message: str, hint: str
) -> None:
    await sql(role.database, change.format(role.name, role.database.name))
    with pytest.raises(SourceRefused, match=message) as refused:
        await read(role.database, dsn=role.dsn.replace(part, other), table="t")
    assert hint in (refused.value.hint or "")
    assert refused.value.attempts == 1
    assert "secret" not in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://u@127.0.0.1:port/db", "postgresql://u@127.0.0.1/db?sslmode=sometimes"],
    ids=["port", "sslmode"],
)
async def test_a_dsn_that_cannot_be_read_is_refused_at_once(database: Database, dsn: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await read(database, dsn=dsn, table="t")
    assert refused.value.subject == "--dsn"
    assert refused.value.attempts == 1


async def test_a_role_out_of_connections_is_tried_again(role: Role) -> None:
    await sql(role.database, f"GRANT SELECT ON t TO {role.name}; ALTER ROLE {role.name} CONNECTION LIMIT 1")
    async with source(role.database, dsn=role.dsn, table="t") as reader:
        with pytest.raises(Unreachable, match="too many connections for role") as refused:
            await read(role.database, dsn=role.dsn, table="t")
        assert refused.value.attempts > 1
        assert len(await rows(reader)) == 3


@contextlib.asynccontextmanager
async def somebody(answer: bytes | None) -> AsyncIterator[int]:
    """A port where somebody listens who is no PostgreSQL: gives an answer and hangs up, or never says a word."""
    hung_up = asyncio.Event()
    greeting: set[asyncio.Task[None]] = set()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        greeting.add(task)
        task.add_done_callback(greeting.discard)
        with contextlib.suppress(OSError):
            if answer is None:
                await hung_up.wait()
            else:
                await reader.read(1)
                writer.write(answer)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, family=socket.AF_INET)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        hung_up.set()
        server.close()
        await server.wait_closed()
        if greeting:
            await asyncio.wait(greeting)  # no connection may be left for another test to stumble over


@pytest.mark.parametrize(
    "answer",
    [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"N"],
    ids=["silence", "hanging up", "another protocol", "half a greeting"],
)
async def test_a_server_that_does_not_answer_is_unreachable_after_a_bounded_time(
    database: Database, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(servers, "CONNECT_TIMEOUT", 0.1)
    async with asyncio.timeout(20), somebody(answer) as port:
        with pytest.raises(Unreachable) as refused:
            await read(database, dsn=f"postgresql://u:secret@127.0.0.1:{port}/db", table="t")
    assert refused.value.disposition is Disposition.ABORT
    assert refused.value.attempts > 1
    assert "secret" not in str(refused.value)


async def test_a_port_where_nobody_listens_is_unreachable_and_named(database: Database) -> None:
    port, retrier = free_port(), QuickRetrier()
    with pytest.raises(Unreachable, match=str(port)) as refused:
        await read(database, dsn=f"postgresql://u@127.0.0.1:{port}/db", table="t", retrier=retrier)
    assert refused.value.disposition is Disposition.ABORT
    assert len(retrier.retries) == refused.value.attempts - 1 > 0
    assert "host and port" in (refused.value.hint or "")
