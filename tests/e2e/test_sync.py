"""`asyncup sync` as people run it: the installed program, real servers, what arrives and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Bucket, Database, Program

FIELDS = {
    "version": int,
    "status": str,
    "rows": int,
    "put": int,
    "skipped": int,
    "failed": int,
    "bytes": int,
    "attempts": int,
    "retries": int,
    "throttled": int,
    "seconds": float,
    "objects_per_second": float,
    "latency_ms": dict,
    "loop_lag_ms": dict,
    "concurrency": dict,
    "resumed": bool,
    "checkpoint": (str, type(None)),
    "dead_letters": (str, type(None)),
    "error": (dict, type(None)),
    "jobs": list,
}


def check_shape(summary: dict[str, Any]) -> None:
    """Every field of the contract is there, of its type, in every outcome; a job has the same ones."""
    assert set(summary) == set(FIELDS)
    for name, kind in FIELDS.items():
        assert isinstance(summary[name], kind), name
    assert set(summary["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(summary["concurrency"]) == {"limit", "peak"}
    assert set(summary["loop_lag_ms"]) == {"p99", "max"}
    if summary["error"] is not None:
        assert set(summary["error"]) == {"type", "op", "subject", "message", "hint"}
    for job in summary["jobs"]:
        assert set(job) - {"name", "total"} == set(FIELDS) - {"version", "jobs"}
        assert ("total" in job) == job["resumed"]
        assert job["rows"] == job["put"] + job["skipped"] + job["failed"]
    assert summary["rows"] == summary["put"] + summary["skipped"] + summary["failed"]


@pytest.fixture
def docs(database: Database) -> Database:
    """1,234 rows, every hundredth without a body."""
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, content bytea, note text);"
        "INSERT INTO docs SELECT n, CASE WHEN n % 100 > 0 THEN convert_to('body ' || n, 'UTF8') END, 'note ' || n "
        "FROM generate_series(1, 1234) n"
    )
    return database


def bodies() -> dict[int, bytes]:
    return {n: b"body %d" % n for n in range(1, 1235) if n % 100}


def test_rows_of_a_table_become_objects(connected: Program, docs: Database, bucket: Bucket) -> None:
    run = connected("sync", "--table=docs", f"--to=s3://{bucket.name}/d/{{id}}.txt", "--body=content", "--output=json")
    assert run.code == 0, run.stderr
    assert bucket.objects() == {f"d/{n}.txt": body for n, body in bodies().items()}
    summary = run.summary
    check_shape(summary)
    assert (summary["rows"], summary["put"], summary["skipped"], summary["failed"]) == (1234, 1222, 12, 0)
    assert summary["bytes"] == sum(map(len, bodies().values()))
    assert (summary["status"], summary["error"], summary["dead_letters"]) == ("complete", None, None)
    assert summary["attempts"] == 1222 + summary["retries"]
    (job,) = summary["jobs"]
    assert job["name"] == "public.docs"
    assert Path(connected.folder / job["checkpoint"]).is_file()


def test_the_row_itself_is_the_body_as_json_unless_told_otherwise(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    run = connected("sync", "--table=docs", f"--to=s3://{bucket.name}/{{id:06d}}.json", "--where=id <= 3 -- few")
    assert run.code == 0, run.stderr
    assert {name: json.loads(body) for name, body in bucket.objects().items()} == {
        f"{n:06d}.json": {"id": n, "content": "\\x" + (b"body %d" % n).hex(), "note": f"note {n}"} for n in (1, 2, 3)
    }


def test_a_query_is_read_by_the_key_that_is_given(connected: Program, docs: Database, bucket: Bucket) -> None:
    run = connected(
        "sync",
        "--query=select note, upper(note) as loud from docs where id < 500;",
        "--key=note",
        f"--to=s3://{bucket.name}/{{note}}",
        "--body=loud",
        "--page-size=7",
        "--output=json",
    )
    assert run.code == 0, run.stderr
    assert bucket.objects() == {f"note {n}": b"NOTE %d" % n for n in range(1, 500)}
    assert run.summary["jobs"][0]["name"].startswith("query-")


def test_objects_can_be_files(connected: Program, docs: Database, tmp_path: Path) -> None:
    run = connected("sync", "--table=docs", f"--to=file://{tmp_path}/out/by-id/{{id}}/x.txt", "--body=content")
    assert run.code == 0, run.stderr
    found = {int(path.parent.name): path.read_bytes() for path in (tmp_path / "out" / "by-id").rglob("*.*")}
    assert found == bodies()
    assert "1,222 put, 12 skipped, 0 failed" in run.stdout


def test_null_measures_everything_but_the_sending(connected: Program, docs: Database) -> None:
    run = connected("sync", "--table=docs", "--to=null:", "--output=json")
    assert run.code == 0, run.stderr
    assert run.summary["put"] == 1234


def test_an_empty_table_is_a_complete_run(connected: Program, database: Database, bucket: Bucket) -> None:
    database.sql("CREATE TABLE nothing (id int PRIMARY KEY)")
    run = connected("sync", "--table=nothing", f"--to=s3://{bucket.name}/{{id}}", "--output=json")
    assert run.code == 0, run.stderr
    check_shape(run.summary)
    assert (run.summary["rows"], run.summary["status"]) == (0, "complete")


def test_a_row_over_the_memory_budget_passes(connected: Program, database: Database, bucket: Bucket) -> None:
    database.sql(
        "CREATE TABLE large (id int PRIMARY KEY, body bytea);"
        "INSERT INTO large SELECT n, convert_to(repeat('x', CASE WHEN n % 5 = 0 THEN 3000000 ELSE n END), 'UTF8') "
        "FROM generate_series(1, 40) n"
    )
    run = connected("sync", "--table=large", f"--to=s3://{bucket.name}/{{id}}", "--body=body", "--memory=1MiB")
    assert run.code == 0, run.stderr
    assert {int(name): len(body) for name, body in bucket.objects().items()} == {
        n: 3_000_000 if n % 5 == 0 else n for n in range(1, 41)
    }


def test_a_flag_wins_over_the_environment(connected: Program, docs: Database, bucket: Bucket) -> None:
    environment = {"ASYNCUP_TABLE": "docs", "ASYNCUP_TO": f"s3://{bucket.name}/{{id}}", "ASYNCUP_BODY": "nonsense"}
    run = connected("sync", "--body=note", "--limit=2", **environment, ASYNCUP_OUTPUT="json")
    assert run.code == 0, run.stderr
    assert bucket.objects() == {"1": b"note 1", "2": b"note 2"}
    assert run.summary["rows"] == 2


def test_database_url_is_honoured(asyncup: Program, docs: Database, tmp_path: Path) -> None:
    run = asyncup("sync", "--table=docs", "--to=null:", "--output=json", DATABASE_URL=docs.dsn)
    assert run.code == 0, run.stderr
    assert run.summary["rows"] == 1234


def test_progress_goes_to_stderr_and_the_summary_to_stdout(connected: Program, docs: Database) -> None:
    run = connected("sync", "--table=docs", "--to=null:", "--body=content")
    assert run.stderr.splitlines() == ["public.docs → null:, by id"]
    assert run.stdout.startswith("Complete: 1,234 rows in ")
    quiet = connected("sync", "--table=docs", "--to=null:", "--body=content", "-q")
    assert (quiet.stdout, quiet.stderr, quiet.code) == ("", "", 0)


def test_content_types_come_from_the_key_or_from_a_template(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    import boto3

    database.sql("CREATE TABLE t (id int PRIMARY KEY, mime text); INSERT INTO t VALUES (1, 'text/x-one'), (2, NULL)")
    assert connected("sync", "--table=t", f"--to=s3://{bucket.name}/a/{{id}}.html").code == 0
    assert connected("sync", "--table=t", f"--to=s3://{bucket.name}/b/{{id}}", "--content-type={mime}").code == 0
    client = boto3.client(
        "s3",
        endpoint_url=bucket.server.endpoint_url,
        aws_access_key_id=bucket.server.access_key,
        aws_secret_access_key=bucket.server.secret_key,
        region_name="us-east-1",
    )
    assert client.head_object(Bucket=bucket.name, Key="a/1.html")["ContentType"] == "text/html"
    assert client.head_object(Bucket=bucket.name, Key="b/1")["ContentType"] == "text/x-one"
    assert client.head_object(Bucket=bucket.name, Key="b/2")["ContentType"] in (
        "application/octet-stream",
        "binary/octet-stream",
    )


def test_nothing_leaks_or_warns_in_development_mode(connected: Program, docs: Database, bucket: Bucket) -> None:
    run = connected(
        "sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--limit=200", "--output=json", PYTHONDEVMODE="1"
    )
    assert run.code == 0
    assert run.stderr.splitlines() == [f"public.docs → s3://{bucket.name}/{{id}}, by id"]
