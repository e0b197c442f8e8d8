"""Several jobs as a library runs them, against a real database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import asyncup
from asyncup.config import Config
from asyncup.errors import UsageError
from asyncup.events import Notice, OfJob
from asyncup.flow.interrupt import Interrupt
from asyncup.together import Together, sync_together
from tests.conftest import Database
from tests.unit.runs import Watcher


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> dict[str, str]:
    """What every job of a shop has."""
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, 1100);"
        "CREATE TABLE pages (id int PRIMARY KEY); INSERT INTO pages SELECT generate_series(1, 50)"
    )
    return {"dsn": database.dsn, "state": str(tmp_path / "state"), "to": f"file://{tmp_path}/{{id}}"}


async def test_jobs_run_as_many_at_a_time_as_is_said_and_an_error_is_that_of_its_job(shop: dict[str, str]) -> None:
    jobs = [{**shop, "to": "null:", "table": table} for table in ("docs", "nothing", "pages")]
    report = await asyncup.sync_all(jobs, at_a_time=1, memory="1MiB")
    assert [(job.name, job.status, job.counts.put) for job in report.jobs] == [
        ("public.docs", "complete", 1100),
        ("nothing", "aborted", 0),
        ("public.pages", "complete", 50),
    ]
    assert report.job is not None
    assert (report.exit_code, report.job.counts.put) == (1, 1150)
    assert report.error is report.jobs[1].error


async def test_the_second_job_waits_for_its_place_and_neither_is_begun_after_one_has_failed(
    shop: dict[str, str],
) -> None:
    jobs = [{**shop, "to": "null:", "table": table} for table in ("nothing", "docs", "pages")]
    report = await asyncup.sync_all(jobs, at_a_time=1, fail_fast=True)
    assert [(job.status, job.counts.put) for job in report.jobs] == [
        ("aborted", 0),
        ("interrupted", 0),
        ("interrupted", 0),
    ]


async def test_jobs_that_would_share_a_checkpoint_or_a_file_are_refused(shop: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="2 jobs have this name"):
        await asyncup.sync_all([{**shop, "table": "docs"}, {**shop, "table": "pages", "name": "docs"}])
    with pytest.raises(UsageError, match="would write their dead letters there"):
        await asyncup.sync_all([{**shop, "table": table, "dead_letters": "x"} for table in ("docs", "pages")])
    with pytest.raises(UsageError, match="there are none"):
        await asyncup.sync_all([])
    with pytest.raises(UsageError, match="one mapping"):
        await asyncup.sync_all({**shop, "table": "docs"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="jobs do not share it"):
        await asyncup.sync_all([{**shop, "table": "docs"}], readers=2)


async def test_jobs_of_one_name_in_two_places_are_told_apart_and_it_is_said_that_they_write_to_one(
    shop: dict[str, str], tmp_path: Path
) -> None:
    configs = [
        Config.of(**{**shop, "name": "x", "table": table, "state": str(tmp_path / table), "limit": 10})
        for table in ("docs", "pages", "docs")
    ]
    configs[2] = Config.of(**{**shop, "table": "docs", "shard": "0/2", "limit": 10})
    watcher = Watcher()
    report = await sync_together(configs, Together(configs[0]), watcher, Interrupt())
    assert [(job.name, job.status) for job in report.jobs] == [
        ("x", "complete"),
        ("x", "complete"),
        ("public.docs.0-of-2", "complete"),
    ]
    first, second = f"x ({tmp_path}/docs)", f"x ({tmp_path}/pages)"
    assert {event.label for event in watcher.of(OfJob)} == {first, second, "docs.0-of-2"}
    texts = [notice.message for notice in watcher.of(Notice) if "both write to" in notice.message]
    assert texts
    assert all(second in text for text in texts)  # the other two read one table


async def test_a_cancelled_call_ends_every_job_and_the_next_one_goes_on(shop: dict[str, str]) -> None:
    jobs = [{**shop, "table": table, "to": shop["to"] + table, "max_rate": 1500} for table in ("docs", "pages")]
    folder = Path(shop["to"].removeprefix("file://")).parent

    def files() -> int:
        return sum(1 for _ in folder.glob("*docs"))

    call = asyncio.create_task(asyncup.sync_all(jobs, max_rate=1500))
    async with asyncio.timeout(30):
        while await asyncio.to_thread(files) < 510:
            await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("asyncup")} == set()
    report = await asyncup.sync_all([{**job, "max_rate": None} for job in jobs])
    assert (report.exit_code, report.jobs[0].resumed, report.jobs[0].total) == (0, True, 1100)
