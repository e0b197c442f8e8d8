"""Which servers a connection goes to, with which password, and how sure it has to be of them."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from asyncup.errors import ConfigError
from asyncup.sources.connection.conninfo import gather
from asyncup.sources.connection.servers import SOCKETS, Server, Target
from tests.unit.libpq import Libpq


@pytest.fixture(scope="module")
def libpq() -> Libpq:
    return Libpq()


def target(text: str = "", **environment: str) -> Target:
    return Target.of(gather(text, "--dsn", environment), environment)


def test_without_a_word_it_is_this_machine_and_this_user() -> None:
    import pwd

    found = target()
    assert [str(server) for server in found.servers] == [f"{place}, port 5432" for place in (*SOCKETS, "localhost")]
    assert found.user == found.database == pwd.getpwuid(os.geteuid()).pw_name
    assert (found.attributes, found.timeout, found.parameters) == ("any", 10.0, {"application_name": "asyncup"})
    assert "/tmp/.s.PGSQL.5432), since --dsn, DATABASE_URL and PGHOST name no host" in found.place


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("host=a", [("a", "", 5432)]),
        ("host=a,b port=1,2", [("a", "", 1), ("b", "", 2)]),
        ("host=a,b port=7", [("a", "", 7), ("b", "", 7)]),
        ("host=a,b port=,2", [("a", "", 5432), ("b", "", 2)]),
        ("postgresql://a:1,[::1]:2,c/d", [("a", "", 1), ("::1", "", 2), ("c", "", 5432)]),
        ("postgresql://%2Frun%2Fpg:1/d", [("/run/pg", "", 1)]),
        ("postgresql:///d?host=/run/pg&port=6", [("/run/pg", "", 6)]),
        ("host=a hostaddr=10.0.0.1", [("a", "10.0.0.1", 5432)]),
        ("hostaddr=10.0.0.1,::1", [("", "10.0.0.1", 5432), ("", "::1", 5432)]),
        ("host=a,b hostaddr=,10.0.0.2", [("a", "", 5432), ("b", "10.0.0.2", 5432)]),
    ],
)
def test_hosts_have_the_ports_and_addresses_of_their_places(text: str, servers: list[tuple[str, str, int]]) -> None:
    assert target(text).servers == tuple(Server(*each) for each in servers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("host=a,b port=1,2,3", "2 hosts have 3 ports"),
        ("host=a,b hostaddr=10.0.0.1", "2 hosts have 1 addresses"),
        ("hostaddr=db", "hostaddr is not an IP address"),
        ("host=a port=0", "no number from 1 to 65535"),
        ("host=a port=65536", "no number from 1 to 65535"),
        ("postgresql://a:hunter2/d", "no number from 1 to 65535"),
        ("host=@abstract", "sockets without a file"),
        ("sslmode=on", "sslmode is none of"),
        ("sslmode=", None),
        ("sslmode=require sslrootcert=system", "sslrootcert=system is not for sslmode=require"),
        ("sslnegotiation=direct sslmode=prefer", "not negotiated with sslmode=prefer"),
        ("sslnegotiation=late", "sslnegotiation is none of"),
        ("sslcertmode=require", "sslcertmode is none of"),
        ("ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version is no version"),
        ("target_session_attrs=master", "target_session_attrs is none of"),
        ("load_balance_hosts=on", "load_balance_hosts is none of"),
        ("connect_timeout=soon", "connect_timeout is not a whole number"),
        ("keepalives_idle=1min", "keepalives_idle is not a whole number"),
    ],
)
def test_a_value_that_cannot_be_is_refused(text: str, message: str | None) -> None:
    if message is None:
        target(text)
        return
    with pytest.raises(ConfigError, match=message) as refused:
        target(text)
    assert "hunter2" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("server", "is_local"),
    [
        (Server("/run", "", 1), True),
        (Server("localhost", "", 1), True),
        (Server("127.8.9.1", "", 1), True),
        (Server("::1", "", 1), True),
        (Server("db.example.com", "127.0.0.1", 1), True),
        (Server("localhost", "10.0.0.1", 1), False),
        (Server("10.0.0.1", "", 1), False),
        (Server("db", "", 1), False),
        (Server("localhost.example.com", "", 1), False),
        (Server("127.0.0.1.example.com", "", 1), False),
        (Server("::2", "", 1), False),
    ],
    ids=str,
)
def test_only_a_server_on_this_machine_need_not_prove_who_it_is(server: Server, is_local: bool) -> None:
    assert server.is_local is is_local
    assert target().tls.mode_for(is_local=is_local) == ("prefer" if is_local else "verify-full")
    assert target("sslmode=allow").tls.mode_for(is_local=is_local) == "allow"
    assert target(PGSSLMODE="require").tls.mode_for(is_local=is_local) == "require"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 10.0), ("connect_timeout=3", 3), ("connect_timeout=0", None), ("connect_timeout=-1", None)],
)
def test_the_time_to_connect_is_bounded_unless_asked_otherwise(text: str, seconds: float | None) -> None:
    assert target(text).timeout == seconds


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (
            "",
            {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000},
        ),
        ("keepalives=0 tcp_user_timeout=0", {}),
        ("keepalives=0", {"TCP_USER_TIMEOUT": 120_000}),
        (
            "keepalives_idle=5 keepalives_interval=0 keepalives_count=2 tcp_user_timeout=7",
            {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 7},
        ),
    ],
)
def test_a_server_that_has_vanished_is_noticed_unless_asked_otherwise(text: str, options: dict[str, int]) -> None:
    assert target(text).keepalives == options


@pytest.mark.parametrize(
    ("text", "environment", "parameters"),
    [
        ("application_name=a fallback_application_name=b", {}, {"application_name": "a"}),
        ("fallback_application_name=b", {}, {"application_name": "b"}),
        ("fallback_application_name=b", {"PGAPPNAME": "c"}, {"application_name": "c"}),
        ("", {"PGOPTIONS": "-c x=1"}, {"application_name": "asyncup", "options": "-c x=1"}),
    ],
)
def test_the_server_is_told_the_program_and_what_was_asked_for(
    text: str, environment: dict[str, str], parameters: dict[str, str]
) -> None:
    assert target(text, **environment).parameters == parameters


PASSWORDS = r"""
# a comment:5432:*:*:no
nowhere:5432:d:u:other host
h:5433:d:u:other port
h:5432:e:u:other database
h:5432:d:v:other role
h:5432:d:u:first
h:5432:d:u:second
*:5432:*:x\:y:colon\:back\\slash\z:rest
localhost:*:*:u:local
/tmp/x:*:*:u:a socket of its own
10.0.0.9:*:*:u:an address
bad:line
é*:5432:d:u:no wildcard
"""


@pytest.fixture
def passfile(tmp_path: Path) -> Path:
    path = tmp_path / ".pgpass"
    path.write_text(PASSWORDS)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "host=h user=u dbname=d",
        "host=h user=u dbname=f",
        "host=h user=x:y dbname=anything",
        "host=localhost user=u dbname=d port=1",
        "host=/tmp user=u dbname=d",
        "host=/tmp/x user=u dbname=d",
        "hostaddr=10.0.0.9 user=u dbname=d",
        "host=h hostaddr=10.0.0.9 user=u dbname=d",
        "host=é user=u dbname=d",
        "host=h user=u dbname=d password=given",
    ],
)
def test_a_password_is_found_where_libpq_finds_it(passfile: Path, libpq: Libpq, text: str) -> None:
    found = target(text, HOME=str(passfile.parent))
    password, warning = found.password_for(found.servers[0])
    assert (password or "", warning) == (libpq.password(f"{text} passfile={passfile}"), None)


def test_each_host_has_its_own_password(passfile: Path) -> None:
    found = target("host=h,localhost user=u dbname=d", PGPASSFILE=str(passfile))
    assert [found.password_for(server)[0] for server in found.servers] == ["first", "local"]


@pytest.mark.parametrize(("mode", "reason"), [(0o640, "others may read it"), (0o604, "others may read it")])
def test_a_password_file_that_others_may_read_is_left_out_with_a_warning(
    passfile: Path, mode: int, reason: str
) -> None:
    passfile.chmod(mode)
    found = target("host=h user=u dbname=d", HOME=str(passfile.parent))
    password, warning = found.password_for(found.servers[0])
    assert password is None
    assert reason in (warning or "")
    assert str(passfile) in (warning or "")


def test_a_password_file_that_is_none_is_left_out(tmp_path: Path) -> None:
    found = target("host=h user=u", PGPASSFILE=str(tmp_path))
    password, warning = found.password_for(found.servers[0])
    assert password is None
    assert "no plain file" in (warning or "")
    assert target("host=h", PGPASSFILE="/nowhere").password_for(found.servers[0]) == (None, None)


def test_tls_trusts_whom_it_is_told_to(tmp_path: Path) -> None:
    context = target("host=h", HOME=str(tmp_path)).tls.context("verify-full", None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    context = target("host=h", HOME=str(tmp_path)).tls.context("verify-ca", None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)
    context = target("sslrootcert=system").tls.context("verify-full", None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    context = target("ssl_min_protocol_version=TLSv1.3", HOME=str(tmp_path)).tls.context("require", None)
    assert (context.verify_mode, context.minimum_version) == (ssl.CERT_NONE, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("keyword", ["sslrootcert", "sslcrl", "sslcert"])
@pytest.mark.parametrize("content", [None, "no PEM"])
def test_a_file_that_tls_cannot_use_is_named(tmp_path: Path, keyword: str, content: str | None) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=str(path)) as refused:
        target(f"{keyword}={path}", HOME=str(tmp_path)).tls.context("verify-full", None)
    assert refused.value.subject == "--dsn"


def test_a_certificate_of_ones_own_can_be_left_at_home(tmp_path: Path) -> None:
    folder = tmp_path / ".postgresql"
    folder.mkdir()
    (folder / "postgresql.crt").write_text("no PEM")
    target("sslcertmode=disable", HOME=str(tmp_path)).tls.context("require", None)
    with pytest.raises(ConfigError, match=r"postgresql\.crt"):
        target("", HOME=str(tmp_path)).tls.context("require", None)
