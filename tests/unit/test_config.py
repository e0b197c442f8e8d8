"""Configuration: what texts mean, and that every refusal names its flag and says what would be right."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.config import ACLS, CHECKSUMS, S3_CLIENTS, SSE, STORAGE_CLASSES, Config
from asyncup.errors import UsageError
from asyncup.resolved import fingerprint_difference
from asyncup.stateplace import StatePlace, parse_state
from asyncup.values import as_typed, flag, parse_duration, parse_size, secrets_of

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
    ("option", "value", "typed"),
    [
        ("memory", 8 << 20, "8MiB"),
        ("memory", 1536 << 10, "1536KiB"),
        ("max_bandwidth", 1_000_001, "1000001"),
        ("lag", 300.0, "5m"),
        ("lag", 90061.5, "1d1h1m1s500ms"),
        ("lag", 0.0, "0.0"),
        ("lag", 1e-4, "0.0001"),
        ("table", "8 docs", "8 docs"),
    ],
)
def test_a_command_has_sizes_and_durations_as_people_type_them(option: str, value: Any, typed: str) -> None:
    assert as_typed(option, value) == typed
    needed = {"incremental": "id"} if option == "lag" else {}
    assert getattr(Config.of(**{**RIGHT, **needed, option: typed}), option) == value


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
        ("1d", 86400.0),
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
    assert "write it as 2, 2s, 1m30s, 500ms, 1h or 1d" in error.message


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
        ({"concurrency": "many"}, "--concurrency", "'many' is not a whole number, and not auto"),
        ({"concurrency": "10001"}, "--concurrency", "at most 10,000"),
        ({"max_concurrency": "0"}, "--max-concurrency", "at least 1"),
        ({"max_concurrency": "auto"}, "--max-concurrency", "not a whole number"),
        ({"max_concurrency": "10001"}, "--max-concurrency", "at most 10,000"),
        ({"concurrency": "9", "max_concurrency": "8"}, "--concurrency", "9 is more than --max-concurrency 8"),
        ({"max_rate": "0"}, "--max-rate", "such as --max-rate 500"),
        ({"max_rate": "nan"}, "--max-rate", "more than 0"),
        ({"max_rate": "inf"}, "--max-rate", "more than 0"),
        ({"max_rate": "fast"}, "--max-rate", "'fast' is not a number of requests a second"),
        ({"max_bandwidth": "0"}, "--max-bandwidth", "such as --max-bandwidth 20MiB"),
        ({"max_bandwidth": "fast"}, "--max-bandwidth", "write it as 64MiB"),
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
        ({"s3_client": "boto"}, "--s3-client", "did you mean botocore?"),
        ({"checksum": "SHA-256"}, "--checksum", "did you mean sha256?"),
        ({"request_payer": "me"}, "--request-payer", "none of requester"),
        ({"sse": "aes256"}, "--sse", "did you mean AES256?"),
        ({"sse": "aws:kms\r\nx: y"}, "--sse", "did you mean aws:kms?"),
        ({"acl": "publicread"}, "--acl", "did you mean public-read?"),
        ({"acl": "log-delivery-write"}, "--acl", "none of private, public-read"),
        ({"storage_class": "standard-ia"}, "--storage-class", "did you mean STANDARD_IA?"),
        ({"storage_class": "X\nY: z"}, "--storage-class", "no storage class"),
        ({"storage_class": ""}, "--storage-class", "such as STANDARD_IA"),
        ({"storage_class": 1}, "--storage-class", "1 is not text"),
        ({"expected_bucket_owner": "12345678901"}, "--expected-bucket-owner", "12 digits"),
        ({"expected_bucket_owner": "123456789012\n"}, "--expected-bucket-owner", "12 digits"),
        ({"expected_bucket_owner": "١٢٣٤٥٦٧٨٩٠١٢"}, "--expected-bucket-owner", "12 digits"),
        ({"sse_kms_key_id": "key"}, "--sse-kms-key-id", "add --sse aws:kms"),
        ({"sse_kms_key_id": "key", "sse": "AES256"}, "--sse-kms-key-id", "add --sse aws:kms"),
        ({"sse_kms_key_id": "a\r\nb", "sse": "aws:kms"}, "--sse-kms-key-id", "not a key's id, ARN or alias"),
        ({"sse_kms_key_id": "", "sse": "aws:kms"}, "--sse-kms-key-id", "not a key's id, ARN or alias"),
        ({"content_type": b"text/html"}, "--content-type", "is not text"),
        ({"metadata": ["a=b", "c"]}, "--metadata", "'c' is not written as name=value"),
        ({"metadata": "a=b\nc"}, "--metadata", "'c' is not written as name=value"),
        ({"metadata": {"version": 3}}, "--metadata", "not texts"),
        ({"metadata": [("a", "b")]}, "--metadata", "('a', 'b') is not written as name=value"),
        ({"tag": [""]}, "--tag", "'' is not written as name=value"),
        ({"tag": {1: "x"}}, "--tag", "not texts"),
        ({"body": "a b"}, "--body", "--body '\"a b\"'"),
        ({"body": ""}, "--body", '"row" for the row as JSON'),
        ({"ca_bundle": "no/such.pem"}, "--ca-bundle", "there is no file no/such.pem"),
        ({"state": ""}, "--state", "names no place"),
        ({"state": "a\0b"}, "--state", "names no place"),
        ({"state": "s3:bucket/state"}, "--state", "s3://bucket/prefix"),
        ({"state": "S3://bucket/state"}, "--state", "s3://bucket/prefix"),
        ({"state": "s3:///state"}, "--state", "names no bucket"),
        ({"state": "s3://bucket/{id}"}, "--state", "is no prefix"),
        ({"state": "s3://bucket/a//b"}, "--state", "is no prefix"),
        ({"state": "s3://bucket/a/../b"}, "--state", "is no prefix"),
        ({"state": "gs://bucket/state"}, "--state", "no place for state"),
        ({"state": "file:///folder"}, "--state", "--state DIR"),
        ({"state": "postgres:state"}, "--state", "postgres:schema.table"),
        ({"state": "postgres:a.b.c"}, "--state", "postgres:schema.table"),
        ({"state": "postgres:"}, "--state", "postgres:schema.table"),
        ({"state": 'postgres:a."b'}, "--state", "postgres:schema.table"),
        ({"state": "postgres:a." + "b" * 51}, "--state", "too long"),
        ({"state": "postgresql://user:secret@host/db"}, "--state", "that of --dsn"),
        ({"state": "postgres://user:secret@host/db"}, "--state", "that of --dsn"),
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
    assert (config.concurrency, config.memory, config.on_null, config.page_size) == (None, 256 << 20, "skip", None)


def test_texts_from_flags_and_values_from_callers_come_to_the_same(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    texts = {
        "key": 'Tenant, "ID"',
        "page_size": "10",
        "limit": "0",
        "concurrency": "8",
        "max_concurrency": "9",
        "max_rate": "2.5",
        "max_bandwidth": "1MiB",
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
        "max_concurrency": 9,
        "max_rate": 2.5,
        "max_bandwidth": 1 << 20,
        "max_attempts": 3,
        "max_failures": 0,
        "memory": 1024,
        "attempt_timeout": 60,
        "drain_timeout": 0.0,
    }
    assert Config.of(**RIGHT, **texts) == Config.of(**RIGHT, **values)
    assert Config.of(**RIGHT, **texts).key == ("tenant", "ID")


@pytest.mark.parametrize("option", ["metadata", "tag"])
def test_names_and_values_come_as_flags_as_lines_or_as_a_mapping(option: str) -> None:
    pairs = (("a", "{x}=y"), ("b c", ""), ("A", " 1 "))
    for value in (["a={x}=y", "b c=", "A= 1 "], "a={x}=y\n\nb c=\r\nA= 1 \n", dict(pairs)):
        assert getattr(Config.of(**RIGHT, **{option: value}), option) == pairs
    for nothing in ([], "", {}, None):
        assert Config.of(**RIGHT, **{option: nothing}) == Config(**RIGHT)
    assert Config.of(**RIGHT, **{option: ["a=x\ny"]}).stored_with_object()[option] == {"a": "x\ny"}


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("storage_class", (*STORAGE_CLASSES, "COLDLINE", "X1_")),
        ("sse", SSE),
        ("acl", ACLS),
        ("checksum", CHECKSUMS),
        ("s3_client", S3_CLIENTS),
        ("request_payer", ("requester",)),
        ("expected_bucket_owner", ("012345678901",)),
    ],
)
def test_every_choice_can_be_made(option: str, values: tuple[str, ...]) -> None:
    for value in values:
        assert getattr(Config.of(**RIGHT, **{option: value}), option) == value


@pytest.mark.parametrize("sse", ["aws:kms", "aws:kms:dsse"])
def test_a_key_of_kms_may_be_an_id_an_arn_or_an_alias(sse: str) -> None:
    for key in ("1234abcd-12ab", "arn:aws:kms:eu-central-1:123456789012:key/1234abcd", "alias/my-key"):
        assert Config.of(**RIGHT, sse=sse, sse_kms_key_id=key).sse_kms_key_id == key


#: A value for every option that is stored with an object.
STORED: dict[str, Any] = {
    "content_type": "{mime}",
    "cache_control": "no-store",
    "content_disposition": "inline",
    "content_language": "en",
    "metadata": {"b": "1", "a": "2"},
    "tag": {"t": "{id}"},
    "storage_class": "GLACIER",
    "sse": "aws:kms",
    "sse_kms_key_id": "key",
    "acl": "private",
    "checksum": "none",
}


def test_what_is_stored_with_an_object_is_what_its_options_say_and_none_where_they_are_silent() -> None:
    assert set(Config(**RIGHT).stored_with_object().values()) == {None}
    assert Config.of(**RIGHT, **STORED).stored_with_object() == STORED
    backwards = {**STORED, "metadata": {"a": "2", "b": "1"}}
    assert Config.of(**RIGHT, **STORED).stored_with_object() == Config.of(**RIGHT, **backwards).stored_with_object()


def test_a_checkpoint_holds_what_is_stored_with_objects_and_one_that_knows_nothing_of_it_matches_the_defaults() -> None:
    stored = Config.of(**RIGHT, **STORED).stored_with_object()
    assert fingerprint_difference(json.loads(json.dumps(stored)), stored) == []
    assert len(fingerprint_difference({}, stored)) == len(STORED)
    assert fingerprint_difference({"content_type": None}, Config(**RIGHT).stored_with_object()) == []


def test_how_objects_are_sent_is_not_stored_with_them() -> None:
    config = Config.of(
        **RIGHT, request_payer="requester", expected_bucket_owner="0" * 12, s3_client="botocore", no_verify_etag=True
    )
    assert config.stored_with_object() == Config(**RIGHT).stored_with_object()


@pytest.mark.parametrize("option", sorted(set(STORED) - {"content_type", "sse_kms_key_id"}))
def test_what_a_file_cannot_keep_is_refused_and_a_trial_run_ignores_it(option: str) -> None:
    error = refused(to="file:///tmp/{id}", **{option: STORED[option]})
    assert (error.subject, error.message) == (flag(option), "a file keeps nothing but its bytes")
    assert f"ASYNCUP_{option.upper()}" in (error.hint or "")
    assert Config.of(table="docs", to="null:", **{option: STORED[option]})


@pytest.mark.parametrize(
    ("body", "column"),
    [(None, None), ("row", None), ("content", "content"), ("Content", "content"), ('"Row"', "Row"), ('"row"', "row")],
)
def test_the_body_is_a_column_as_in_sql_or_the_whole_row(body: str | None, column: str | None) -> None:
    assert Config.of(**RIGHT, body=body).body_column == column


@pytest.mark.parametrize(("limit", "trial"), [(None, False), (0, True), (5, True)])
def test_a_run_with_a_limit_is_for_trying_out(limit: int | None, trial: bool) -> None:
    assert Config.of(**RIGHT, limit=limit).is_trial is trial


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
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


@pytest.mark.parametrize("dsn", ["host=h password=hun\\ ter2 user=u", "password = 'hun ter2' host=h"])
def test_secrets_are_found_in_keywords_and_values_too(dsn: str) -> None:
    assert "hun ter2" in secrets_of(dsn)


def test_a_password_is_shown_by_nothing_and_kept_nowhere() -> None:
    config = Config.of(**RIGHT, password="hunter2")
    assert "hunter2" not in f"{config} {config.kept()}"
    assert Config.of(**RIGHT, password_command="pass show db").kept() == RIGHT
    with pytest.raises(UsageError, match="cannot be combined with a password"):
        Config.of(**RIGHT, password="hunter2", password_command="pass show db")


def test_the_flag_of_an_option_is_its_name_with_dashes() -> None:
    assert flag("max_attempts") == "--max-attempts"


@pytest.mark.parametrize(
    ("state", "place"),
    [
        (".asyncup", StatePlace("folder", ".asyncup")),
        ("s3", StatePlace("folder", "s3")),
        ("C:\\state", StatePlace("folder", "C:\\state")),
        ("s3://bucket", StatePlace("s3", "bucket")),
        ("s3://bucket/", StatePlace("s3", "bucket")),
        ("s3://my.bucket/a/b=1/", StatePlace("s3", "my.bucket", "a/b=1")),
        ("postgres:ops.State", StatePlace("postgres", "ops", "state")),
        ('postgres:"Op s" . "St""ate"', StatePlace("postgres", "Op s", 'St"ate')),
    ],
)
def test_state_is_a_folder_a_prefix_or_a_table(state: str, place: StatePlace) -> None:
    assert Config.of(**RIGHT, state=state).state == state
    assert parse_state(state) == place


def test_what_is_kept_of_a_configuration_gives_it_again_without_secrets() -> None:
    config = Config.of(
        **RIGHT,
        **STORED,
        key='id, "B c"',
        where="id > 1",
        memory="1MiB",
        drain_timeout="1m",
        limit=3,
        state="s3://bucket/state",
        dsn="postgresql://user:secret@host/db",
        restart=True,
        no_verify_etag=True,
    )
    kept = json.loads(json.dumps(config.kept()))
    assert Config.of(**kept) == dataclasses.replace(config, dsn=None, restart=False)
    assert "secret" not in json.dumps(kept)
    assert Config(**RIGHT).kept() == RIGHT
