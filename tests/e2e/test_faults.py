"""The real program among servers that fail: it comes through by itself, and every row arrives."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from asyncup.embedded.postgres import embedded_postgres
from tests.conftest import Bucket, Database, Program
from tests.e2e.test_sync import check_shape

ROWS = 3000
TABLE = (
    "CREATE TABLE docs (id bigint PRIMARY KEY, content text NOT NULL);"
    f"INSERT INTO docs SELECT n, 'body ' || n FROM generate_series(1, {ROWS}) n"
)
EXPECTED = {f"{n}.txt": b"body %d" % n for n in range(1, ROWS + 1)}
SYNC = ("sync", "--table=docs", "--body=content", "--output=json", "--page-size=50", "--concurrency=4")


def test_a_database_that_ends_every_connection_each_second_is_read_to_the_end(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql(TABLE)
    process = connected.start(*SYNC, f"--to=s3://{bucket.name}/{{id}}.txt", "--memory=1MiB")
    ended = 0
    while process.poll() is None:
        time.sleep(1)
        ended += database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
            "datname = current_database() AND application_name <> 'psql'"
        ).count("t")
    run = connected.finish(process)
    assert run.code == 0, run.stderr
    assert ended > 0
    check_shape(run.summary)
    assert run.summary["put"] == ROWS
    assert bucket.objects() == EXPECTED


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(180)])])
def test_a_database_that_is_gone_for_a_while_is_waited_for(
    connected: Program, bucket: Bucket, servers_folder: Path, seconds: int
) -> None:
    folder = servers_folder / f"mortal-postgres-{seconds}"
    with embedded_postgres(folder) as first:
        first.psql(TABLE)
        # one page at a time, so that there is something left to read when the server has gone
        process = connected.start(*SYNC, f"--to=s3://{bucket.name}/{{id}}.txt", "--memory=200kB", **first.environment)
        while not len(list(bucket.folder.iterdir())) > 200:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    with embedded_postgres(folder, port=first.port):
        run = connected.finish(process)
    assert run.code == 0, run.stderr
    assert "cannot reach the database" in run.stderr
    assert "trying again in" in run.stderr
    assert run.summary["put"] == ROWS
    assert bucket.objects() == EXPECTED
