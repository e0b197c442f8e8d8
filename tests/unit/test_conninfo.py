"""Connection strings, service files and variables mean what they mean to libpq, and what is wrong with them leaks nothing."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncup.errors import ConfigError
from asyncup.sources.connection.conninfo import KEYWORDS, gather, parse
from tests.unit.libpq import Libpq

#: Those that libpq 18 does not have yet, and what it calls differently.
NEWER = {"servicefile"}


@pytest.fixture(scope="module")
def libpq() -> Libpq:
    return Libpq()


def ours(text: str) -> dict[str, str] | None:
    try:
        return {keyword: setting.value for keyword, setting in parse(text, "--dsn").items()}
    except ConfigError:
        return None


def test_keywords_and_variables_are_those_of_libpq(libpq: Libpq) -> None:
    assert {keyword: variable for keyword, variable in KEYWORDS.items() if keyword not in NEWER} == libpq.variables()


#: Pieces of which strings are made: what means something to either form, and what does not.
_PIECES = st.sampled_from(
    [*"/@:?#[],&='\\% \t", "%2F", "%zz", "%00", "host", "port", "dbname", "user", "password", "sslmode", "a", "é", "1"]
)
_MARKS = st.lists(_PIECES, max_size=14).map("".join)


@given(_MARKS)
@example("u:p@[::1]:5,h:6/d?sslmode=x&ssl=true&")
@example("u%40x:p%2F@,b:,:7/?host=%2Frun&host=other")
@example("/d?a=b=c")
@example("h?user=x/y")
def test_a_uri_means_what_it_means_to_libpq(libpq: Libpq, text: str) -> None:
    uri = f"postgresql://{text}"
    mine, expected = ours(uri), libpq.parse(uri)
    if mine is None and expected is not None:
        # refused on purpose: a password that is not encoded would be taken for a host or a database; and what is no text
        assert any("@" in expected.get(keyword, "") for keyword in ("host", "dbname", "port")) or any(
            "\ufffd" in text for text in expected.values()
        )
        return
    assert mine == expected


@given(_MARKS)
@example("host = a  dbname='a b' password=it\\'s\\ x user=''")
@example("host=a host=b requiressl=1")
@example("password='a'user='b'")
def test_keywords_and_values_mean_what_they_mean_to_libpq(libpq: Libpq, text: str) -> None:
    assert ours(text) == libpq.parse(text)


@given(st.text(string.printable + "éß€", min_size=1).filter(lambda text: "\0" not in text))
def test_any_password_survives_both_forms(password: str) -> None:
    assert parse(f"postgres://u:{quote(password, safe='')}@h/d", "--dsn")["password"].value == password
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    assert parse(f"password = '{escaped}' host=h", "--dsn")["password"].value == password


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("postgresql://h/d?sslmod=require", "no connection parameter sslmod", "sslmode"),
        ("postgresql://h/d?search_path=x", "no connection parameter search_path", "options=-c"),
        ("hots=a", "no connection parameter hots", "did you mean host?"),
        ("mysql://h/d", "the scheme mysql:// is not postgresql://", "postgresql://user@host"),
        ("shop", "has no =", "postgresql://user@host"),
        ("postgresql://u:a/b@h/d", "an @ where none can be", "%2F"),
        ("postgresql://u:a@b@h/d", "an @ where none can be", "%40"),
        ("postgresql://u:100%@h/d", "a % is not followed", "%25"),
        ("host=h password='secret", "never closed", None),
        ("requirepeer=postgres", "requirepeer is not served", None),
        ("require_auth=scram-sha-256", "require_auth is not served", "verify-full"),
        ("gssencmode=require", "gssencmode is not served", "verify-full"),
        ("sslsni=0", "sslsni is not served", None),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_way_out(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        gather(text, "--dsn", {})
    assert refused.value.subject == "--dsn"
    assert (hint or "") in (refused.value.hint or "")


@pytest.mark.parametrize(
    "text",
    ["channel_binding=prefer gssencmode=prefer sslsni=1 sslcompression=1 client_encoding=latin1 replication=off", ""],
)
def test_what_asks_for_nothing_is_no_reason_to_refuse(text: str) -> None:
    gather(text, "--dsn", {"PGGSSENCMODE": "disable"})


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:hun/ter2@host/d",
        "postgresql://user:hunter2/@host/d",
        "postgresql://user:hunter2%@host/d",
        "postgresql://user:hunter2%zz@host/d?x=y",
        "postgresql://user@[hunter2/d",
        "host=h password=a hunter2=x",
        "host=h password='hunter2",
        "postgresql://h/d?password=a&hunter2=b",
        "postgresql://h/d?password=a&hunter2",
    ],
)
def test_no_message_quotes_what_could_be_a_password(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text, "--dsn")
    error = refused.value
    assert "hunter2" not in f"{error} {error.hint} {error.__cause__}"
    assert "ter2" not in f"{error} {error.hint}"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """Writes a service file; gives the environment that leads to it."""

    def write(name: str, text: str) -> dict[str, str]:
        (tmp_path / name).write_text(text)
        return {"HOME": str(tmp_path), "PGSYSCONFDIR": str(tmp_path)}

    return write


SERVICES = """
# a comment
[other]
host=no

