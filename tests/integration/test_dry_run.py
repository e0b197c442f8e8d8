"""A dry run does all that a run does, but for sending: nothing that writes reaches a destination, whatever it is."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import asyncup
from asyncup.errors import DestinationRefused
from asyncup.model import Slices, Streamed, Upload
from asyncup.report import Report
from asyncup.sinks.s3 import S3Settings, S3Sink
from tests.conftest import Bucket, Database
from tests.integration.scripted_s3 import ScriptedS3, answer_as_s3, scripted_s3, step

PART = 1 << 20
SMALL = Upload("a folder/small", b"some bytes", (("cache-control", "max-age=60"),))
LARGE = Upload("large", bytes(5 * PART // 2))


def streamed(*slices: bytes) -> Upload:
    """An upload that is read slice by slice."""

    async def read() -> AsyncIterator[bytes]:
        for piece in slices:
            yield piece

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Slices]:
        yield Slices(size, read())

    size = sum(map(len, slices))
    return Upload("streamed", Streamed(size, PART, opened))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedS3]:
    async with scripted_s3() as server:
        server.usual = answer_as_s3
        yield server


async def put(server: ScriptedS3, lane: str, *uploads: Upload, sends: bool, **options: Any) -> tuple[list[int], int]:
    """Put objects; their sizes, and how many requests were made and not sent."""
    settings = S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane, part_bytes=PART, **options)
    sink = await S3Sink.open(settings, sends=sends)
    try:
        await sink.check()
        return [(await sink.put(upload)).size for upload in uploads], sink.unsent
    finally:
        await sink.close()


@pytest.mark.usefixtures("credentials")
async def test_every_request_is_made_and_none_that_writes_is_sent(server: ScriptedS3, lane: str) -> None:
    uploads = (SMALL, LARGE, streamed(b"x" * PART, b"y" * PART, b"z"))
    sizes, unsent = await put(server, lane, *uploads, sends=False)
    assert [request.method for request in server.requests] == ["HEAD"]
    sent, _ = await put(server, lane, *uploads, sends=True)
    writing = [step(request) for request in server.requests if request.method != "HEAD"]
    assert (sizes, unsent) == (sent, len(writing))
    assert unsent == 1 + 2 * 5


async def test_without_credentials_nothing_can_be_signed(
    server: ScriptedS3, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DestinationRefused, match="redentials"):
        await put(server, lane, SMALL, sends=False)


# --- whole runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def docs(database: Database, tmp_path: Path) -> dict[str, Any]:
    """Ten rows: one without a body, one whose object key cannot be."""
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, name text NOT NULL UNIQUE, body text);"
        "INSERT INTO docs SELECT i, 'doc-' || i, repeat('x', 100) FROM generate_series(1, 8) i;"
        "INSERT INTO docs VALUES (9, 'empty', NULL), (10, '..', 'x')"
    )
    return {"dsn": database.dsn, "table": "docs", "body": "body", "state": str(tmp_path / "state"), "dry_run": True}


def outcome(report: Report) -> dict[str, Any]:
    summary = report.to_json()
    wanted = ("status", "dry_run", "rows", "put", "skipped", "failed", "bytes", "attempts", "checkpoint")
    return {name: summary[name] for name in wanted}


WOULD = {
    "status": "partial",
    "dry_run": True,
    "rows": 10,
    "put": 8,
    "skipped": 1,
    "failed": 1,
    "bytes": 800,
    "attempts": 0,
    "checkpoint": None,
}


async def test_a_bucket_is_told_nothing_and_the_rows_that_would_fail_are_in_a_trial_file(
    docs: dict[str, Any], rclone_bucket: Bucket
) -> None:
    report = await asyncup.sync(**docs, to=f"s3://{rclone_bucket.name}/{{name}}")
    assert rclone_bucket.objects() == {}
    assert (outcome(report), report.exit_code, report.parts[0].requests) == (WOULD, 3, 8)
    assert report.to_json()["jobs"][0]["dry_run"] is True
    assert report.job is not None
    letters = Path(report.job.dead_letters or "")
    head, letter = (json.loads(line) for line in letters.read_text().splitlines())
    assert (head["job"]["name"], letter["key"]) == ("public.docs.trial", ["10"])
    assert "dry_run" not in head["job"]["options"], "a retry of these rows is no dry run"
    assert sorted(path.suffix for path in Path(docs["state"]).iterdir() if "docs" in path.name) == [".jsonl", ".lock"]


@pytest.mark.parametrize("mode", ["overwrite", "skip", "fail", "different"])
async def test_a_folder_is_not_made_and_what_is_there_is_looked_at(
    mode: str, docs: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "objects"
    report = await asyncup.sync(**docs, to=f"file://{folder}/{{name}}", if_exists=mode)
    assert (outcome(report), folder.exists()) == (WOULD, False)
    folder.mkdir()
    (folder / "doc-1").write_text("x" * 100)
    (folder / "doc-2").write_text("old")
    report = await asyncup.sync(**docs, to=f"file://{folder}/{{name}}", if_exists=mode)
    found = outcome(report)
    there = {"overwrite": (8, 1, 1), "skip": (6, 3, 1), "fail": (6, 1, 3), "different": (7, 2, 1)}
    assert (found["put"], found["skipped"], found["failed"]) == there[mode]
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"doc-1": "x" * 100, "doc-2": "old"}


TARGET = """
called = []

