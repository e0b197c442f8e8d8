"""Getting in: connection settings as psql takes them, passwords from elsewhere, and servers that prove who they are."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncup.embedded.postgres import PASSWORD, USER, EmbeddedPostgres
from asyncup.embedded.server import free_port
from asyncup.errors import ConfigError, SourceRefused, Unreachable
from asyncup.sources.connection import passwords
from asyncup.sources.connection.login import Login
from asyncup.sources.connection.session import Session
from tests.conftest import Database, Program
from tests.integration.certificates import Certificate, make_certificate
from tests.integration.poolers import Pooler, pgbouncer
from tests.integration.reading import QuickRetrier, prepared

NAME = "db.example.com"


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "logins") as database:
        yield database


@pytest.fixture
def keywords(database: Database) -> str:
    """How to get in but for the host and the password."""
    return f"dbname={database.name} user={USER} port={database.server.port} "


async def ask(login: Login | str | None, question: str = "SELECT 1", retrier: QuickRetrier | None = None) -> Any:
    """One value from the server."""
    session = Session(login, retrier or QuickRetrier())

    async def work(connection: Any) -> Any:
        return await connection.fetchval(question)

    try:
        return await session.run(work, "read", "t")
    finally:
        await session.close()


async def test_keywords_and_values_lead_there_as_a_uri_does(keywords: str, database: Database) -> None:
    question = "SELECT current_setting('application_name') || ' ' || current_database()"
    assert await ask(f"{keywords} host=127.0.0.1 password='{PASSWORD}'", question) == f"asyncup {database.name}"
    assert await ask(f"{database.dsn}?application_name=a%20name", question) == f"a name {database.name}"
    assert await ask(f"{database.dsn}?options=-c%20work_mem%3D65MB", "SHOW work_mem") == "65MB"


async def test_the_environment_leads_there_and_a_service_does(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in database.server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGDATABASE", database.name)
    assert await ask(None, "SELECT current_database()") == database.name
    (tmp_path / "services").write_text(f"[a]\nhost=127.0.0.1\ndbname={database.name}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGDATABASE", "nowhere")
    monkeypatch.setenv("PGHOST", "nowhere.invalid")
    assert await ask("service=a", "SELECT current_database()") == database.name


async def test_the_first_host_that_answers_is_taken(keywords: str) -> None:
    keywords = keywords.replace("port=", f"password='{PASSWORD}' port={free_port()},")
    assert await ask(f"{keywords} host=127.0.0.1,localhost") == 1
    assert await ask(f"{keywords} host=/nowhere,127.0.0.1 load_balance_hosts=random") == 1
    retrier = QuickRetrier()
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1, port \d+; /nowhere, port") as failed:
        await ask(f"{keywords} host=127.0.0.1,/nowhere", retrier=retrier)
    assert failed.value.attempts > 1


@pytest.mark.parametrize(
    ("attributes", "is_served"),
    [("any", True), ("primary", True), ("read-write", True), ("prefer-standby", True), ("standby", False)],
)
async def test_a_server_has_to_be_what_was_asked_for(database: Database, attributes: str, is_served: bool) -> None:
    dsn = f"{database.dsn}?target_session_attrs={attributes}"
    if is_served:
        assert await ask(dsn) == 1
        return
    with pytest.raises(Unreachable, match="as target_session_attrs asks"):
        await ask(dsn)


async def test_keepalives_are_set_as_asked_for(database: Database) -> None:
    session = Session(f"{database.dsn}?keepalives_idle=7&tcp_user_timeout=9000", QuickRetrier())

    async def look(connection: Any) -> tuple[int, ...]:
        found = connection._transport.get_extra_info("socket")
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        return tuple(found.getsockopt(socket.IPPROTO_TCP, name) for name in names)

    assert await session.run(look, "read", "t") == (7, 15, 4, 9000)
    await session.close()


@pytest.fixture
def passfile(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "pgpass"
    path.write_text(f"*:{database.server.port}:*:{USER}:{PASSWORD}\n")
    path.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(path))
    return path


async def test_a_password_file_is_read_for_each_connection(keywords: str, passfile: Path) -> None:
    assert await ask(f"{keywords} host=127.0.0.1") == 1
    good = passfile.read_text()
    passfile.write_text("*:*:*:*:wrong")
    with pytest.raises(SourceRefused, match="password authentication failed"):
        await ask(f"{keywords} host=127.0.0.1")
    passfile.write_text(good)
    assert await ask(f"{keywords} host=127.0.0.1") == 1


async def test_a_password_file_that_others_may_read_is_named_where_a_password_is_missing(
    keywords: str, passfile: Path
) -> None:
    passfile.chmod(0o644)
    with pytest.raises(SourceRefused) as refused:
        await ask(f"{keywords} host=127.0.0.1")
    assert "others may read it" in (refused.value.hint or "")
    assert str(passfile) in (refused.value.hint or "")


async def test_a_missing_password_is_said_to_be_missing(keywords: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        await ask(f"{keywords} host=127.0.0.1 passfile=/nowhere")
    assert "no password was found" in (refused.value.hint or "")
    assert refused.value.attempts == 1


def plain() -> str:
    time.sleep(0.01)  # allowed: it runs in a thread
    return PASSWORD


async def later() -> str:
    await asyncio.sleep(0)
    return PASSWORD


class Maker:
    """A callable that is async without being a coroutine function."""

    def __call__(self) -> Awaitable[str]:
        return later()


@pytest.mark.parametrize("password", [plain, later, Maker(), PASSWORD], ids=["plain", "async", "object", "text"])
async def test_a_password_comes_from_a_callable_each_time(
    keywords: str, password: str | Callable[[], str | Awaitable[str]]
) -> None:
    assert await ask(Login(f"{keywords} host=127.0.0.1 password=other", password=password)) == 1


@pytest.mark.parametrize(
    ("password", "message"),
    [(lambda: None, "gave NoneType"), (lambda: {}["token"], "the callable raised KeyError")],
)
async def test_a_callable_that_gives_no_password_is_said_so(keywords: str, password: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        await ask(Login(f"{keywords} host=127.0.0.1", password=password))
    assert refused.value.attempts == 1


async def test_a_command_prints_a_password_for_each_connection(
    keywords: str, database: Database, tmp_path: Path
) -> None:
    command = f"echo called >> {tmp_path}/calls; printf '%s\\nmore\\n' {PASSWORD}; echo warning >&2"
    session = Session(Login(f"{keywords} host=127.0.0.1", command=command), QuickRetrier())

    async def work(connection: Any) -> Any:
        return await connection.fetchval("SELECT pg_backend_pid()")

    pid = await session.run(work, "read", "t")
    assert await session.run(work, "read", "t") == pid
    await asyncio.to_thread(database.sql, f"SELECT pg_terminate_backend({pid}, 5000)")
    assert await session.run(work, "read", "t") != pid
    await session.close()
    assert (tmp_path / "calls").read_text() == "called\n" * 2


@pytest.mark.parametrize(
    ("command", "message", "is_lasting"),
    [
        ("echo 'no such profile' >&2; exit 3", "ended with exit code 3: no such profile", False),
        ("no-such-command-at-all", "cannot be run: .*not found", True),
        ("true", "printed no password", True),
        ("echo; echo second", "printed no password", True),
    ],
)
async def test_a_command_that_gives_no_password_is_told_with_what_it_said(
    keywords: str, command: str, message: str, is_lasting: bool
) -> None:
    login = Login(f"{keywords} host=127.0.0.1", command=command)
    with pytest.raises(ConfigError, match=message) as refused:
        await ask(login)
    assert (refused.value.subject, refused.value.attempts) == ("--password-command", 1)
    retrier = QuickRetrier()
    retrier.answered = True  # in the middle of a run
    with pytest.raises(ConfigError if is_lasting else Unreachable, match=message) as failed:
        await ask(login, retrier=retrier)
    assert (failed.value.attempts > 1) is not is_lasting


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    keywords: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "COMMAND_SECONDS", 0.2)
    login = Login(f"{keywords} host=127.0.0.1", command=f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    async with asyncio.timeout(10):
        with pytest.raises(ConfigError, match=r"printed no password in 0\.2 seconds"):
            await ask(login)
        pid = int((tmp_path / "pid").read_text())
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
            await asyncio.sleep(0.01)


def test_the_program_takes_a_service_and_a_command_and_shows_no_password(
    asyncup: Program, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "services").write_text(f"[shop]\nhost=127.0.0.1\nuser={USER}\ndbname={database.name}\n")
    environment = {
        "PGSERVICEFILE": str(tmp_path / "services"),
        "PGPORT": str(database.server.port),
        "ASYNCUP_PASSWORD_COMMAND": f"echo {PASSWORD}",
    }
    query = ("sync", "--dsn=service=shop", "--query=SELECT 1 AS id", "--key=id", "--to=null:", "--output=json", "-vv")
    run = asyncup(*query, **environment)
    assert (run.code, run.summary["rows"]) == (0, 1), run.stderr
    assert PASSWORD not in run.stdout + run.stderr + "".join(
        path.read_text() for path in asyncup.folder.rglob("*.json")
    )
    run = asyncup(*query, **environment | {"ASYNCUP_PASSWORD_COMMAND": "echo 'token is gone' >&2; exit 9"})
    assert run.code == 2
    assert run.summary["error"]["subject"] == "ASYNCUP_PASSWORD_COMMAND"
    assert "token is gone" in run.summary["error"]["message"]


async def test_the_library_takes_a_callable(database: Database, keywords: str, tmp_path: Path) -> None:
    import asyncup

    report = await asyncup.sync(
        dsn=f"{keywords} host=127.0.0.1",
        password=later,
        query="SELECT 1 AS id",
        key="id",
        to="null:",
        state=str(tmp_path),
    )
    assert report.status == "complete"


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(servers_folder: Path) -> Certificate:
    folder = servers_folder / "certificate"
    folder.mkdir()
    made = make_certificate(folder, NAME, "localhost")
    made.key.chmod(0o644)  # of a test, for a server that runs as nobody
    return made


@pytest.fixture(scope="module")
def stranger(servers_folder: Path) -> Certificate:
    folder = servers_folder / "stranger"
    folder.mkdir()
    return make_certificate(folder, NAME, "localhost")


def tls(certificate: Certificate, mode: str) -> tuple[str, ...]:
    return (
        f"client_tls_sslmode = {mode}",
        f"client_tls_key_file = {certificate.key}",
        f"client_tls_cert_file = {certificate.certificate}",
        f"client_tls_ca_file = {certificate.certificate}",
    )


@pytest.fixture(scope="module")
def secure(postgres: EmbeddedPostgres, servers_folder: Path, certificate: Certificate) -> Iterator[Pooler]:
    """A pooler that speaks TLS, since the server from the wheel does not."""
    with pgbouncer(postgres, servers_folder / "secure", "transaction", *tls(certificate, "allow")) as pooler:
        yield pooler


@pytest.fixture(scope="module")
def asking(postgres: EmbeddedPostgres, servers_folder: Path, certificate: Certificate) -> Iterator[Pooler]:
    """A pooler that wants a certificate of the client."""
    with pgbouncer(postgres, servers_folder / "asking", "transaction", *tls(certificate, "verify-ca")) as pooler:
        yield pooler


async def is_encrypted(text: str, pooler: Pooler, database: Database) -> bool:
    session = Session(
        f"{text} dbname={database.name} user={USER} password={PASSWORD} port={pooler.port}", QuickRetrier()
    )

    async def look(connection: Any) -> bool:
        return isinstance(connection._transport.get_extra_info("ssl_object"), ssl.SSLObject)

    try:
        return await session.run(look, "read", "t")
    finally:
        await session.close()


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("host=localhost sslmode=disable", False),
        ("host=localhost", True),
        ("host=localhost sslmode=prefer", True),
        ("host=localhost sslmode=allow", False),
        ("host=127.0.0.1 sslmode=require", True),
        ("host=localhost sslmode=verify-full sslrootcert={own}", True),
        ("host=127.0.0.1 sslmode=verify-ca sslrootcert={own}", True),
        ("host=127.0.0.1 sslmode=verify-full sslrootcert={own}", "IP address mismatch"),
        (f"host={NAME} hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={{own}}", True),
        ("host=other.example.com hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={own}", "Hostname mismatch"),
        ("host=localhost sslmode=verify-full sslrootcert={other}", "self.signed certificate"),
        ("host=localhost sslmode=verify-ca sslrootcert={other}", "self.signed certificate"),
        ("host=localhost sslmode=require sslrootcert={other}", "self.signed certificate"),
        ("host=localhost sslmode=verify-full", "self.signed certificate"),
        ("host=localhost sslrootcert=system", "self.signed certificate"),
        ("host=localhost sslmode=require ssl_min_protocol_version=TLSv1.3", True),
        ("host=localhost sslmode=verify-full sslrootcert={own} sslcrl={own}", "CRL"),
    ],
)
async def test_a_server_has_to_prove_who_it_is_as_far_as_asked_for(
    secure: Pooler,
    database: Database,
    certificate: Certificate,
    stranger: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    outcome: bool | str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = text.format(own=certificate.certificate, other=stranger.certificate)
    if isinstance(outcome, bool):
        assert await is_encrypted(text, secure, database) is outcome
        return
    with pytest.raises(ConfigError, match=outcome) as refused:
        await is_encrypted(text, secure, database)
    assert refused.value.attempts == 1
    assert "sslrootcert=FILE" in (refused.value.hint or "")


async def test_an_authority_can_be_left_at_home_or_in_the_environment(
    secure: Pooler, database: Database, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").symlink_to(certificate.certificate)
    assert await is_encrypted("host=localhost sslmode=verify-full", secure, database)
    (tmp_path / ".postgresql" / "root.crt").unlink()
    monkeypatch.setenv("PGSSLROOTCERT", str(certificate.certificate))
    assert await is_encrypted("host=localhost sslmode=verify-full", secure, database)


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
async def test_a_certificate_of_ones_own_is_shown(
    asking: Pooler,
    database: Database,
    certificate: Certificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = f"host=localhost sslmode={mode} sslrootcert={certificate.certificate}"
    own = f"{text} sslcert={certificate.certificate} sslkey={certificate.key}"
    assert await is_encrypted(own, asking, database)
    with pytest.raises((ConfigError, Unreachable, SourceRefused)):
        await is_encrypted(text, asking, database)


async def test_a_server_without_tls_is_told_with_the_way_out(database: Database) -> None:
    with pytest.raises(ConfigError, match="does not speak TLS, and sslmode=verify-full wants it") as refused:
        await ask(f"{database.dsn}?sslmode=verify-full")
    assert "sslmode=prefer" in (refused.value.hint or "")
    assert refused.value.attempts == 1
    assert await ask(f"{database.dsn}?sslmode=allow") == 1
