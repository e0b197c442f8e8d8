"""`asyncup plan` as people run it: what it says, its exit codes, its JSON, signals; and that it leaves nothing behind."""

from __future__ import annotations

import shlex
import signal
import socket
from typing import Any

import pytest

from asyncup.preflight import Preflight
from tests.conftest import Bucket, Database, Program, Run

PASSWORD = "correct-horse-battery"
ROWS = 400


def found(run: Run) -> dict[str, Any]:
    """The JSON of a plan, of the shape that every outcome has."""
    summary = run.summary
    expected = Preflight().to_json()
    assert list(summary) == list(expected)
    assert summary["version"] == 1
    for name, part in expected.items():
        if isinstance(part, dict):
            assert list(summary[name]) == list(part), name
    for reason in summary["reasons"]:
        assert list(reason) == ["type", "op", "subject", "message", "hint"]
    assert summary["error"] == (summary["reasons"][0] if summary["reasons"] else None)
    assert (summary["status"] == "ready") == (run.code == 0)
    return summary


@pytest.fixture
def docs(database: Database) -> Database:
    """Rows of ten bytes, every tenth without a body."""
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, content bytea, title text);"
        "INSERT INTO docs SELECT n, CASE WHEN n % 10 > 0 THEN convert_to(repeat('x', 10), 'UTF8') END, 'title' "
        f"FROM generate_series(1, {ROWS}) n; ANALYZE docs"
    )
    return database


def flags(to: str, *more: str) -> list[str]:
    return ["--table=docs", f"--to={to}", "--body=content", *more]


def test_a_plan_says_what_sync_then_does_and_leaves_nothing_behind(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    given = flags(f"s3://{bucket.name}/d/{{id}}.txt", "--cache-control=max-age={id}")
    run = connected("plan", *given, "--output=json")
    assert run.code == 0, run.stderr
    assert run.stderr == ""
    plan = found(run)
    assert plan["source"]["label"] == "public.docs"
    assert plan["source"]["kind"] == "table"
    assert plan["source"]["database"] == docs.name
    assert plan["key"]["columns"] == [{"name": "id", "type": "integer", "nullable": False}]
    assert (plan["key"]["origin"], plan["key"]["proven"]) == ("primary key", True)
    assert plan["access"]["index"] == "docs_pkey"
    assert (plan["rows"]["estimate"], plan["rows"]["basis"], plan["rows"]["exact"]) == (ROWS, "reltuples", False)
    assert plan["rows"]["analyzed"] is not None
    assert plan["bytes"]["mean"] == 10
    assert plan["template"]["unique"] is True
    assert plan["template"]["by"] == ["id"]
    assert plan["destination"]["lane"] == "wire"
    assert plan["destination"]["addressing"] == "path"
    assert plan["permissions"] == {"select": True, "list": True, "put": None, "grant": None}
    assert plan["state"]["found"] is False
    assert len(plan["sample"]) == 5
    assert plan["price"]["dollars"] is None  # no prices of AWS for a server of somebody else's
    assert [time["rate"] for time in plan["times"]][:3] == [100, 1000, 3500]
    assert bucket.objects() == {}
    assert list(connected.folder.iterdir()) == []

    # the command that it shows does what it says
    words = shlex.split(plan["command"])
    assert words[:2] == ["asyncup", "sync"]
    done = connected(*words[1:], "--output=json")
    assert done.code == 0, done.stderr
    assert done.summary["put"] == 360
    assert plan["requests"]["put"] == pytest.approx(360, abs=40)
    objects = bucket.objects()
    for row in plan["sample"]:
        assert row["outcome"] == ("put" if int(row["key"][0]) % 10 else "skipped")
        if row["outcome"] == "put":
            assert len(objects[row["object_key"]]) == row["size"] == 10
            assert row["headers"]["cache-control"] == f"max-age={row['key'][0]}"


def test_the_screen_ends_with_the_command_quoted_for_the_shell(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    run = connected("plan", *flags(f"s3://{bucket.name}/{{id}}", "--where=title = 'title'"))
    assert run.code == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == "Ready; nothing was sent or written."
    assert lines[-2] == "Next:"
    assert shlex.split(lines[-1])[:2] == ["asyncup", "sync"]
    assert shlex.split(lines[-1])[2:] == [
        *("--table", "docs", "--where", "title = 'title'", "--to", f"s3://{bucket.name}/{{id}}", "--body", "content")
    ]
    assert max(len(line) for line in lines[:-1]) <= 80
    assert len(lines) < 24
    assert connected("plan", *flags("null:"), "-q").stdout == ""


def test_every_reason_is_told_at_once(connected: Program, docs: Database) -> None:
    docs.sql(
        f"DO $$ BEGIN CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'; EXCEPTION WHEN duplicate_object THEN END $$;"
        "GRANT SELECT (id, title) ON docs TO poor"
    )
    run = connected(
        "plan",
        *flags("s3://no-such-bucket/{title}", "--cache-control=a\nb", "--output=json"),
        PGUSER="poor",
        PGPASSWORD=PASSWORD,
    )
    assert run.code == 2, run.stderr
    plan = found(run)
    assert plan["status"] == "refused"
    assert [(reason["type"], reason["hint"]) for reason in plan["reasons"][:1]] == [
        ("SourceRefused", "GRANT SELECT (content) ON docs TO poor;")
    ]
    messages = [reason["message"] for reason in plan["reasons"]]
    for words in ("permission denied", "two rows could get the same object key", "cannot be sent", "no-such-bucket"):
        assert any(words in message for message in messages), (words, messages)
    for message in messages:
        assert f"error: {message}".splitlines()[0] in run.stderr
    assert plan["permissions"]["select"] is False
    assert PASSWORD not in run.stdout + run.stderr


def test_a_wrong_credential_is_found_without_a_put_and_never_shown(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "a-wrong-secret-access-key-of-length-40"}
    run = connected("plan", *flags(f"s3://{bucket.name}/{{id}}", "--output=json", "-vv"), **wrong)
    assert run.code == 2, run.stderr
    assert "SignatureDoesNotMatch" in found(run)["error"]["message"]
    for name, value in (connected.environment | wrong).items():
        if "SECRET" in name or "PASSWORD" in name:
            assert value not in run.stdout + run.stderr


def test_a_password_in_the_dsn_stays_out_of_the_command(asyncup: Program, docs: Database) -> None:
    secret = docs.server.environment["PGPASSWORD"]
    run = asyncup("plan", *flags("null:", f"--dsn={docs.dsn}"))
    assert run.code == 0, run.stderr
    assert secret not in run.stdout + run.stderr
    assert "--dsn, which has a password" in " ".join(run.stdout.split())
    without = docs.dsn.replace(f":{secret}@", "@")
    kept = asyncup("plan", *flags("null:", f"--dsn={without}"), PGPASSWORD=secret)
    assert f"--dsn {without} " in kept.stdout


def test_a_signal_ends_it_with_its_exit_code(connected: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connected.environment |= {"PGHOST": "127.0.0.1", "PGPORT": str(silent.getsockname()[1])}
        process = connected.start("plan", *flags("null:", "--output=json"))
        silent.settimeout(30)
        asked, _ = silent.accept()
        with asked:
            process.send_signal(signal.SIGTERM)
            run = connected.finish(process)
    assert run.code == 143, run.stderr
    assert found(run)["status"] == "interrupted"
