"""A verification and `--if-exists` from configuration to verdict, in this process: real rows, real objects, mistakes on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asyncup.app import execute
from asyncup.config import Config
from asyncup.errors import AsyncupError, RowRefused, ServerFault
from asyncup.events import Notice
from asyncup.flow.interrupt import Interrupt
from asyncup.protocols import Silence
from asyncup.report import Report, Verdict
from asyncup.sinks.s3.listing import S3Objects
from asyncup.sinks.walk import DirectoryObjects
from asyncup.verification import verify
from tests.conftest import Bucket, Database
from tests.unit.runs import Watcher

ROWS = 40


@dataclass(frozen=True)
class Desk:
    """A table of 40 rows, every tenth without a body, and where they are copied to."""

    database: Database
    to: str
    state: Path

    def config(self, **more: Any) -> Config:
        given = {"table": "docs", "to": self.to, "body": "content", "state": str(self.state), **more}
        return Config.of(dsn=self.database.dsn, **given)

    async def sync(self, **more: Any) -> Report:
        return await execute(self.config(**more), Silence(), Interrupt())

    async def verify(self, *, deep: bool = False, **more: Any) -> Verdict:
        return await verify(self.config(**more), Silence(), Interrupt(), deep=deep)

    async def sql(self, text: str) -> None:
        await asyncio.to_thread(self.database.sql, text)

    async def damage(self) -> None:
        """Make a row of which there is no object, one of another size, one of other bytes, and objects of no row."""
        await self.sql(
            "INSERT INTO docs VALUES (0, 'new'); UPDATE docs SET content = 'longer' || content WHERE id = 12;"
            "UPDATE docs SET content = convert_to('BODY 13', 'UTF8') WHERE id = 13; DELETE FROM docs WHERE id = 14;"
            "UPDATE docs SET content = NULL WHERE id = 15"
        )


@pytest.fixture(params=["s3", "file"])
def desk(
    request: pytest.FixtureRequest, database: Database, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    for name, value in bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, content bytea);"
        "INSERT INTO docs SELECT n, CASE WHEN n % 10 > 0 THEN convert_to('body ' || n, 'UTF8') END "
        f"FROM generate_series(1, {ROWS}) n"
    )
    folder = bucket.folder if request.param == "s3" else tmp_path
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "1.txt").write_bytes(b"not below the prefix")
    place = f"s3://{bucket.name}" if request.param == "s3" else f"file://{tmp_path}"
    return Desk(database, f"{place}/d/{{id}}.txt", tmp_path / "state")


def counts(verdict: Verdict) -> tuple[str, int, int, int]:
    assert verdict.error is None, verdict.error
    return verdict.status, verdict.missing, verdict.different, verdict.extra


def kinds(verdict: Verdict) -> set[tuple[str, str]]:
    return {(one.kind, (one.object_key or "").rpartition("/")[2]) for one in verdict.differences}


async def test_rows_that_were_copied_are_the_same(desk: Desk) -> None:
    assert (await desk.sync()).exit_code == 0
    for deep in (False, True):
        verdict = await desk.verify(deep=deep)
        assert counts(verdict) == ("same", 0, 0, 0)
        assert (verdict.rows, verdict.objects, verdict.skipped, verdict.by_size) == (ROWS, ROWS - 4, 4, 0)


async def test_every_kind_of_difference_is_found_and_nothing_else(desk: Desk) -> None:
    await desk.sync()
    await desk.damage()
    for deep in (False, True):
        verdict = await desk.verify(deep=deep)
        assert counts(verdict) == ("different", 1, 2, 2)
        assert kinds(verdict) == {
            ("missing", "0.txt"),
            ("different", "12.txt"),
            ("different", "13.txt"),
            ("extra", "14.txt"),
            ("extra", "15.txt"),
        }


async def test_what_differs_is_sent_and_what_does_not_is_skipped(desk: Desk) -> None:
    await desk.sync()
    await desk.damage()
    report = await desk.sync(if_exists="different")
    assert report.job is not None
    # three rows differ, four never had a body and one has lost it; the others are as they were
    assert (report.exit_code, report.job.counts.put, report.job.counts.skipped) == (0, 3, ROWS - 3)
    assert report.job.attempts == 3
    assert counts(await desk.verify()) == ("different", 0, 0, 2)


@pytest.mark.parametrize(("if_exists", "code", "settled"), [("skip", 0, (4, 36, 0)), ("fail", 3, (4, 4, 32))])
async def test_what_is_there_is_left_alone(
    desk: Desk, if_exists: str, code: int, settled: tuple[int, int, int]
) -> None:
    await desk.sync(where="id <= 35")
    await desk.sql("UPDATE docs SET content = 'something else' WHERE id = 7")
    report = await desk.sync(if_exists=if_exists)
    assert report.job is not None
    found = report.job.counts
    assert (report.exit_code, (found.put, found.skipped, found.failed)) == (code, settled)
    assert kinds(await desk.verify()) == {("different", "7.txt")}  # which is as it was, and all others are there


async def test_nothing_exists_where_nothing_is_kept(desk: Desk) -> None:
    for if_exists in ("skip", "fail", "different"):
        report = await desk.sync(to="null:{id}", if_exists=if_exists)
        assert report.job is not None
        assert (report.job.counts.put, report.job.counts.skipped) == (36, 4)


async def test_rows_that_are_refused_are_missing_with_the_reason_or_different_where_there_is_an_object(
    desk: Desk,
) -> None:
    await desk.sql("DROP TABLE docs; CREATE TABLE docs (id text PRIMARY KEY, content bytea)")
    await desk.sql("INSERT INTO docs VALUES ('../x', 'x'), ('a', 'y')")
    assert (await desk.sync()).exit_code == 3
    verdict = await desk.verify()
    assert (verdict.rows, verdict.objects, counts(verdict)) == (2, 1, ("different", 1, 0, 0))
    assert verdict.differences[0].key == ("../x",)
    assert "segment" in verdict.differences[0].reason


async def test_the_first_thousand_differences_are_named_and_all_are_counted(desk: Desk) -> None:
    await desk.sync()
    await desk.sql("DELETE FROM docs; INSERT INTO docs SELECT n, '' FROM generate_series(1001, 2300) n")
    verdict = await desk.verify()
    assert counts(verdict) == ("different", 1300, 0, 36)
    assert sorted(one.key for one in verdict.differences if one.key) == [(str(n),) for n in range(1001, 2001)]


async def test_filters_and_what_becomes_of_null_count_as_in_the_copy(desk: Desk) -> None:
    same = {"table": None, "query": "select * from docs where id > 20", "key": "id", "on_null": "empty"}
    await desk.sync(**same)
    assert counts(await desk.verify(**same)) == ("same", 0, 0, 0)
    assert counts(await desk.verify(**{**same, "on_null": "skip"})) == ("different", 0, 0, 2)
    assert counts(await desk.verify(**same, where="id > 30")) == ("different", 0, 0, 10)
    limited = await desk.verify(**same, limit=5)
    assert (counts(limited), limited.limited) == (("same", 0, 0, 0), True)


async def test_a_row_that_is_larger_than_a_page_is_compared_like_any_other(desk: Desk) -> None:
    await desk.sql("UPDATE docs SET content = convert_to(repeat('x', 300000), 'UTF8') WHERE id = 5")
    await desk.sync(memory="256KiB")
    assert counts(await desk.verify(memory="256KiB")) == ("same", 0, 0, 0)
    await desk.sql("UPDATE docs SET content = convert_to(repeat('y', 300000), 'UTF8') WHERE id = 5")
    assert counts(await desk.verify(memory="256KiB")) == ("different", 0, 1, 0)


async def test_a_row_without_a_body_where_one_is_needed_is_missing_unless_it_has_an_object(desk: Desk) -> None:
    await desk.sync()
    await desk.sql("UPDATE docs SET content = NULL WHERE id = 11")
    verdict = await desk.verify(on_null="fail")
    assert counts(verdict) == ("different", 4, 1, 0)
    assert ("different", "11.txt") in kinds(verdict)


async def test_an_object_that_cannot_be_read_is_no_difference_and_ends_the_verification(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.sync()

    def refusing(error: type[AsyncupError]) -> Callable[..., Awaitable[str]]:
        async def compare(*_: object, **__: object) -> str:
            await asyncio.sleep(0)
            raise error("read", "d/1.txt", "it cannot be read now")

        return compare

    for error in (ServerFault, RowRefused):
        for kind in (S3Objects, DirectoryObjects):
            monkeypatch.setattr(kind, "compare", refusing(error))
        verdict = await desk.verify(deep=True, max_attempts=1)
        assert (verdict.status, verdict.exit_code, verdict.different) == ("aborted", 1, 0)
        assert verdict.error is not None
        assert verdict.error.message == "it cannot be read now"


async def test_state_among_the_objects_is_no_object_of_no_row_and_sync_says_that_it_is_there(desk: Desk) -> None:
    place = desk.to.rpartition("/")[0].removeprefix("file://")
    watcher = Watcher()
    for state in (f"{place}/state", place):
        report = await execute(desk.config(state=state, body="content", on_null="fail"), watcher, Interrupt())
        assert report.exit_code == 3
        assert any("among the objects of --to" in event.message for event in watcher.of(Notice))
        watcher.events.clear()
        await desk.sql("DELETE FROM docs WHERE content IS NULL AND id < 30")
        verdict = await desk.verify(state=state, body="content", where="content IS NOT NULL")
        left_over = [one for one in verdict.differences if "state/" not in (one.object_key or "")]
        assert counts(verdict)[:3] == (verdict.status, 0, 0)
        assert left_over == []
        assert verdict.objects == ROWS - 4 + len(verdict.differences)
    # what the first round left in a folder of its own is the state of somebody else now
    assert {one.kind for one in verdict.differences} == {"extra"}
    report = await execute(desk.config(), watcher, Interrupt())
    assert not any("among the objects" in event.message for event in watcher.of(Notice))
