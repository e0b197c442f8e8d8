"""The report of a run that sends rows: its accounts, its curves, and why rows failed; of several jobs each, below what all came to."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asyncup.console.report.about import About, told
from asyncup.console.report.accounts import accounts, counted
from asyncup.console.report.curves import curves, spread
from asyncup.console.report.elements import Element, Node, el
from asyncup.console.report.page import (
    BAD,
    GOOD,
    NUMBERS,
    TEXTS,
    WARN,
    Column,
    Section,
    badge,
    facts,
    figure_of,
    page,
    preformatted,
    table,
    tiles,
    value,
)
from asyncup.console.report.recording import JobRecord, Recording
from asyncup.console.report.said import failures, notices
from asyncup.console.report.timeline import DRAWN, Span
from asyncup.console.summary import summary_lines
from asyncup.console.text import count, duration, plural, size
from asyncup.errors import GateMissed
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Report
from asyncup.resolved import Plan
from asyncup.version import __version__

_STATES = {
    COMPLETE: ("complete", GOOD),
    PARTIAL: ("complete, but rows failed", WARN),
    INTERRUPTED: ("interrupted", WARN),
    ABORTED: ("aborted", BAD),
}
#: Of several jobs, so many have curves, the worst and the largest first; and so many points has each of these.
_CURVED, _DRAWN_OF_EACH = 20, 80
#: Of several jobs, so many have a section.
_SHOWN = 200


def run_page(about: About, report: Report, recording: Recording, ended: datetime, exit_code: int) -> Element:
    """The whole page."""
    summary = report.to_json()
    alone = recording.alone[0]
    words, kind = _state(report.job, report.status)
    what = f"asyncup {about.command}"
    rows = [*about.facts(ended, exit_code), *(_planned(alone.plan) if not report.jobs else [])]
    header = [
        el("h1", what, " ", badge(words, kind)),
        tiles(_tiles(report.job, summary)) if report.job is not None else None,
        [told(error) for error in [report.error] if error is not None and not report.jobs],
        facts("What ran", rows),
    ]
    sections = [Section("In words", [_words(report)], "words")]
    if report.jobs:
        sections += _several(report, recording, summary)
    elif report.job is not None:
        sections += [Section(title, content, title.lower()) for title, content in _parts(report.job, summary, alone)]
    if not report.jobs:
        sections += failures(report.job, alone.causes, retry_of(report.job))
    sections += notices([("", alone)] if not report.jobs else [("", alone), *recording.jobs.items()])
    sections.append(about.configuration())
    title = f"{what}: {words}"
    return page(title, header, sections, f"Made by asyncup {__version__}. Rates are means over each step of a curve.")


def retry_of(job: JobReport | None) -> str | None:
    """The command that sends the rows again that failed, where they are in a file."""
    if job is None or job.dead_letters is None or job.dry_run:
        return None
    return shlex.join(["asyncup", "retry", job.dead_letters, *job.configured])


def _state(job: JobReport | None, status: str) -> tuple[str, str]:
    words, kind = _STATES[status]
    if job is None:
        return f"{words} before anything was read", kind
    if isinstance(job.error, GateMissed):
        words = "complete, but a gate was missed"
    return (f"dry run: {words}" if job.dry_run else words), kind


def _words(report: Report) -> Node:
    lines = summary_lines(report)
    if not lines and report.error is not None:
        return el("p", "Nothing was read, and nothing was sent.")
    return preformatted(lines)


def _tiles(job: JobReport, summary: dict[str, Any]) -> list[tuple[Node, str]]:
    rate = f"{job.counted}/s"
    return [
        (counted(summary, "rows"), "rows"),
        (counted(summary, "put"), f"= {'would be put' if job.dry_run else 'put'}"),
        (counted(summary, "skipped"), "+ skipped"),
        (counted(summary, "failed"), "+ failed"),
        (figure_of("bytes", summary["bytes"], size(summary["bytes"])), "bytes"),
        (figure_of("objects_per_second", summary["objects_per_second"], f"{summary['objects_per_second']:,.0f}"), rate),
        (figure_of("seconds", summary["seconds"], duration(summary["seconds"])), "time"),
    ]


def _planned(plan: Plan | None) -> list[tuple[str, Node]]:
    """What is read and written; the estimate is the planner's."""
    if plan is None:
        return []
    rows: list[tuple[str, Node]] = [
        ("Source", value(plan.source)),
        ("Key", value(", ".join(plan.key))),
        ("Destination", value(plan.destination)),
        ("Job", value(plan.name)),
    ]
    if plan.estimated_rows is not None:
        rows.append(("Rows, by the planner", count(plan.estimated_rows)))
    if plan.checkpoint is not None:
        rows.append(("Checkpoint", value(plan.checkpoint)))
    return rows