def factory():
    return Target()

class Target:
    def put(self, upload):
        called.append(upload.key)

    def check(self):
        called.append("check")

    def close(self):
        called.append("close")
"""


async def test_a_sink_of_ones_own_is_checked_and_closed_and_nothing_is_put(
    docs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dry_target.py").write_text(TARGET)
    monkeypatch.syspath_prepend(tmp_path)
    report = await asyncup.sync(**docs, to="python:dry_target:factory/{name}")
    import dry_target  # type: ignore[import-not-found]

    assert (outcome(report), dry_target.called) == (WOULD, ["check", "close"])


async def test_rows_are_transformed_and_packed(docs: dict[str, Any], rclone_bucket: Bucket) -> None:
    options = {**docs, "to": f"s3://{rclone_bucket.name}/{{id}}.ndjson", "pack": "ndjson", "pack_rows": 3}
    report = await asyncup.sync(**{**options, "body": None}, transform=lambda record: str(record["id"]))
    assert (outcome(report)["put"], report.parts[0].requests, rclone_bucket.objects()) == (10, 4, {})


async def test_several_jobs_are_a_dry_run_if_all_of_them_are_and_rates_of_requests_hold_back_nothing(
    docs: dict[str, Any], rclone_bucket: Bucket
) -> None:
    jobs = [{"name": name, "to": f"s3://{rclone_bucket.name}/{name}/{{name}}"} for name in ("one", "two")]
    report = await asyncup.sync_all([{**docs, **job} for job in jobs], max_rate=0.1)
    assert (outcome(report), rclone_bucket.objects()) == (
        {**WOULD, "rows": 20, "put": 16, "skipped": 2, "failed": 2, "bytes": 1600},
        {},
    )
    assert [job.requests for job in report.jobs] == [8, 8]
    mixed = await asyncup.sync_all([{**docs, **jobs[0]}, {**docs, **jobs[1], "to": "null:", "dry_run": False}])
    assert "dry_run" not in mixed.to_json()
    assert ["dry_run" in job for job in mixed.to_json()["jobs"]] == [True, False]


async def test_it_reads_from_the_start_and_leaves_the_checkpoint_as_it_is(
    docs: dict[str, Any], rclone_bucket: Bucket
) -> None:
    options = {**docs, "to": f"s3://{rclone_bucket.name}/{{name}}"}
    await asyncup.sync(**{**options, "dry_run": False})
    checkpoint = Path(docs["state"]) / "public.docs.json"
    before = checkpoint.read_bytes()
    report = await asyncup.sync(**options, restart=True)
    assert (outcome(report), checkpoint.read_bytes()) == (WOULD, before)
