"""Configuration: what texts mean, and that every refusal names its flag and says what would be right."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.config import Config, flag, parse_duration, parse_size, secrets_of
from asyncup.errors import UsageError

RIGHT: dict[str, Any] = {"table": "docs", "to": "s3://bucket/{id}"}


def refused(**options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        Config.of(**{**RIGHT, **options})
    return caught.value


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("1024", 1024),
        ("7B", 7),
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        (" 64mib ", 64 << 20),
        ("64MB", 64_000_000),
        ("1KiB", 1024),
        ("1kB", 1000),
        ("1.5GiB", 3 << 29),
        ("2GB", 2 * 10**9),
        ("1TiB", 1 << 40),
        ("1TB", 10**12),
        (4096, 4096),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(text: str | int, size: int) -> None:
    assert parse_size(text) == size
    if size:
        assert Config.of(**RIGHT, memory=text).memory == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1e3", "1,5GB", "64M", "64Mb/s", "64 M iB", "0x10", "1.", "inf", "nan"]
)
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    error = refused(memory=text)
    assert error.subject == "--memory"
    assert "write it as 64MiB, 64MB or a number of bytes" in error.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2.0),
        ("2.5", 2.5),
        ("2s", 2.0),
        (" 2s ", 2.0),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1h1m1s1ms", 3661.001),
        ("1.5h", 5400.0),
        ("90m", 5400.0),
        ("1s500ms", 1.5),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_a_duration_is_seconds_or_has_units(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert Config.of(**RIGHT, attempt_timeout=text).attempt_timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "ms", "-2s", "2x", "30s1m", "1m 30s", "1:30", "2 seconds", "1e3", "inf", "nan"]
)
@pytest.mark.parametrize("option", ["attempt_timeout", "drain_timeout"])
def test_what_is_no_duration_is_refused_with_examples(option: str, text: str) -> None:
    error = refused(**{option: text})
    assert error.subject == flag(option)
    assert "write it as 2, 2s, 1m30s or 500ms" in error.message


@pytest.mark.parametrize(
    ("options", "subject", "said"),
    [
        ({"table": None}, "--table", "give a query with --query and --key"),
        ({"query": "select 1", "key": "a"}, "--query", "cannot be combined with --table"),
        ({"table": None, "query": "select 1"}, "--query", "--key id"),
        ({"to": None}, "--to", "s3://bucket/{id}.json"),
        ({"to": ""}, "--to", "s3://bucket/{id}.json"),
        ({"page_size": "0"}, "--page-size", "at least 1"),
        ({"page_size": "many"}, "--page-size", "'many' is not a whole number"),
        ({"limit": "-1"}, "--limit", "not be negative"),
        ({"limit": "1.5"}, "--limit", "not a whole number"),
        ({"concurrency": "0"}, "--concurrency", "at least 1"),
        ({"concurrency": "auto"}, "--concurrency", "not a whole number"),
        ({"memory": "0"}, "--memory", "256MiB"),
        ({"max_attempts": "0"}, "--max-attempts", "at least 1"),
        ({"attempt_timeout": "0"}, "--attempt-timeout", "more than 0"),
        ({"max_failures": "-1"}, "--max-failures", "not be negative"),
        ({"name": " "}, "--name", "not be empty"),
        ({"key": "a b"}, "--key", "separate names with commas"),
        ({"key": ""}, "--key", 'write them as in SQL: id, "Mixed Case"'),
        ({"on_null": "skp"}, "--on-null", "did you mean skip?"),
        ({"on_null": "zzz"}, "--on-null", "none of skip, empty, fail"),
        ({"addressing": "Path"}, "--addressing", "did you mean path?"),
        ({"body": "a b"}, "--body", '"row" for the row as JSON'),
        ({"body": ""}, "--body", '"row" for the row as JSON'),
        ({"ca_bundle": "no/such.pem"}, "--ca-bundle", "there is no file no/such.pem"),
        ({"state": "s3://bucket/state"}, "--state", "state is kept in a folder"),
        ({"state": "postgres:public.state"}, "--state", "state is kept in a folder"),
    ],
)
def test_every_refusal_names_its_flag_and_says_what_would_be_right(
    options: dict[str, Any], subject: str, said: str
) -> None:
    error = refused(**options)
    assert error.needs_configuration
    assert error.subject == subject
    assert said in f"{error.message} {error.hint}"


def test_an_option_that_does_not_exist_is_refused_with_the_nearest_that_does() -> None:
    error = refused(concurency=4)
    assert (error.subject, error.hint) == ("concurency", "did you mean concurrency?")
    assert refused(zzzz=1).hint is None


def test_options_that_are_none_keep_their_default_and_false_is_a_value() -> None:
    config = Config.of(**RIGHT, concurrency=None, on_null=None, restart=False, page_size="auto")
    assert config == Config(**RIGHT)
    assert (config.concurrency, config.memory, config.on_null, config.page_size) == (64, 256 << 20, "skip", None)


def test_texts_from_flags_and_values_from_callers_come_to_the_same(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    texts = {
        "key": 'Tenant, "ID"',
        "page_size": "10",
        "limit": "0",
        "concurrency": "8",
        "max_attempts": "3",
        "max_failures": "0",
        "memory": "1KiB",
        "attempt_timeout": "1m",
        "drain_timeout": "0",
        "ca_bundle": str(bundle),
    }
    values = {
        **texts,
        "key": ["tenant", "ID"],
        "page_size": 10,
        "limit": 0,
        "concurrency": 8,
        "max_attempts": 3,
        "max_failures": 0,
        "memory": 1024,
        "attempt_timeout": 60,
        "drain_timeout": 0.0,
    }
    assert Config.of(**RIGHT, **texts) == Config.of(**RIGHT, **values)
    assert Config.of(**RIGHT, **texts).key == ("tenant", "ID")


@pytest.mark.parametrize(
    ("body", "column"),
    [(None, None), ("row", None), ("content", "content"), ("Content", "content"), ('"Row"', "Row"), ('"row"', "row")],
)
def test_the_body_is_a_column_as_in_sql_or_the_whole_row(body: str | None, column: str | None) -> None:
    assert Config.of(**RIGHT, body=body).body_column == column


@pytest.mark.parametrize(("limit", "trial"), [(None, False), (0, True), (5, True)])
def test_a_run_with_a_limit_is_for_trying_out(limit: int | None, trial: bool) -> None:
    assert Config.of(**RIGHT, limit=limit).is_trial is trial


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_query_is_named_by_its_hash(query: str) -> None:
    digest = hashlib.sha256(query.encode()).hexdigest()
    assert Config.of(query=query, key="id", to="null:").query_name() == f"query-{digest[:8]}"


PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(PASSWORDS)
def test_secrets_are_the_password_as_written_and_as_decoded_in_every_form_of_uri(password: str) -> None:
    encoded = quote(password, safe="")
    for dsn in (
        f"postgresql://user:{encoded}@host:5432/db",
        f"postgres://:{encoded}@/db?host=/run",
        f"postgresql://user:{encoded}@one:1,two:2/db",
        f"postgresql://user:{encoded}@[::1]/db",
        f"postgresql:///db?user=u&password={encoded}",
        f"postgresql://user@host/db?password={encoded}&sslmode=require",
    ):
        assert {password, encoded} <= set(secrets_of(Config.of(**RIGHT, dsn=dsn).dsn))


@pytest.mark.parametrize("dsn", [None, "", "postgresql://user@host/db", "postgresql:///db?sslmode=require"])
def test_without_a_password_there_are_no_secrets(dsn: str | None) -> None:
    assert secrets_of(Config.of(**RIGHT, dsn=dsn).dsn) == ()


def test_a_dsn_that_cannot_be_taken_apart_is_a_secret_as_a_whole() -> None:
    dsn = "postgresql://user:secret@[::1/db"
    assert dsn in secrets_of(Config.of(**RIGHT, dsn=dsn).dsn)


def test_the_flag_of_an_option_is_its_name_with_dashes() -> None:
    assert flag("max_attempts") == "--max-attempts"