def _parts(
    job: JobReport, summary: dict[str, Any], record: JobRecord, drawn: int = DRAWN
) -> list[tuple[str, list[Node]]]:
    """The accounts of a job, and its curves; none where `drawn` is 0."""
    parts: list[tuple[str, list[Node]]] = [("Accounts", [facts("What the run did", accounts(job, summary))])]
    if drawn:
        parts.append(("Over time", _curves(job, record.timeline.spans(drawn))))
    return parts


def _curves(job: JobReport, spans: Sequence[Span]) -> list[Node]:
    """What happened over time, and how long requests took."""
    sends = bool(job.attempts or job.latencies) and not job.dry_run
    is_long = len(spans) > 1
    done = "made ready" if job.dry_run else "put"
    charts = curves(spans, job.counted, done=done, sends=sends) if is_long else []
    if sends and job.latencies:
        charts.append(spread(job.latencies, job.latency))
    early = None if is_long else el("p", "It was over too soon for curves.", class_="none")
    return [early, el("div", charts, class_="charts") if charts else None]


# --- several jobs -----------------------------------------------------------------------------------------------


def _several(report: Report, recording: Recording, summary: dict[str, Any]) -> list[Section]:
    """What all jobs came to, and a section for each."""
    total = report.job
    overview: list[Node] = [_overview(report.jobs, summary)]
    if total is not None:
        overview += [el("h3", "All jobs over time"), _curves(total, recording.together.spans())]
    worst = sorted(report.jobs, key=lambda job: (-list(_STATES).index(job.status), -job.counts.rows))
    curved = {id(job) for job in worst[:_CURVED]}
    sections = [Section("Jobs", overview, "jobs")]
    for number, (job, told_of) in enumerate(zip(report.jobs[:_SHOWN], summary["jobs"], strict=False), 1):
        record = _record_of(job, recording)
        drawn = _DRAWN_OF_EACH if id(job) in curved else 0
        sections.append(_section_of(number, job, told_of, record, drawn))
    if len(report.jobs) > _SHOWN:
        left = len(report.jobs) - _SHOWN
        sections.append(Section(f"And {plural(left, 'more job')}", [el("p", "They are in the table above.")]))
    return sections


def _overview(jobs: Sequence[JobReport], summary: dict[str, Any]) -> Element:
    columns = [Column("Job"), Column("How it ended", TEXTS), *(Column(name, NUMBERS) for name in _FIGURES)]
    rows = []
    for number, (job, told_of) in enumerate(zip(jobs, summary["jobs"], strict=True), 1):
        words, kind = _state(job, job.status)
        name = el("a", job.name, href=f"#job-{number}", dir="auto") if number <= _SHOWN else value(job.name)
        why = None if job.error is None else f": {job.error.message}"
        rows.append([name, [el("span", words, class_=kind), why], *_figures(told_of)])
    last = ["All", "", *_figures(summary)]
    return table("rows = put + skipped + failed", columns, rows, last)


_FIGURES = ("Rows", "Put", "Skipped", "Failed", "Bytes", "Requests", "Retries", "Throttled", "Per second", "Time")


def _figures(told_of: dict[str, Any]) -> list[Node]:
    rate = told_of["objects_per_second"]
    return [
        *(counted(told_of, name) for name in ("rows", "put", "skipped", "failed")),
        figure_of("bytes", told_of["bytes"], size(told_of["bytes"])),
        *(counted(told_of, name) for name in ("attempts", "retries", "throttled")),
        figure_of("objects_per_second", rate, f"{rate:,.0f}"),
        figure_of("seconds", told_of["seconds"], duration(told_of["seconds"])),
    ]


def _record_of(job: JobReport, recording: Recording) -> JobRecord | None:
    if job.name in recording.jobs:
        return recording.jobs[job.name]
    plans = [(record.plan, record) for record in recording.jobs.values()]
    return next((record for plan, record in plans if plan is not None and plan.name == job.name), None)


def _section_of(number: int, job: JobReport, told_of: dict[str, Any], record: JobRecord | None, drawn: int) -> Section:
    words, kind = _state(job, job.status)
    record = record or JobRecord(str)
    content: list[Node] = [
        el("p", badge(words, kind)),
        None if job.error is None else told(job.error),
        facts("What it copies", _planned(record.plan)) if record.plan is not None else None,
    ]
    for title, part in _parts(job, told_of, record, drawn):
        content += [el("h3", title), part]
    for section in failures(job, record.causes, retry_of(job)):
        content += [el("h3", section.title), section.content]
    return Section(f"Job {job.name}", content, f"job-{number}", "job")
