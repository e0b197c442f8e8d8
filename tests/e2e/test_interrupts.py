"""How a run ends before its time, and how the next one goes on."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from tests.conftest import Bucket, Database, Program
from tests.e2e.test_sync import check_shape

ROWS = 3000


@pytest.fixture
def docs(database: Database) -> Database:
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, content text NOT NULL);"
        f"INSERT INTO docs SELECT n, 'body ' || n FROM generate_series(1, {ROWS}) n"
    )
    return database


def expected() -> dict[str, bytes]:
    return {f"{n}.txt": b"body %d" % n for n in range(1, ROWS + 1)}


def command(bucket: Bucket) -> list[str]:
    return ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}.txt", "--body=content", "--output=json"]


def stored(bucket: Bucket) -> int:
    return sum(1 for _ in bucket.folder.iterdir())


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_signal_drains_and_the_same_command_finishes(
    connected: Program, docs: Database, bucket: Bucket, signum: int, code: int
) -> None:
    process = connected.start(*command(bucket), "--concurrency=8")
    connected.interrupt(process, when=lambda: stored(bucket) > 700, signum=signum)
    first = connected.finish(process)
    assert first.code == code, first.stderr
    check_shape(first.summary)
    assert first.summary["status"] == "interrupted"
    assert first.summary["error"] is None
    assert 700 <= first.summary["put"] < ROWS
    assert stored(bucket) == first.summary["put"], "what was in flight finished, and no more was sent"
    assert "Traceback" not in first.stderr

    second = connected(*command(bucket))
    assert second.code == 0, second.stderr
    check_shape(second.summary)
    assert second.summary["resumed"] is True
    assert second.summary["jobs"][0]["total"] == ROWS
    assert ROWS - first.summary["put"] <= second.summary["put"] <= ROWS - first.summary["put"] + 2 * 500
    assert bucket.objects() == expected()
    assert f"resuming after {ROWS - second.summary['rows']:,} rows" in second.stderr


def test_a_second_signal_ends_the_run_at_once(connected: Program, docs: Database) -> None:
    """The destination takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = connected.start(
            "sync", "--table=docs", "--to=s3://b/{id}", "--output=json", AWS_ENDPOINT_URL=endpoint
        )
        silent.settimeout(20)
        peer, _ = silent.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # the bucket is there
            uploads, _ = silent.accept()
            with uploads:
                assert uploads.recv(65536).startswith(b"PUT /b/1 ")
                process.send_signal(signal.SIGINT)
                time.sleep(0.3)
                assert process.poll() is None, "it waits for what is in flight"
                begun = time.monotonic()
                process.send_signal(signal.SIGINT)
                run = connected.finish(process)
    assert time.monotonic() - begun < 2
    assert run.code == 130
    assert (run.summary["status"], run.summary["put"]) == ("interrupted", 0)


def test_a_signal_while_connecting_ends_the_run(asyncup: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d"
        process = asyncup.start("sync", "--table=docs", "--to=null:", f"--dsn={dsn}", "--output=json")
        silent.settimeout(20)
        peer, _ = silent.accept()
        with peer:
            process.send_signal(signal.SIGTERM)
            run = asyncup.finish(process)
    assert run.code == 143
    check_shape(run.summary)
    assert (run.summary["status"], run.summary["jobs"]) == ("interrupted", [])


def test_what_a_killed_run_left_behind_is_not_in_the_way(connected: Program, docs: Database, bucket: Bucket) -> None:
    process = connected.start(*command(bucket), "--concurrency=8")
    connected.interrupt(process, when=lambda: stored(bucket) > 100, signum=signal.SIGKILL)
    connected.finish(process)
    (connected.folder / ".asyncup" / "public.docs.json.new").write_text("{half a check")
    run = connected(*command(bucket))
    assert run.code == 0, run.stderr
    assert bucket.objects() == expected()


def test_a_server_that_dies_during_the_run_is_waited_for(
    connected: Program, docs: Database, servers_folder: os.PathLike[str]
) -> None:
    """The S3 server goes away and comes back at the same address; the run does not notice more than a pause."""
    from pathlib import Path

    from asyncup.embedded.s3 import embedded_s3

    folder = Path(servers_folder) / "mortal"
    with embedded_s3(folder) as first:
        first.make_bucket("mortal")
        connected.environment |= first.environment
        process = connected.start(
            "sync", "--table=docs", "--to=s3://mortal/{id}.txt", "--body=content", "--output=json"
        )
        while len(list((folder / "mortal").iterdir())) < 300:
            time.sleep(0.01)
    time.sleep(1)
    with embedded_s3(folder, keys=(first.access_key, first.secret_key), port=first.port):
        run = connected.finish(process)
    assert run.code == 0, run.stderr
    assert run.summary["retries"] > 0
    assert {path.name: path.read_bytes() for path in (folder / "mortal").glob("*.txt")} == expected()
    assert "trying again in" in run.stderr
