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

MISTAKES = [
    # flags, what the message says, what the hint says
    ([], "nothing to read", "--table"),
    (["--table=documents"], "nowhere to write", "s3://bucket/{id}.json"),
    (["--table=documents", "--query=select 1", "--to=null:"], "cannot be combined", "one of them"),
    (["--query=select 1 as id", "--to=null:"], "no primary key", "--key"),
    (["--table=document", "--to=null:"], "there is no table document", "did you mean documents?"),
    (["--table=nope.documents", "--to=null:"], "there is no table nope.documents", "documents"),
    (["--table=keyless", "--to=null:"], "no primary key", "ADD PRIMARY KEY"),
    (["--table=seen", "--to=null:"], "it is a view", "--key"),
    (["--table=documents", "--to=null:{slog}"], "has no column slog", "did you mean slug?"),
    (["--table=documents", "--to=null:", "--body=contents"], "has no column contents", "did you mean content?"),
    (["--table=documents", "--to=null:", "--key=i_d"], "has no column i_d", "did you mean id?"),
    (["--table=documents", "--to=null:", "--where=idd > 3"], 'column "idd" does not exist', "id"),
    (["--query=select * frm documents", "--key=id", "--to=null:"], "syntax error", "--query"),
    (["--table=documents", "--to=bucket/{id}"], "is no destination", "s3://"),
    (["--table=documents", "--to=s3://BUCKET/{slug}"], "two rows could get the same object key", "{id}"),
    (["--table=documents", "--to=s3://BUCKET/{id:.1f}"], "the same text", "without a format spec"),
    (["--table=documents", "--to=s3://BUCKET/{slug}{id}"], "nothing separates", "{slug}/{id}"),
    (["--table=documents", "--to=s3://BUCKET/{id.__class__}"], "only columns", "{column}"),
    (["--table=documents", "--to=s3://BUCKET/{id"], "never closed", "{{"),
    (["--table=documents", "--to=s3://BUCKET"], "no template", "s3://BUCKET/{id}.json"),
    (["--table=documents", "--to=s3://no-such-bucket/{id}"], "there is no bucket no-such-bucket", "--endpoint-url"),
    (["--table=documents", "--to=null:", "--memory=64M"], "'64M' is not a size", None),
    (["--table=documents", "--to=null:", "--concurrency=many"], "not a whole number", None),
    (["--table=documents", "--to=null:", "--concurrency=0"], "at least 1", None),
    (["--table=documents", "--to=null:", "--drain-timeout=soon"], "not a duration", None),
    (["--table=documents", "--to=null:", "--on-null=skp"], "none of skip, empty, fail", "did you mean skip?"),
    (["--table=documents", "--to=null:", "--progress=loud"], "none of", None),
    (["--table=documents", "--to=null:", "--tabel=x"], "--tabel", "--help"),
    (["--table=documents", "--to=s3://BUCKET/{id}", "--profile=nobody"], "nobody", "--profile"),
    (["--table=documents", "--to=s3://BUCKET/{id}", "--ca-bundle=missing.pem"], "missing.pem", None),
    (["--table=documents", "--to=file:///tmp/../etc/{id}"], "'..' segment", "in full"),
    (["--table=documents", "--to=file:///proc/no/{id}"], "No such file or directory", "can be written"),
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
