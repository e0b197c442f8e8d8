"""Every mistake gets one clear message, exit code 2 (or 1 where a server cannot be reached), and no secret."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Bucket, Database, Program
from tests.e2e.test_sync import check_shape

TABLE = (
    "CREATE TABLE documents (id bigint PRIMARY KEY, content bytea, slug text, created date);"
    "INSERT INTO documents SELECT n, 'x', 's', now() FROM generate_series(1, 10) n;"
    "CREATE TABLE keyless (a int); CREATE VIEW seen AS SELECT * FROM documents;"
)
PASSWORD = "correct-horse-battery"

#: One of each place that finds some; the others are in tests/integration/test_mistakes.py.
MISTAKES = [
    # flags, what the message says, what the hint says
    ([], "nothing to read", "--table"),
    (["--table=document", "--to=null:"], "there is no table document", "did you mean documents?"),
    (["--table=documents", "--to=s3://no-such-bucket/{id}"], "there is no bucket no-such-bucket", "--endpoint-url"),
    (["--table=documents", "--to=null:", "--progress=loud"], "none of", None),
    (["--table=documents", "--to=null:", "--tabel=x"], "--tabel", "--help"),
    (["--table=documents", "--to=null:", "--state=/proc/no"], "state folder", "--state"),
]


@pytest.mark.parametrize(
    ("flags", "message", "hint"), MISTAKES, ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else ""
)
def test_a_mistake_is_told_in_one_clear_message(
    connected: Program, database: Database, bucket: Bucket, flags: list[str], message: str, hint: str | None
) -> None:
    database.sql(TABLE)
    run = connected("sync", *[flag.replace("BUCKET", bucket.name) for flag in flags], "--output=json")
    assert run.code == 2, run.stderr
    check_shape(run.summary)
    error = run.summary["error"]
    assert run.summary["status"] == "aborted"
    assert message.replace("BUCKET", bucket.name) in error["message"]
    if hint is not None:
        assert hint.replace("BUCKET", bucket.name) in (error["hint"] or "")
    assert "Traceback" not in run.stderr
    assert f"error: {error['message']}" in run.stderr
    assert bucket.objects() == {}


@pytest.mark.parametrize(
    ("environment", "message", "hint"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "a-wrong-secret-access-key-of-length-40"}, "SignatureDoesNotMatch", "AWS_SECRET"),
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONGWRONGWRONG1"}, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials", "AWS_ACCESS_KEY_ID"),
        ({"PGPASSWORD": "wrong-password"}, "password authentication failed", "PGPASSWORD"),
        ({"PGDATABASE": "missing"}, 'database "missing" does not exist', "PGDATABASE"),
        ({"PGUSER": "poor", "PGPASSWORD": PASSWORD}, "permission denied for table documents", "GRANT SELECT"),
    ],
    ids=["secret", "access key", "no credentials", "password", "database", "privilege"],
)
def test_a_wrong_credential_is_told_and_never_shown(
    connected: Program, database: Database, bucket: Bucket, environment: dict[str, str], message: str, hint: str
) -> None:
    database.sql(
        TABLE + f"DO $$ BEGIN CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    run = connected(
        "sync", "--table=documents", f"--to=s3://{bucket.name}/{{id}}", "--output=json", "-vv", **environment
    )
    assert run.code == 2, run.stderr
    check_shape(run.summary)
    assert message in run.summary["error"]["message"]
    assert hint in run.summary["error"]["hint"]
    assert bucket.objects() == {}
    for name, value in (connected.environment | environment).items():
        if value and ("SECRET" in name or "PASSWORD" in name):
            assert value not in run.stdout + run.stderr


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://user:hidden%2Dpassword@127.0.0.1:1/d?sslmode=nonsense",
        "mysql://user:hidden-password@127.0.0.1/d",
        "host=127.0.0.1 password=hidden-password sslmode=nonsense",
        "host=127.0.0.1 password='hidden-password",
        "postgresql://user:hidden-password@127.0.0.1:port/d",
        "postgresql://user:hidden-password@[/d",
        "postgresql://user:hidden/password@127.0.0.1/d",
        "postgresql://user:hidden#password@127.0.0.1:0/d",
    ],
)
def test_the_password_of_a_dsn_is_never_shown(asyncup: Program, dsn: str) -> None:
    run = asyncup("sync", "--table=t", "--to=null:", f"--dsn={dsn}", "--output=json", "-vv")
    assert run.code in (1, 2)
    check_shape(run.summary)
    assert "hidden" not in run.stdout + run.stderr


def test_unreachable_servers_are_given_up_after_seconds_and_no_password_is_shown(
    connected: Program, database: Database
) -> None:
    """All at the same time, since all they do is wait."""
    database.sql(TABLE)
    sources = [
        "postgresql://user:hidden-password@127.0.0.1:1/d",
        "postgresql://127.0.0.1:1/d?user=u&password=hidden-password",
    ]
    commands = [["--table=t", "--to=null:", f"--dsn={dsn}"] for dsn in sources]
    commands.append(["--table=documents", "--to=s3://b/{id}", "--endpoint-url=http://127.0.0.1:1"])
    begun = time.monotonic()
    processes = [connected.start("sync", *command, "--output=json", "-vv") for command in commands]
    for run in [connected.finish(process) for process in processes]:
        assert run.code == 1
        check_shape(run.summary)
        assert run.summary["error"]["type"] == "Unreachable"
        assert "trying again" in run.stderr
        assert "hidden" not in run.stdout + run.stderr
    assert time.monotonic() - begun < 30


def test_a_traceback_is_shown_only_when_asked_for(connected: Program, database: Database) -> None:
    database.sql(TABLE)
    command = ["sync", "--table=document", "--to=null:"]
    assert "Traceback" not in connected(*command, "-v").stderr
    assert "Traceback" in connected(*command, "-vv").stderr


@pytest.mark.parametrize(("flags", "named"), [([], "ASYNCUP_MEMORY"), (["--memory=none"], "--memory")])
def test_a_wrong_value_is_blamed_on_where_it_came_from(asyncup: Program, flags: list[str], named: str) -> None:
    run = asyncup("sync", "--table=t", "--to=null:", "--output=json", *flags, ASYNCUP_MEMORY="much")
    assert run.code == 2
    assert run.summary["error"]["subject"] == named
