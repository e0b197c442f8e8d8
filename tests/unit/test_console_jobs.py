"""What people see of several jobs: each under its name, all of them in a line, and how they ended."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from asyncup.console.jobs import PlainJobs
from asyncup.console.livejobs import LiveJobs
from asyncup.console.screen import HIDE, SHOW, Screen
from asyncup.console.summary import error_text, summary_lines
from asyncup.console.text import Redactor
from asyncup.errors import AsyncupError, SourceRefused
from asyncup.events import Draining, Event, Finished, Notice, OfJob, Planned, Progress, RowFailed
from asyncup.model import Counts, DeadLetter
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Latency, Report
from asyncup.resolved import Plan

LOST = SourceRefused("find table", "lost", "there is no table lost of postgresql://u:hidden@h/d", "look")


def planned(label: str) -> OfJob:
    plan = Plan(label, f"public.{label}", ("id",), f"s3://b/{label}/{{id}}", 1000, False, 0, {}, None)
    return OfJob(label, Planned(plan))


def progress(label: str, rows: int, seconds: float) -> OfJob:
    return OfJob(label, Progress(Counts(rows, 0, 1, rows * 2000), seconds, 12, 32, rows, 0, 0, 0, "found"))


def failed(label: str) -> OfJob:
    return OfJob(label, RowFailed(DeadLetter(("7",), "o", "RowRefused", "render", "no good", 0, "")))


EVENTS: list[Event] = [
    planned("docs"),
    planned("pages"),
    OfJob("lost", Finished(Report(error=LOST))),
    progress("docs", 100, 1.0),
    failed("pages"),
    progress("pages", 50, 1.0),
    OfJob("pages", Draining("SIGINT", 5, 30.0)),
    OfJob("docs", Draining("SIGINT", 5, 30.0)),
    OfJob("docs", Finished(Report(JobReport("docs", INTERRUPTED, Counts(300, 0, 2, 6000), seconds=3.2)))),
    Notice("all end"),
    Finished(Report()),
]


def test_plain_lines_are_those_of_a_job_or_of_all_and_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.console.jobs.Board.seconds", 6.0)
    out = io.StringIO()
    view = PlainJobs(out, Redactor(), ["docs", "pages", "lost"], every=0.0)
    for event in EVENTS:
        view.on_event(event)
    lines = out.getvalue().splitlines()
    assert [line for line in lines if not line.startswith("6.0s: ")] == [
        "docs: public.docs → s3://b/docs/{id}, by id",
        "pages: public.pages → s3://b/pages/{id}, by id",
        "lost: aborted: there is no table lost of postgresql://u:***@h/d",
        "pages: row (7) failed: no good",
        "SIGINT: reading has stopped in all jobs; requests in flight may finish within 30s; once more to stop at once",
        "docs: interrupted after 3.2s: 302 rows",
        "warning: all end",
    ]
    assert "6.0s: 1 of 3 jobs ended, 152 rows, 150 objects/s, 300.0 kB/s, 24 in flight, 2 failed" in lines


def test_without_progress_only_what_a_person_should_know_is_said() -> None:
    out = io.StringIO()
    view = PlainJobs(out, Redactor(), ["docs", "pages", "lost"], progress=False)
    for event in EVENTS:
        view.on_event(event)
    lines = out.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["pages", "SIGINT", "warning"]


def live(labels: list[str], width: int, height: int) -> tuple[LiveJobs, io.StringIO]:
    out = io.StringIO()
    return LiveJobs(out, Redactor(), labels, screen=Screen(out, lambda: (width, height))), out


def test_the_live_view_has_a_line_for_each_job_and_gives_the_terminal_back() -> None:
    view, out = live(["docs", "pages", "lost"], 80, 24)
    for event in EVENTS[:6]:
        view._next = 0.0
        view.on_event(event)
    frame = [text.plain for text in view.frame()]
    assert [line.split()[0] for line in frame[:3]] == ["job", "docs", "pages"]
    assert frame[0].split() == ["job", "done", "left", "failed", "objects/s", "bytes/s", "in", "flight", "p99"]
    assert frame[1].split() == ["docs", "10%", "1", "100", "200.0", "kB", "12/32"]
    assert "1 of 3 ended  " in frame[3]
    for event in EVENTS[6:]:
        view.on_event(event)
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE), "the cursor is shown again"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 160, 200])
def test_columns_come_with_the_width_and_figures_stay_in_their_places(width: int) -> None:
    view, _ = live(["docs", "pages"], width, 30)
    lengths, names = set(), ()
    for rows, failed_, seconds in ((1, 0, 3.0), (99, 7, 4.0), (1000, 12, 75.0), (900_000, 1234, 90.0)):
        for label in ("docs", "pages"):
            view.on_event(planned(label))
            shown = Progress(
                Counts(rows, 0, failed_, rows * 2000), seconds, 1, 4, rows, 9, 9, 5, "found", 0, Latency(9, 9, 9)
            )
            view.on_event(OfJob(label, shown))
        header, *jobs = [text.plain for text in view.frame()[:3]]
        assert all(len(line.rstrip()) < width for line in (header, *jobs))
        names, lengths = tuple(header.split()), lengths | {len(line) for line in jobs}
    view.close()
    assert len(lengths) == 1
    assert names[:2] == ("job", "done")
    assert ("level" in names) == (width >= 160)


def test_more_jobs_than_a_screen_has_lines_are_counted() -> None:
    labels = [f"job-{number}" for number in range(30)]
    for height, said in ((24, "and 14 more"), (12, "and 27 more"), (5, "30 under way"), (3, "30 under way")):
        view, _ = live(labels, 60, height)
        for label in labels:
            view.on_event(planned(label))
        lines = [text.plain for text in view.frame()]
        view.close()
        assert len(lines) <= max(1, height - 1)
        assert any("under way" in line or " more" in line for line in lines), (lines, said)


def told(*jobs: JobReport, **changes: Any) -> Report:
    report = Report.of(jobs, seconds=4.0, latency=Latency(), most=8, peak=7)
    return replace(report, **changes)


def ended(name: str, status: str, error: AsyncupError | None = None, **changes: Any) -> JobReport:
    return JobReport(name, status, **{"counts": Counts(300, 1, 0, 6000), "seconds": 3.0, **changes}, error=error)


def test_the_summary_has_a_line_for_each_job_and_ends_with_what_to_type() -> None:
    report = told(
        ended(
            "docs",
            PARTIAL,
            counts=Counts(298, 1, 2, 6000),
            dead_letters=".asyncup/docs.jsonl",
            configured=("--job", "docs"),
        ),
        ended("pages", COMPLETE, resumed=True, settled_before=700),
        ended("lost", ABORTED, LOST, counts=Counts()),
        again="asyncup sync lost",
    )
    assert summary_lines(report) == [
        "3 jobs in 4.0s, 1 aborted, 1 with failed rows, 1 complete: 602 rows: 598 put, 2 skipped, 2 failed",
        "  12.0 kB, 150 objects/s; at most 7 requests in flight",
        "  docs   with failed rows, 3.0s: 298 put, 1 skipped, 2 failed",
        "  pages  complete, 3.0s: 300 put, 1 skipped, 0 failed; 1,001 over all runs",
        "  lost   aborted, 3.0s: 0 put, 0 skipped, 0 failed",
        "Next: mend the cause, then send the rows that failed again:",
        "  asyncup retry .asyncup/docs.jsonl --job docs",
        "Next: mend lost (see its error), then:",
        "  asyncup sync lost",
    ]
    assert error_text(report)[0].startswith("error: lost: there is no table lost")


def test_of_many_jobs_the_worst_are_shown() -> None:
    jobs = [ended(f"job-{number}", COMPLETE) for number in range(40)]
    jobs[33] = ended("job-33", ABORTED, LOST)
    lines = summary_lines(told(*jobs))
    assert len(lines) < 20
    assert lines[2].startswith("  job-33 ")
    assert "  and 33 more; --output json has them all" in lines
