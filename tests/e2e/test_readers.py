"""Several readers and several machines on one table, while others write to it."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncup.bench.simulator.launch import simulator
from tests.conftest import Database, Program, Run

#: Rows with these numbers are never deleted, and some of the others are before anybody reads them, or after.
KEPT = 7
WRITERS = 3


def table(database: Database, rows: int) -> None:
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, rev int NOT NULL DEFAULT 0);"
        f"INSERT INTO docs SELECT n * 10 FROM generate_series(1, {rows}) n; ANALYZE docs"
    )


@contextlib.contextmanager
def writers(database: Database, folder: Path, rows: int) -> Iterator[None]:
    """Sessions that insert, update and delete, each change in a transaction of its own."""
    server = database.server
    running = []
    for number in range(WRITERS):
        dice, script = random.Random(number), folder / f"writer-{number}.sql"
        script.write_text("".join(_change(dice, rows) + "SELECT pg_sleep(0.001);\n" for _ in range(10 * rows)))
        command = [str(server.binaries / "psql"), "-qX", "-d", database.name, "-f", str(script)]
        running.append(subprocess.Popen(command, env={**os.environ, **server.environment}, stdout=subprocess.DEVNULL))
    yield
    for process in running:
        assert process.poll() is None, "it wrote to the end"
        process.kill()
        process.wait()


def _change(dice: random.Random, rows: int) -> str:
    number = dice.randrange(1, rows + 1)
    kind = dice.random()
    if kind < 0.4:
        return f"INSERT INTO docs VALUES ({number * 10 + dice.randrange(1, 10)}) ON CONFLICT DO NOTHING;\n"
    if kind < 0.7 or number % 10 <= KEPT:
        return f"UPDATE docs SET rev = rev + 1 WHERE id = {number * 10};\n"
    return f"DELETE FROM docs WHERE id = {number * 10};\n"


SYNC = ("sync", "--table=docs", "--to=s3://bucket/docs/{id}.json", "--output=json", "--no-sign-request")


@pytest.mark.parametrize("rows", [2500, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_rows_that_exist_throughout_are_read_exactly_once_while_others_write(
    connected: Program, database: Database, rows: int
) -> None:
    table(database, rows)
    with simulator("--keep", "digest", "--latency", "5ms") as s3:
        with writers(database, connected.folder, rows):
            process = connected.start(
                *SYNC, "--readers=4", "--page-size=100", "--concurrency=16", f"--endpoint-url={s3.endpoint_url}"
            )
            run = connected.finish(process, timeout=500)
        objects = {int(found["key"][5:-5]) for found in s3.list_objects("bucket")}
        overwritten = s3.objects("bucket")["overwritten"]
    assert run.code == 0, run.stderr
    survivors = {int(line) for line in database.sql("SELECT id FROM docs WHERE id % 10 = 0").split()}
    assert len(survivors) < rows, "rows were deleted meanwhile"
    assert int(database.sql("SELECT count(*) FROM docs WHERE rev > 0")) > 0
    assert survivors <= objects, "a row that existed throughout was missed"
    assert overwritten == 0, "a row was read twice"
    assert run.summary["put"] == len(objects)


@pytest.mark.parametrize("states", ["one", "each its own"])
def test_shards_cover_the_table_exactly_once(connected: Program, database: Database, states: str) -> None:
    table(database, 2500)
    with simulator("--keep", "digest") as s3:
        processes = [
            connected.start(
                *SYNC,
                f"--shard={number}/3",
                f"--state={'state' if states == 'one' else number}",
                f"--endpoint-url={s3.endpoint_url}",
            )
            for number in range(3)
        ]
        runs = [connected.finish(process) for process in processes]
        assert [run.code for run in runs] == [0, 0, 0], runs
        assert sum(run.summary["put"] for run in runs) == 2500 == s3.objects("bucket")["objects"]
        assert s3.objects("bucket")["overwritten"] == 0
    assert {run.summary["jobs"][0]["name"] for run in runs} == {f"public.docs.{n}-of-3" for n in range(3)}


def test_a_snapshot_run_leaves_no_checkpoint_and_goes_on_from_none(connected: Program, database: Database) -> None:
    table(database, 1500)
    with simulator("--keep", "digest", "--latency", "10ms") as s3:
        command = (*SYNC, "--readers=2", "--page-size=100", f"--endpoint-url={s3.endpoint_url}")

        def interrupted(*options: str) -> Run:
            process = connected.start(*command, "--concurrency=2", *options)
            aim = sum(s3.counters()["accepted_by_second"]) + 200
            connected.interrupt(process, when=lambda: sum(s3.counters()["accepted_by_second"]) > aim)
            return connected.finish(process)

        frozen = interrupted("--snapshot")
        assert (frozen.code, frozen.summary["checkpoint"]) == (130, None), frozen.stderr
        assert "this run cannot be resumed" in frozen.stderr
        assert interrupted().summary["checkpoint"] is not None
        refused = connected(*command, "--snapshot")
        assert refused.code == 2, refused.stderr
        assert "there is an unfinished checkpoint" in refused.summary["error"]["message"]
        assert connected(*command).summary["resumed"] is True
        complete = connected(*command, "--snapshot")
        assert (complete.code, complete.summary["put"], complete.summary["checkpoint"]) == (0, 1500, None)
