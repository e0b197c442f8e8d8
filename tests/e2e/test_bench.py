"""`asyncup bench` as people run it: the knee of a known one, what it leaves behind, its gate, its exit codes, its JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from asyncup.benchmark import Benchmark
from tests.conftest import Bucket, Database, Program, Run

ROWS = 3_000
#: Milliseconds and requests a second of the simulator that is asked: more than sixteen in flight bring no more.
LATENCY, LIMIT, KNEE = 40, 400, 16


@pytest.fixture
def docs(database: Database) -> Database:
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, content bytea);"
        f"INSERT INTO docs SELECT n, convert_to(repeat('x', 200), 'UTF8') FROM generate_series(1, {ROWS}) n; ANALYZE docs"
    )
    return database


def found(run: Run) -> dict[str, Any]:
    """The JSON of a benchmark, of the shape that every outcome has."""
    summary = run.summary
    assert list(summary) == list(Benchmark().to_json())
    assert summary["version"] == 1
    return summary


def flags(to: str, *more: str) -> list[str]:
    return ["--table=docs", f"--to={to}", "--body=content", "--output=json", *more]


def test_a_known_knee_is_found_and_what_is_projected_follows_from_it(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    run = connected(
        "bench",
        *flags(f"s3://{bucket.name}/d/{{id}}.txt", "--rows=100000", "--duration=0.6s", "--target=10s"),
        f"--latency={LATENCY}ms",
        f"--request-limit={LIMIT}",
        "--save=base.json",
    )
    assert run.code == 0, run.stderr
    bench = found(run)
    # what a busy machine adds to the latency moves the knee
    taken = next(step["latency_ms"]["p50"] for step in bench["sweep"]["steps"] if step["concurrency"] == 4)
    assert bench["sweep"]["knee"] == pytest.approx(KNEE * max(1, taken / LATENCY), rel=0.15)
    assert bench["sweep"]["objects_per_second"] == pytest.approx(LIMIT, rel=0.15)
    assert bench["bottleneck"] == "destination"
    for stage in ("read", "render", "whole"):
        assert bench[stage]["rows_per_second"] > 0
        assert bench[stage]["cpu_us"] > 0
    assert bench["send"]["objects_per_second"] > LIMIT
    assert bench["start_up"]["imports_seconds"] > 0
    projection = bench["projection"]
    assert projection["seconds"] == pytest.approx(100_000 / LIMIT, rel=0.15)
    assert (projection["rows"], projection["basis"], projection["requests"]) == (100_000, "--rows", 100_000)
    assert projection["prefixes_for_target"] == 4  # 10,500 a second, since there is a start-up too
    assert projection["dollars"] is None  # the endpoint is not AWS
    kept = json.loads((connected.folder / "base.json").read_text())
    assert kept["benchmarks"]["public.docs"]["sweep"] == bench["sweep"]
    assert [path.name for path in connected.folder.iterdir()] == ["base.json"]  # no state
    assert bucket.objects() == {}


def test_a_regression_is_shown_and_exits_one_and_without_s3_the_rest_is_measured(
    connected: Program, docs: Database
) -> None:
    measuring = ("bench", *flags("null:", "--duration=0.2s"))
    run = connected(*measuring, "--save=base.json")
    assert run.code == 0, run.stderr
    bench = found(run)
    assert (bench["send"], bench["sweep"]) == (None, None)
    assert bench["projection"]["rows"] == ROWS
    path = connected.folder / "base.json"
    kept = json.loads(path.read_text())
    kept["benchmarks"]["public.docs"]["read"]["cpu_us"] /= 10
    path.write_text(json.dumps(kept))
    run = connected(*measuring, "--compare=base.json", "--max-regression=200%")
    assert run.code == 1
    bench = found(run)
    assert (bench["status"], bench["error"]["type"]) == ("aborted", "GateMissed")
    assert "read.cpu_us" in bench["error"]["message"]
    assert [change["figure"] for change in bench["changes"] if change["regression"]] == ["read.cpu_us"]


def test_the_real_bucket_is_left_as_it_was(connected: Program, docs: Database, bucket: Bucket) -> None:
    run = connected(
        "bench",
        *flags(f"s3://{bucket.name}/d/{{id}}.txt", "--against=bucket", "--duration=0.2s", "--max-concurrency=2"),
    )
    assert run.code == 0, run.stderr
    bench = found(run)
    assert bench["sweep"]["against"] == "bucket"
    assert sum(step["objects_per_second"] for step in bench["sweep"]["steps"]) > 0
    assert "objects go below s3://" in run.stderr
    assert bucket.objects() == {}


def test_ctrl_c_removes_what_was_put_too(connected: Program, docs: Database, bucket: Bucket) -> None:
    process = connected.start(
        "bench",
        *flags(f"s3://{bucket.name}/d/{{id}}.txt", "--against=bucket", "--duration=0.3s", "--max-concurrency=4"),
    )
    connected.interrupt(process, when=lambda: any(files for *_, files in os.walk(bucket.folder)))
    run = connected.finish(process)
    assert run.code == 130, run.stderr
    assert found(run)["status"] == "interrupted"
    assert bucket.objects() == {}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--against=moon"], "--against"),
        (["--against=bucket", "--latency=3ms"], "--latency"),
        (["--latency=soon"], "--latency"),
        (["--duration=1ms"], "--duration"),
        (["--max-regression=10%"], "--max-regression"),
        (["--compare=no.json"], "--compare"),
        (["--save=no/where.json"], "--save"),
        (["--save=/dev/null"], "--save"),  # it would be one no more
        (["--rows=-1"], "--rows"),
        (["--target=never"], "--target"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    more: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from asyncup.cli.commands import program

    assert program().main(args=["bench", *flags("null:", *more)], prog_name="asyncup", standalone_mode=False) == 2
    summary = json.loads(capsys.readouterr().out)
    assert list(summary) == list(Benchmark().to_json())
    assert summary["error"]["subject"] == says
