"""`--timeout`: a run whose time is over ends as after a signal, and says that it is not done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asyncup
from asyncup.app import execute
from asyncup.config import Config
from asyncup.errors import OutOfTime
from asyncup.events import Draining, Event, Progress
from asyncup.flow.interrupt import Interrupt
from tests.conftest import Database

ROWS = 3000


@pytest.fixture
def docs(database: Database, tmp_path: Path) -> dict[str, Any]:
    database.sql(f"CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, {ROWS})")
    return {"dsn": database.dsn, "table": "docs", "to": "null:", "state": str(tmp_path / "state")}


class Ends:
    """An observer for whom the time is over once some rows are settled."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self.said: list[str] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, Progress) and event.counts.put > 510:
            self._interrupt.expire()
        if isinstance(event, Draining):
            self.said.append(event.signal)


async def test_what_is_settled_is_saved_and_the_next_run_goes_on(docs: dict[str, Any]) -> None:
    interrupt = Interrupt()
    observer = Ends(interrupt)
    report = await execute(Config.of(**docs, timeout="1h", max_rate=2000), observer, interrupt)
    assert (report.status, report.exit_code, observer.said) == ("aborted", 1, ["--timeout"])
    assert report.job is not None
    assert isinstance(report.job.error, OutOfTime)
    again = await asyncup.sync(**docs, expect_rows=f"{ROWS}:{ROWS}")
    assert again.job is not None
    assert (again.exit_code, again.job.resumed, again.job.total) == (0, True, ROWS)


async def test_time_runs_from_the_beginning_for_one_job_and_for_all_of_several(docs: dict[str, Any]) -> None:
    with pytest.raises(OutOfTime, match="1ms that --timeout gives is over"):
        await asyncup.sync(**docs, timeout="1ms")
    jobs = [{**docs, "name": name} for name in ("one", "two", "three")]
    report = await asyncup.sync_all(jobs, at_a_time=1, timeout="1ms", fail_fast=True)
    assert [(job.status, type(job.error)) for job in report.jobs] == [("aborted", OutOfTime)] * 3
    assert (report.status, report.exit_code) == ("aborted", 1)
    assert (await asyncup.sync(**docs, timeout="1h")).exit_code == 0
