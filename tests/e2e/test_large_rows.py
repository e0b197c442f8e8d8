"""Large rows through the installed program: they arrive whole, whatever they are made of, and memory stays bounded."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from tests.conftest import Database, Program, Run
from tests.e2e.test_faults import KEYS
from tests.e2e.test_sync import check_shape

MB = 1_000_000
PART = 16 << 20
SIZE = 20 * MB
WORDS = b" and words that compress."
#: Rows 1, 2, 3, … of `{size}` bytes, each beginning with its number, made and stored in every way.
TABLES = {
    "external": ("b bytea STORAGE external", "convert_to(rpad(n::text, {size}, ' and words that compress.'), 'UTF8')"),
    "pglz": ("b bytea", "convert_to(rpad(n::text, {size}, ' and words that compress.'), 'UTF8')"),
    "text": ("b text", "rpad(n::text, {size}, ' and words that compress.')"),
    "object": ("b oid", "lo_from_bytea(0, convert_to(rpad(n::text, {size}, ' and words that compress.'), 'UTF8'))"),
}
#: What becomes JSON has quotes around it.
QUOTED = {"jsonb": ("b jsonb", "to_jsonb(rpad(n::text, {size}, ' and words that compress.'))")}


def body(number: int, size: int) -> bytes:
    return (b"%d" % number + WORDS * (size // len(WORDS) + 1))[:size]


def etag(content: bytes) -> str:
    """What S3 says of an object that came in parts, or in one piece."""
    if len(content) < PART:
        return hashlib.md5(content).hexdigest()
    parts = [hashlib.md5(content[start : start + PART]).digest() for start in range(0, len(content), PART)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


def fill(database: Database, kind: str, rows: int, size: int) -> None:
    column, value = (TABLES | QUOTED)[kind]
    database.sql(
        f"CREATE TABLE docs (id int PRIMARY KEY, {column});"
        f"INSERT INTO docs SELECT n, {value.format(size=size)} FROM generate_series(1, {rows}) n"
    )


@pytest.fixture(scope="module")
def server() -> Iterator[RunningSimulator]:
    with simulator("--keep", "digest") as server:
        yield server


@pytest.fixture(autouse=True)
def emptied(server: RunningSimulator) -> None:
    server.set_faults()
    server.set_latency("0s")
    server.forget_objects()


def arguments(server: RunningSimulator, kind: str, *more: str, command: str = "sync") -> tuple[str, ...]:
    column = "lo:b" if kind == "object" else "b"
    to = "--to=s3://bucket/docs/{id}.bin"
    return (
        command,
        "--table=docs",
        f"--body={column}",
        to,
        f"--endpoint-url={server.endpoint_url}",
        "--output=json",
        *more,
    )


def kept(server: RunningSimulator) -> dict[str, tuple[int, str]]:
    return {one["key"]: (one["size"], one["md5"]) for one in server.list_objects("bucket")}


def expected(*sizes: int) -> dict[str, tuple[int, str]]:
    return {f"docs/{n}.bin": (size, etag(body(n, size))) for n, size in enumerate(sizes, 1)}


@pytest.mark.parametrize(
    "kind", ["pglz", *(pytest.param(kind, marks=pytest.mark.soak) for kind in ("external", "text", "object"))]
)
def test_large_rows_arrive_whole_and_are_verified_and_found_the_same_again(
    connected: Program, database: Database, server: RunningSimulator, kind: str
) -> None:
    fill(database, kind, 2, SIZE)
    database.sql(
        f"INSERT INTO docs SELECT n, {TABLES[kind][1].format(size=10)} FROM generate_series(3, 9) n;"
        "INSERT INTO docs VALUES (10, NULL)"
    )
    memory = "--memory=64MiB"
    run = connected(*arguments(server, kind, memory), **KEYS)
    assert run.code == 0, run.stderr
    check_shape(run.summary)
    assert (run.summary["put"], run.summary["skipped"], run.summary["bytes"]) == (9, 1, 2 * SIZE + 70)
    assert kept(server) == expected(SIZE, SIZE, *[10] * 7)
    requests = server.counters()["requests"]
    again = connected(*arguments(server, kind, memory, "--if-exists=different", "--name=again"), **KEYS)
    assert (again.code, again.summary["put"], again.summary["skipped"]) == (0, 0, 10), again.stderr
    assert server.counters()["requests"]["PUT"] == requests["PUT"]
    database.sql(f"UPDATE docs SET b = {TABLES[kind][1].format(size=SIZE).replace('n::text', '3::text')} WHERE id = 2")
    verified = connected(*arguments(server, kind, memory, command="verify"), **KEYS)
    assert verified.code == 4, verified.stderr
    assert [one["key"] for one in verified.summary["differences"]] == [["2"]]
    assert verified.summary["different"] == 1


def test_a_connection_that_dies_within_a_large_row_costs_nothing_but_time(
    connected: Program, database: Database, server: RunningSimulator
) -> None:
    fill(database, "external", 2, 3 * SIZE)
    server.set_latency("50ms")
    process = connected.start(*arguments(server, "external", "--memory=48MiB"), **KEYS)
    ended = 0
    while process.poll() is None and ended < 2:
        ended += database.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE state = 'idle in transaction' "
            "AND datname = current_database() AND query LIKE 'FETCH%' LIMIT 1"
        ).count("t")
    run = connected.finish(process)
    assert run.code == 0, run.stderr
    assert ended == 2
    assert run.summary["retries"] >= 1
    assert kept(server) == expected(3 * SIZE, 3 * SIZE)
    assert server.objects("bucket")["uploads"] == 0


def test_a_large_row_that_cannot_be_read_fails_with_its_reason_and_is_sent_again_later(
    connected: Program, database: Database, server: RunningSimulator
) -> None:
    fill(database, "object", 3, SIZE)
    database.sql("SELECT lo_unlink(b) FROM docs WHERE id = 2")
    run = connected(*arguments(server, "object"), **KEYS)
    assert (run.code, run.summary["put"], run.summary["failed"]) == (3, 2, 1), run.stderr
    letters = (connected.folder / run.summary["dead_letters"]).read_text()
    assert "BodyRefused" in letters
    assert "does not exist" in letters
    database.sql(
        "SELECT lo_from_bytea(b, convert_to(rpad('2', 100, ' and words that compress.'), 'UTF8')) FROM docs WHERE id = 2"
    )
    again = connected(
        "retry", run.summary["dead_letters"], f"--endpoint-url={server.endpoint_url}", "--output=json", **KEYS
    )
    assert (again.code, again.summary["put"]) == (0, 1), again.stderr
    assert kept(server) == expected(SIZE, 100, SIZE)


def test_large_rows_become_files_through_the_same_door(connected: Program, database: Database, tmp_path: Path) -> None:
    fill(database, "text", 2, SIZE)
    to = f"--to=file://{tmp_path}/out/{{id}}.txt"
    run = connected("sync", "--table=docs", "--body=b", to, "--memory=32MiB", "--output=json")
    assert run.code == 0, run.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        f"{n}.txt": body(n, SIZE) for n in (1, 2)
    }
    verified = connected("verify", "--table=docs", "--body=b", to, "--memory=32MiB", "--output=json")
    assert verified.code == 0, verified.stderr


# --- how much memory ------------------------------------------------------------------------------------------


def measured(program: Program, *arguments: str) -> tuple[Run, int]:
    """A run, and the most memory that it had at a time, in bytes."""
    process, most = program.start(*arguments, **KEYS), 0
    while process.poll() is None:
        most = max(most, high_water(process))
        time.sleep(0.02)
    return program.finish(process, timeout=600), most


def high_water(process: subprocess.Popen[str]) -> int:
    try:
        status = (Path("/proc") / str(process.pid) / "status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


on_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it looks into /proc")


@on_linux
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lane", ["wire", "botocore"])
@pytest.mark.parametrize("kind", TABLES | QUOTED)
def test_a_hundred_rows_of_64_mb_pass_through_128_mib_with_300_mb(
    connected: Program, database: Database, server: RunningSimulator, kind: str, lane: str
) -> None:
    fill(database, kind, 100, 64 * MB)
    run, most = measured(connected, *arguments(server, kind, "--memory=128MiB", f"--s3-client={lane}"))
    print(f"\n{kind}, {lane}: {most / MB:.0f} MB, {run.summary['seconds']:.0f} s")
    assert (run.code, run.summary["put"]) == (0, 100), run.stderr
    if kind in TABLES:
        assert kept(server) == expected(*[64 * MB] * 100)
    assert most <= 300 * MB


@on_linux
@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", TABLES)
def test_a_row_of_a_gigabyte_passes_through_64_mib_and_those_around_it_too(
    connected: Program, database: Database, server: RunningSimulator, kind: str
) -> None:
    largest = ((1 << 30) - 1000) // len(WORDS) * len(WORDS)  # with all headers of its row it has room in a gigabyte
    fill(database, kind, 3, 1000)
    value = TABLES[kind][1].replace(
        "rpad(n::text, {size}, ' and words that compress.')",
        f"repeat(' and words that compress.', {largest // len(WORDS)})",
    )
    database.sql(f"UPDATE docs SET b = {value} WHERE id = 2")
    run, most = measured(connected, *arguments(server, kind, "--memory=64MiB"))
    print(f"\n{kind}, {largest:,}: {most / MB:.0f} MB, {run.summary['seconds']:.0f} s")
    assert (run.code, run.summary["put"]) == (0, 3), run.stderr
    assert kept(server)["docs/2.bin"][0] == largest
    assert most <= 250 * MB
