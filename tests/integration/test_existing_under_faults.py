"""`--if-exists` and `verify` against a simulator that loses answers: no object is replaced, no row fails over its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncup.app import execute
from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.config import Config
from asyncup.flow.interrupt import Interrupt
from asyncup.protocols import Silence
from asyncup.report import JobReport
from asyncup.verification import verify
from tests.conftest import Database

ROWS, OLD = 60, 15
#: Stored and not acknowledged, in every way; refused for a moment, in every way.
FAULTS = {
    "reset-after": 0.08,
    "html": 0.05,
    "truncated": 0.05,
    "garbage": 0.05,
    "reset": 0.05,
    "error": 0.05,
    "slowdown": 0.02,
    "conflict": 0.05,
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningSimulator]:
    with simulator("--keep", "all", "--seed", "4") as running:
        yield running


@pytest.fixture
def given(
    server: RunningSimulator, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "checked by nobody")
    server.set_faults()
    server.forget_objects()
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, content bytea);"
        f"INSERT INTO docs SELECT n, convert_to('body ' || n, 'UTF8') FROM generate_series(1, {ROWS}) n"
    )
    return {
        "dsn": database.dsn,
        "table": "docs",
        "to": "s3://bucket/d/{id}",
        "body": "content",
        "endpoint_url": server.endpoint_url,
        "state": str(tmp_path / "state"),
        "concurrency": 32,
    }


async def sync(**options: Any) -> JobReport:
    report = await execute(Config.of(**options), Silence(), Interrupt())
    assert report.error is None, report.error
    assert report.job is not None
    return report.job


@pytest.mark.parametrize(
    ("lane", "if_exists"),
    [
        ("wire", "skip"),
        ("botocore", "fail"),
        pytest.param("wire", "fail", marks=pytest.mark.soak),
        pytest.param("botocore", "skip", marks=pytest.mark.soak),
    ],
)
async def test_lost_answers_are_recognised_and_nothing_is_replaced(
    given: dict[str, Any], server: RunningSimulator, database: Database, lane: str, if_exists: str
) -> None:
    sql = f"INSERT INTO docs SELECT n, 'theirs' FROM generate_series({ROWS + 1}, {ROWS + OLD}) n"
    await asyncio.to_thread(database.sql, sql)
    await sync(**given, where=f"id > {ROWS}")
    await asyncio.to_thread(database.sql, "UPDATE docs SET content = 'ours' WHERE content = 'theirs'")
    await asyncio.to_thread(server.set_faults, FAULTS, on="put")
    job = await sync(**given, if_exists=if_exists, s3_client=lane)
    old = (OLD, 0) if if_exists == "skip" else (0, OLD)
    assert (job.counts.put, job.counts.skipped, job.counts.failed) == (ROWS, *old)
    assert job.retries > ROWS // 8
    kept = await asyncio.to_thread(server.objects)
    assert (kept["objects"], kept["overwritten"]) == (ROWS + OLD, 0)


async def test_a_large_object_whose_completion_was_not_acknowledged_is_recognised(
    given: dict[str, Any], server: RunningSimulator, database: Database
) -> None:
    sql = "DELETE FROM docs WHERE id > 1; UPDATE docs SET content = convert_to(repeat('x', 17000000), 'UTF8')"
    await asyncio.to_thread(database.sql, sql)
    for fault in ("reset-after", "truncated", "html"):
        await asyncio.to_thread(server.forget_objects)
        await asyncio.to_thread(server.set_faults, {fault: 1}, on="complete", times=1)
        job = await sync(**given, if_exists="fail")
        assert (job.counts.put, job.counts.failed) == (1, 0)
        assert (await asyncio.to_thread(server.objects))["overwritten"] == 0


async def test_what_differs_is_found_and_sent_through_faults_and_verified_through_faults(
    given: dict[str, Any], server: RunningSimulator, database: Database
) -> None:
    await sync(**given)
    sql = "UPDATE docs SET content = convert_to('BODY ' || id, 'UTF8') WHERE id % 6 = 0; DELETE FROM docs WHERE id = 1"
    await asyncio.to_thread(database.sql, sql)
    faults = {"reset": 0.1, "error": 0.1, "slowdown": 0.02, "garbage": 0.05, "truncated": 0.05}
    await asyncio.to_thread(server.set_faults, faults, on="list+head+get+put")
    job = await sync(**given, if_exists="different")
    assert (job.counts.put, job.counts.skipped, job.counts.failed) == (10, ROWS - 11, 0)
    for deep in (False, True):
        verdict = await verify(Config.of(**given), Silence(), Interrupt(), deep=deep)
        assert verdict.error is None, verdict.error
        assert (verdict.rows, verdict.objects) == (ROWS - 1, ROWS)
        assert [(one.kind, one.object_key) for one in verdict.differences] == [("extra", "d/1")]
