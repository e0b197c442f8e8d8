"""Packs as people make them: many rows in one object, cut the same way by every run, whole or not there at all."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
import tarfile
from typing import Any

import psutil
import pytest

from tests.conftest import Bucket, Database, Program

ROWS = 1000


@pytest.fixture
def events(database: Database) -> Database:
    """1,000 rows of ten days, in the order of days; every hundredth has no payload."""
    database.sql(
        "CREATE TABLE events (id bigint PRIMARY KEY, day date NOT NULL, payload jsonb);"
        "INSERT INTO events SELECT n, date '2024-01-01' + (n - 1) / 100, "
        f"CASE WHEN n % 100 > 0 THEN jsonb_build_object('n', n, 'text', 'x' || n) END FROM generate_series(1, {ROWS}) n"
    )
    return database


def lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


def test_rows_become_lines_of_objects_that_are_named_by_their_first_row(
    connected: Program, events: Database, bucket: Bucket
) -> None:
    run = connected(
        "sync",
        "--table=events",
        f"--to=s3://{bucket.name}/p/{{id:05d}}.ndjson",
        "--pack=ndjson",
        "--pack-rows=300",
        "--output=json",
    )
    assert run.code == 0, run.stderr
    found = {key: lines(content) for key, content in bucket.objects().items()}
    assert {key: [row["id"] for row in rows] for key, rows in found.items()} == {
        f"p/{first:05d}.ndjson": list(range(first, min(first + 300, ROWS + 1))) for first in range(1, ROWS, 300)
    }
    assert found["p/00001.ndjson"][0] == {"id": 1, "day": "2024-01-01", "payload": {"n": 1, "text": "x1"}}
    summary = run.summary
    assert (summary["rows"], summary["put"], summary["attempts"] - summary["retries"]) == (ROWS, ROWS, 4)
    assert summary["bytes"] == sum(map(len, bucket.objects().values()))


def test_a_pack_ends_where_a_group_does_and_where_its_bytes_do(
    connected: Program, events: Database, bucket: Bucket
) -> None:
    run = connected(
        "sync",
        "--table=events",
        f"--to=s3://{bucket.name}/{{day}}/{{id}}.ndjson",
        "--body=payload",
        "--pack=ndjson",
        "--pack-by=day",
        "--pack-bytes=1500",
        "--output=json",
    )
    assert run.code == 0, run.stderr
    assert (run.summary["put"], run.summary["skipped"]) == (990, 10)
    seen = []
    for key, content in bucket.objects().items():
        day, _, name = key.partition("/")
        rows = [line["n"] for line in lines(content)]
        assert {f"2024-01-{1 + (n - 1) // 100:02d}" for n in rows} == {day}
        assert rows[0] == int(name.removesuffix(".ndjson"))
        assert len(content) - len(rows) <= 1500
        seen += rows
    assert sorted(seen) == [n for n in range(1, ROWS + 1) if n % 100]


def test_a_limit_says_that_it_replaces_packs_by_shorter_ones(
    connected: Program, events: Database, bucket: Bucket
) -> None:
    pack = ("sync", "--table=events", f"--to=s3://{bucket.name}/{{id}}.ndjson", "--pack=ndjson", "--limit=5")
    run = connected(*pack)
    assert run.code == 0, run.stderr
    assert "replaces one of its name" in run.stderr
    assert "replaces one of its name" not in connected(*pack, "--if-exists=fail").stderr


def test_a_compressed_pack_with_an_index_gives_single_rows_by_ranges(
    connected: Program, events: Database, bucket: Bucket
) -> None:
    run = connected(
        "sync",
        "--table=events",
        f"--to=s3://{bucket.name}/{{id}}.ndjson.gz",
        "--pack=ndjson",
        "--pack-rows=400",
        "--pack-index",
        "--compress=gzip",
    )
    assert run.code == 0, run.stderr
    objects = bucket.objects()
    assert sorted(objects) == sorted(
        name for first in (1, 401, 801) for name in (f"{first}.ndjson.gz", f"{first}.ndjson.gz.index.jsonl")
    )
    pack = objects["401.ndjson.gz"]
    assert [row["id"] for row in lines(gzip.decompress(pack))] == list(range(401, 801))
    for entry in lines(objects["401.ndjson.gz.index.jsonl"]):
        piece = pack[entry["offset"] : entry["offset"] + entry["length"]]
        assert json.loads(gzip.decompress(piece))["id"] == int(entry["key"][0])


def test_rows_become_csv_and_files_of_an_archive(connected: Program, events: Database, bucket: Bucket) -> None:
    for arguments in (
        ("--pack=csv", f"--to=s3://{bucket.name}/{{id}}.csv", "--name=csv"),
        ("--pack=tar", f"--to=s3://{bucket.name}/{{id}}.tar", "--name=tar", "--body=payload"),
        ("--pack=parquet", f"--to=s3://{bucket.name}/{{id}}.parquet", "--name=parquet"),
    ):
        run = connected("sync", "--table=events", *arguments)
        assert run.code == 0, run.stderr
    objects = bucket.objects()
    table = list(csv.DictReader(io.StringIO(objects["1.csv"].decode())))
    assert table[0] == {"id": "1", "day": "2024-01-01", "payload": '{"n":1,"text":"x1"}'}
    assert [row["id"] for row in table] == [str(n) for n in range(1, ROWS + 1)]
    with tarfile.open(fileobj=io.BytesIO(objects["1.tar"])) as archive:
        assert archive.getnames()[:2] == ["1", "2"]
        assert json.loads(archive.extractfile("7").read()) == {"n": 7, "text": "x7"}  # type: ignore[union-attr]
    assert objects["1.parquet"][:4] == b"PAR1"


def test_a_large_pack_is_sent_while_it_is_made(connected: Program, database: Database, bucket: Bucket) -> None:
    database.sql(
        "CREATE TABLE wide (id int PRIMARY KEY, body text);"
        "INSERT INTO wide SELECT n, repeat(md5(n::text), 3000) FROM generate_series(1, 600) n"  # 96 kB each
    )
    run = connected(
        "sync",
        "--table=wide",
        f"--to=s3://{bucket.name}/{{id}}.ndjson",
        "--pack=ndjson",
        "--pack-rows=400",
        "--memory=64MiB",
        "--output=json",
    )
    assert run.code == 0, run.stderr
    found = {key: [row["id"] for row in lines(content)] for key, content in bucket.objects().items()}
    assert found == {"1.ndjson": list(range(1, 401)), "401.ndjson": list(range(401, 601))}
    assert run.summary["put"] == 600


def test_a_run_that_is_killed_goes_on_with_the_same_packs(connected: Program, events: Database, bucket: Bucket) -> None:
    arguments = (
        "sync",
        "--table=events",
        f"--to=s3://{bucket.name}/{{id}}.ndjson",
        "--pack=ndjson",
        "--pack-rows=7",
        "--concurrency=2",
        "--max-rate=60",
        "--output=json",
    )
    for packs in (5, 40, 90):
        program = connected.start(*arguments)
        connected.interrupt(program, when=lambda packs=packs: len(bucket.objects()) > packs, signum=signal.SIGKILL)
        connected.finish(program)
    run = connected(*arguments[:-2], "--output=json")
    assert run.code == 0, run.stderr
    assert run.summary["resumed"]
    assert run.summary["jobs"][0]["total"] == ROWS
    found = {key: [row["id"] for row in lines(content)] for key, content in bucket.objects().items()}
    assert found == {f"{n}.ndjson": list(range(n, min(n + 7, ROWS + 1))) for n in range(1, ROWS + 1, 7)}


def test_ctrl_c_gives_up_the_pack_that_is_being_sent_and_the_next_run_sends_it(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql(
        "CREATE TABLE wide (id int PRIMARY KEY, body text);"
        "INSERT INTO wide SELECT n, repeat(md5(n::text), 3000) FROM generate_series(1, 900) n"  # 86 MB
    )
    arguments = (
        "sync",
        "--table=wide",
        f"--to=s3://{bucket.name}/{{id}}.ndjson",
        "--pack=ndjson",
        "--pack-rows=900",
        "--memory=64MiB",
        "--output=json",
    )
    program = connected.start(*arguments, "--max-bandwidth=20MB", "--progress=plain")
    reader = psutil.Process(program.pid)
    connected.interrupt(program, when=lambda: reader.memory_info().rss > 110 << 20)  # the first slices are there
    run = connected.finish(program)
    assert run.code == 130, run.stderr
    assert (run.summary["rows"], run.summary["status"]) == (0, "interrupted")
    assert bucket.objects() == {}
    again = connected(*arguments)
    assert again.code == 0, again.stderr
    assert [row["id"] for row in lines(bucket.objects()["1.ndjson"])] == list(range(1, 901))


def test_packs_are_verified_and_rows_that_fail_are_sent_in_packs_of_their_own(
    connected: Program, events: Database, bucket: Bucket
) -> None:
    (connected.folder / "checks.py").write_text(
        "def known(row):\n    if row['id'] in (3, 4, 500):\n        raise LookupError('unknown')\n    return row.body\n"
    )
    arguments = (
        "--table=events",
        f"--to=s3://{bucket.name}/{{id}}.ndjson",
        "--pack=ndjson",
        "--pack-rows=400",
        "--transform=checks:known",
        "--executor=loop",
    )
    run = connected("sync", *arguments, "--output=json")
    assert (run.code, run.summary["failed"]) == (3, 3), run.stderr
    (connected.folder / "checks.py").write_text("def known(row):\n    return row.body\n")
    again = connected("retry", run.summary["dead_letters"], "--output=json")
    assert (again.code, again.summary["put"]) == (0, 3), again.stderr
    seen = [row["id"] for content in bucket.objects().values() for row in lines(content)]
    assert sorted(seen) == list(range(1, ROWS + 1))
    (bucket.folder / "401.ndjson").write_bytes(b"")
    verdict = connected("verify", *arguments, "--output=json").summary
    assert verdict["status"] == "different"
