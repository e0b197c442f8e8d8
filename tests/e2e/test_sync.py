"""`asyncup sync` as people run it: the installed program, real servers."""

from __future__ import annotations

from tests.conftest import Bucket, Database, Program


def test_rows_of_a_table_become_objects(connected: Program, database: Database, bucket: Bucket) -> None:
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, content bytea);"
        "INSERT INTO docs SELECT n, convert_to('body ' || n, 'UTF8') FROM generate_series(1, 1234) n"
    )
    run = connected(
        "sync", "--table=docs", f"--to=s3://{bucket.name}/docs/{{id}}.txt", "--body=content", "--output=json"
    )
    assert run.code == 0, run.stderr
    assert bucket.objects() == {f"docs/{n}.txt": f"body {n}".encode() for n in range(1, 1235)}
    summary = run.summary
    assert (summary["rows"], summary["put"], summary["skipped"], summary["failed"]) == (1234, 1234, 0, 0)
    assert summary["status"] == "complete"
    assert summary["error"] is None
