"""Runs that no index gives page by page: refused for a table, read at once and not resumed for a query, paged if asked."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import Bucket, Database, Program
from tests.e2e.test_sync import check_shape

ROWS = 1200
QUERY = "SELECT *, row_number() OVER (ORDER BY made) AS place FROM docs"


@pytest.fixture
def docs(database: Database) -> Database:
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, made int NOT NULL, content text NOT NULL);"
        f"INSERT INTO docs SELECT n, {ROWS} - n, 'body ' || n FROM generate_series(1, {ROWS}) n"
    )
    return database


def command(bucket: Bucket, *more: str) -> list[str]:
    to = f"--to=s3://{bucket.name}/{{id}}.txt"
    return ["sync", f"--query={QUERY}", "--key=id", to, "--body=content", "--output=json", *more]


def expected() -> dict[str, bytes]:
    return {f"{n}.txt": b"body %d" % n for n in range(1, ROWS + 1)}


def test_a_query_that_is_read_at_once_begins_anew_and_can_be_paged_instead(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    process = connected.start(*command(bucket), "--concurrency=4", "--name=q")
    connected.interrupt(process, when=lambda: sum(1 for _ in bucket.folder.iterdir()) > 200, signum=signal.SIGTERM)
    first = connected.finish(process)
    assert first.code == 143, first.stderr
    check_shape(first.summary)
    assert (first.summary["checkpoint"], first.summary["resumed"]) == (None, False)
    assert 200 <= first.summary["put"] < ROWS
    assert "one cursor in one transaction" in first.stderr
    assert "a run that is interrupted begins anew" in first.stderr

    paged = connected(*command(bucket, "--name=q"), ASYNCUP_ALLOW_SORT="1")
    assert paged.code == 0, paged.stderr
    assert (paged.summary["put"], paged.summary["checkpoint"] is None) == (ROWS, False)
    assert "one cursor" not in paged.stderr
    assert bucket.objects() == expected()
    assert connected("verify", *command(bucket)[1:]).code == 0


def test_rows_of_a_query_that_failed_can_be_retried(connected: Program, docs: Database, bucket: Bucket) -> None:
    docs.sql("ALTER TABLE docs ALTER content DROP NOT NULL; UPDATE docs SET content = NULL WHERE id IN (7, 1100)")
    failed = connected(*command(bucket, "--on-null=fail"))
    assert failed.code == 3, failed.stderr
    assert (failed.summary["put"], failed.summary["failed"]) == (ROWS - 2, 2)
    docs.sql("UPDATE docs SET content = 'body ' || id WHERE content IS NULL")
    retried = connected("retry", failed.summary["dead_letters"], "--output=json")
    assert retried.code == 0, retried.stderr
    assert retried.summary["put"] == 2
    assert bucket.objects() == expected()


def test_a_table_without_an_index_for_its_key_is_refused_with_the_index_to_make(
    connected: Program, docs: Database
) -> None:
    flags = ["sync", "--table=docs", "--key=made", "--to=null:", "--output=json"]
    refused = connected(*flags)
    assert refused.code == 2, refused.stderr
    check_shape(refused.summary)
    assert refused.summary["error"]["type"] == "SourceRefused"
    assert "CREATE INDEX CONCURRENTLY ON public.docs (made, id);" in refused.summary["error"]["hint"]
    assert refused.summary["put"] == 0

    sorted_anyway = connected(*flags, "--allow-sort")
    assert sorted_anyway.code == 0, sorted_anyway.stderr
    assert (sorted_anyway.summary["put"], sorted_anyway.summary["checkpoint"] is None) == (ROWS, False)

    docs.sql("CREATE INDEX CONCURRENTLY ON public.docs (made, id);")
    assert connected(*flags).code == 0