[shop]
host = service-host
port=6000
port=7000
dbname=service
[shop]
host=second
"""

Written = Callable[[str, str], dict[str, str]]


def values(text: str | None, environment: dict[str, str]) -> dict[str, str]:
    return {keyword: setting.value for keyword, setting in gather(text, "--dsn", environment).items()}


@pytest.mark.parametrize("how", ["the string", "PGSERVICE", "a URI"])
@pytest.mark.parametrize("file", [".pg_service.conf", "pg_service.conf", "PGSERVICEFILE"])
def test_the_string_comes_before_its_service_and_that_before_the_environment(
    written: Written, how: str, file: str
) -> None:
    environment = {**written(file, SERVICES), "PGHOST": "environment", "PGUSER": "somebody", "PGDATABASE": ""}
    if file == "PGSERVICEFILE":
        environment["PGSERVICEFILE"] = f"{environment['HOME']}/{file}"
    text = {"the string": "service=shop dbname=mine", "PGSERVICE": "dbname=mine"}.get(
        how, "postgres:///mine?service=shop"
    )
    environment |= {"PGSERVICE": "shop" if how == "PGSERVICE" else "other"}
    found = values(text, environment)
    assert (found["host"], found["port"], found["dbname"], found["user"]) == (
        "service-host",
        "6000",
        "mine",
        "somebody",
    )


def test_a_service_that_the_user_does_not_have_is_looked_for_in_the_systems_file(written: Written) -> None:
    environment = written(".pg_service.conf", "[other]\nhost=no\n") | written("pg_service.conf", SERVICES)
    assert values("service=shop", environment)["host"] == "service-host"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no service shop"),
        ("[shop]\nhost", "not written as name=value"),
        ("[shop]\nservice=x", "names a service itself"),
        ("[shop]\nhots=x", "no connection parameter hots"),
        ("[shop]\nldap://x/y?z?one?(cn=w)", "name that nobody knows"),
    ],
)
def test_a_service_file_that_does_not_serve_is_refused(written: Written, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        gather("service=shop", "--dsn", written(".pg_service.conf", text))
    assert text == "" or "line 2" in refused.value.subject


def test_a_service_file_that_is_named_has_to_be_there() -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        gather("service=shop", "--dsn", {"PGSERVICEFILE": "/nowhere/at/all"})


def test_a_string_is_told_from_a_variable_in_what_is_said() -> None:
    with pytest.raises(ConfigError) as refused:
        gather(None, "DATABASE_URL", {"PGGSSENCMODE": "require"})
    assert refused.value.subject == "PGGSSENCMODE"


@pytest.mark.parametrize(("given_", "mode"), [({"PGREQUIRESSL": "1"}, "require"), ({"PGREQUIRESSL": "0"}, None)])
def test_the_old_variable_for_tls_counts(given_: dict[str, str], mode: str | None) -> None:
    assert values(None, given_).get("sslmode") == mode
    assert values(None, given_ | {"PGSSLMODE": "disable"})["sslmode"] == "disable"
