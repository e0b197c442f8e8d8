"""`--log-format json`: every event is one object in one line, of fields that keep their names, without a secret."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from asyncup import events
from asyncup.console.logged import WAITS, JsonView, LogLines, LogRecords, Printed
from asyncup.console.text import Redactor, error_lines
from asyncup.errors import ConnectionLost, Throttled
from asyncup.events import (
    Draining,
    Event,
    Finished,
    JobState,
    Listing,
    LiveState,
    Notice,
    OfJob,
    Planned,
    Progress,
    RowFailed,
    Waiting,
)
from asyncup.model import Counts, DeadLetter
from asyncup.report import COMPLETE, PARTIAL, JobReport, Report
from asyncup.resolved import Plan

PLAN = Plan("docs", "public.docs", ("id",), "s3://b/{id}", 1000, False, 0, {}, ".asyncup/docs.json")
STEP = Progress(Counts(100, 2, 1, 2000), 6.0, 12, 32, 105, 4, 1, 4096, "found", 0.0042)
LETTER = DeadLetter(("7", None), "o/7", "RowRefused", "render", "no\ngood", 1, "2026-01-31T00:00:00Z")
OPENING = {"time": "2026-01-31T23:59:59.123Z"}


class Log:
    """What a view wrote."""

    def __init__(self, **options: Any) -> None:
        self.out, self.now = io.StringIO(), 0.0
        self.lines = LogLines(self.out, Redactor(("sesame-open",)), now=lambda: 1769903999.1234)
        self.view = JsonView(self.lines, clock=lambda: self.now, **options)

    def tell(self, *events_: Event) -> list[dict[str, Any]]:
        begin = self.out.tell()
        for event in events_:
            self.view.on_event(event)
        return [json.loads(line) for line in self.out.getvalue()[begin:].splitlines()]


def test_every_event_has_a_line_whose_fields_keep_their_names() -> None:
    log = Log()
    told = log.tell(
        Planned(PLAN),
        STEP,
        Waiting("connect: gone", 0.25, 2),
        Listing(5000),
        RowFailed(LETTER),
        Notice("look out"),
        Notice("as it should be", is_routine=True),
        Draining("SIGTERM", 5, 30.0),
    )
    shown = [{name: value for name, value in line.items() if name not in ("time", "job")} for line in told]
    assert all(line["time"] == OPENING["time"] and line["job"] == "docs" for line in told)
    assert all(list(line)[:4] == ["time", "level", "event", "job"] for line in told)
    assert shown[0] == {
        "level": "info",
        "event": "planned",
        "source": "public.docs",
        "destination": "s3://b/{id}",
        "key": ["id"],
        "estimated_rows": 1000,
        "resumed": False,
        "settled_before": 0,
        "checkpoint": ".asyncup/docs.json",
        "dry_run": False,
    }
    assert shown[1] == {
        "level": "info",
        "event": "progress",
        "rows": 103,
        "put": 100,
        "skipped": 2,
        "failed": 1,
        "bytes": 2000,
        "seconds": 6.0,
        "objects_per_second": 16.7,
        "bytes_per_second": 333,
        "share": 0.103,
        "eta_seconds": 52,
        "in_flight": 12,
        "limit": 32,
        "reason": "found",
        "attempts": 105,
        "retries": 4,
        "throttled": 1,
        "memory": 4096,
        "loop_lag_ms": 4.2,
    }
    assert shown[2:] == [
        {
            "level": "warning",
            "event": "waiting",
            "message": "connect: gone",
            "seconds": 0.25,
            "attempt": 2,
            "unsaid": 0,
        },
        {"level": "info", "event": "listing", "objects": 5000},
        {
            "level": "warning",
            "event": "row_failed",
            "key": ["7", None],
            "object_key": "o/7",
            "type": "RowRefused",
            "op": "render",
            "message": "no\ngood",
            "attempts": 1,
        },
        {"level": "warning", "event": "notice", "message": "look out"},
        {"level": "info", "event": "notice", "message": "as it should be"},
        {"level": "warning", "event": "draining", "signal": "SIGTERM", "in_flight": 5, "seconds": 30.0},
    ]


def test_no_kind_of_event_is_left_out() -> None:
    told = {
        "Planned",
        "Progress",
        "Waiting",
        "Listing",
        "RowFailed",
        "Notice",
        "Draining",
        "Finished",
        "OfJob",
        "LiveState",
        "Busy",  # for a screen alone
    }
    assert {kind.__name__ for kind in get_args(events.Event)} == told
    assert {entry.name for entry in fields(Progress)} == {
        *("counts", "seconds", "in_flight", "limit", "attempts", "retries", "throttled", "memory", "reason", "lag"),
        *("latency", "latencies", "parts", "saved"),  # of which the live state, metrics and the report are made
    }


@pytest.mark.parametrize(
    ("report", "level", "code"),
    [
        (Report(JobReport("docs", COMPLETE, Counts(3))), "info", 0),
        (Report(JobReport("docs", PARTIAL, Counts(3, 0, 1))), "warning", 3),
        (Report(error=ConnectionLost("connect", "h", "gone")), "error", 1),
    ],
)
def test_the_end_has_the_fields_of_the_summary_and_the_exit_code(report: Report, level: str, code: int) -> None:
    (line,) = Log().tell(Finished(report))
    summary = report.to_json()
    del summary["version"], summary["jobs"]
    assert line == {**OPENING, "level": level, "event": "finished", "job": None, **summary, "exit_code": code}


def test_of_several_jobs_each_has_its_name_and_all_of_them_have_none() -> None:
    log = Log(labels=["docs", "pages"])
    ended = Report(JobReport("docs", COMPLETE, Counts(3)))
    told = log.tell(
        OfJob("docs", Planned(PLAN)), OfJob("pages", Notice("look")), Notice("all end"), OfJob("docs", STEP),
        OfJob("docs", Finished(ended)), Finished(ended),
    )  # fmt: skip
    assert [(line["event"], line["job"]) for line in told] == [
        ("planned", "docs"),
        ("notice", "pages"),
        ("notice", None),
        ("progress", "docs"),
        ("finished", "docs"),
        ("finished", None),
    ]


def test_a_storm_of_waits_is_thinned_and_says_how_many_were_left_out() -> None:
    log = Log()
    waiting = Waiting("503", 0.1, 1)
    assert len(log.tell(*[waiting] * (WAITS + 990))) == WAITS
    log.now = 1.0
    assert [line["unsaid"] for line in log.tell(waiting, waiting)] == [990, 0]


def test_without_progress_only_what_somebody_should_know_is_logged() -> None:
    told = Log(progress=False).tell(Planned(PLAN), STEP, RowFailed(LETTER), Finished(Report()))
    assert [line["event"] for line in told] == ["row_failed"]


def test_errors_logs_of_libraries_and_prints_are_lines_too_and_no_line_holds_a_secret() -> None:
    log = Log()
    log.lines.error(
        ConnectionLost("connect", "postgresql://me:sesame-open@h/d", "sesame-open\nis wrong"), "docs", deep=True
    )
    record = {"name": "library", "levelno": logging.WARNING, "msg": "used %s", "args": ("sesame-open",)}
    LogRecords(log.lines).handle(logging.makeLogRecord(record))
    printed = Printed(log.lines)
    print("sesame-open", "and", file=printed)
    print("no end", end="", file=printed)
    printed.close()
    told = [json.loads(line) for line in log.out.getvalue().splitlines()]
    assert "sesame" not in log.out.getvalue()
    assert told[0].pop("traceback").startswith("asyncup.errors.ConnectionLost")
    assert [{name: value for name, value in line.items() if name != "time"} for line in told] == [
        {
            "level": "error",
            "event": "error",
            "job": "docs",
            "type": "ConnectionLost",
            "op": "connect",
            "subject": "postgresql://me:***@h/d",
            "message": "***\nis wrong",
            "hint": None,
        },
        {"level": "warning", "event": "log", "job": None, "logger": "library", "message": "used ***"},
        {"level": "info", "event": "printed", "job": None, "message": "*** and"},
        {"level": "info", "event": "printed", "job": None, "message": "no end"},
    ]


def test_the_live_state_is_a_line_and_so_is_a_request_and_an_error_says_what_s3_calls_its_request() -> None:
    log = Log(progress=False)
    (state,) = log.tell(LiveState("running", 1.0, (JobState("docs", "running", PLAN, STEP),)))
    assert (state["event"], state["level"], state["job"], state["jobs"][0]["put"]) == ("state", "info", None, 100)
    refused = Throttled("put", "o/7", "SlowDown")
    refused.request_id, refused.host_id = "4442", "uRk"
    log.lines.error(refused)
    record = {"name": "asyncup.s3", "levelno": logging.INFO, "msg": "PUT h", "request": {"method": "PUT"}}
    LogRecords(log.lines).handle(logging.makeLogRecord(record))
    _, error, told = map(json.loads, log.out.getvalue().splitlines())
    assert (error["request_id"], error["host_id"]) == ("4442", "uRk")
    assert (told["level"], told["request"]) == ("info", {"method": "PUT"})
    assert error_lines(refused)[-1] == "  asked: request id 4442, host id uRk"


def test_the_documentation_names_every_event_and_field() -> None:
    log = Log()
    told = log.tell(
        Planned(PLAN), STEP, Waiting("m", 1.0, 1), Listing(1), RowFailed(LETTER), Notice("m"), Draining("s", 1, 1.0)
    )
    log.lines.error(ConnectionLost("connect", "h", "gone"))
    told.append(json.loads(log.out.getvalue().splitlines()[-1]))
    rows: dict[str, set[str]] = {"": set()}
    for line in (Path(__file__).parents[2] / "docs" / "reference" / "log-events.md").read_text().splitlines():
        if line.startswith("## "):
            rows[line.removeprefix("## ")] = set()
        elif line.startswith("| `"):
            rows[list(rows)[-1]].add(line.split("`")[1])
    for line in told:
        assert line.keys() - {"time", "level", "event", "job"} <= rows[line["event"]], line["event"]
    assert {"finished", "state", "log", "printed"} <= rows.keys()
    assert rows[""] == {"time", "level", "event", "job"}
