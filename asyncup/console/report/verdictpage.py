"""The report of `verify`: what was compared, and what was found to differ."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from asyncup.console.advice import next_of_verdict
from asyncup.console.report.about import About, told
from asyncup.console.report.charts import Axis, Series, line_chart
from asyncup.console.report.curves import steps
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
from asyncup.console.report.said import notices
from asyncup.console.text import count, duration, plural
from asyncup.console.verdict import verdict_lines
from asyncup.model import Key
from asyncup.report import Several, Verdict
from asyncup.version import __version__

_STATES = {"same": ("same", GOOD), "different": ("different", BAD), "aborted": ("not compared to the end", WARN)}
#: Differences that are shown of each job.
_SHOWN = 200


def verdict_page(
    about: About, found: Verdict | Several[Verdict], recording: Recording, ended: datetime, exit_code: int
) -> Element:
    """The whole page."""
    parts = found.parts if isinstance(found, Several) else (("", found),)
    words, kind = _STATES[found.status]
    what = f"asyncup {about.command}"
    header: list[Node] = [el("h1", what, " ", badge(words, kind))]
    sections = []
    if isinstance(found, Several):
        header.append(facts("What ran", about.facts(ended, exit_code)))
        sections.append(Section("Jobs", [_overview(found)], "jobs"))
    records = [*recording.alone, *(JobRecord(str) for _ in parts)]
    for number, ((name, verdict), record) in enumerate(zip(parts, records, strict=False), 1):
        content = _compared(verdict, record)
        if isinstance(found, Several):
            told_of = badge(*_STATES[verdict.status])
            wrong = None if verdict.error is None else told(verdict.error)
            sections.append(Section(f"Job {name}", [el("p", told_of), wrong, *content], f"job-{number}", "job"))
        else:
            header += [
                tiles(_tiles(verdict)),
                None if verdict.error is None else told(verdict.error),
                facts("What ran", [*about.facts(ended, exit_code), *_planned(record)]),
            ]
            sections.append(Section("What was found", content, "found"))
    names = [name for name, _ in parts]
    sections += notices(list(zip(names, records, strict=False)))
    sections.append(about.configuration())
    return page(f"{what}: {words}", header, sections, f"Made by asyncup {__version__}.")


def _compared(verdict: Verdict, record: JobRecord) -> list[Node]:
    content: list[Node] = []
    following = next_of_verdict(verdict)
    opening = verdict_lines(verdict, 0)[: -len(following) or None][:1]
    if lines := [*opening, *following]:
        content.append(preformatted(lines))
    if verdict.skipped:
        why = f" ({' or '.join(verdict.skips)})" if verdict.skips else ""
        content.append(el("p", f"{plural(verdict.skipped, 'row')} skipped{why}, of which no object is expected."))
    if verdict.by_size:
        content.append(el("p", f"{plural(verdict.by_size, 'object')} compared by size alone; --deep compares bytes."))
    if verdict.differences:
        content.append(_differences(verdict))
    if spans := record.timeline.spans():
        compared = Series("rows compared", steps(spans, lambda span: span.rate("rows")), "step")
        content.append(line_chart("Speed", [compared], Axis("time since the start", kind="time"), Axis("rows/s")))
    return content


def _differences(verdict: Verdict) -> Element:
    columns = [Column("Kind"), Column("Object key", TEXTS), Column("Key of the row"), Column("Why", TEXTS)]
    rows: list[list[Node]] = []
    for one in verdict.differences[:_SHOWN]:
        key = "" if one.key is None else _key(one.key)
        if one.last is not None:
            key = f"{key} to {_key(one.last)}: {plural(one.rows, 'row')}"
        rows.append([one.kind, value(one.object_key or ""), value(key), value(one.reason)])
    whole = verdict.missing + verdict.different + verdict.extra
    more = f"; the first {count(len(rows))} of {count(whole)}, --output json has 1,000" if whole > len(rows) else ""
    return table(f"Differences{more}", columns, rows)


def _key(key: Key) -> str:
    return ", ".join("NULL" if part is None else part for part in key)


def _planned(record: JobRecord) -> list[tuple[str, Node]]:
    plan = record.plan
    if plan is None:
        return []
    return [
        ("Source", value(plan.source)),
        ("Key", value(", ".join(plan.key))),
        ("Destination", value(plan.destination)),
    ]


def _tiles(verdict: Verdict) -> list[tuple[Node, str]]:
    told_of = verdict.to_json()
    names = ("rows", "objects", "missing", "different", "extra")
    figures: list[tuple[Node, str]] = [(figure_of(name, told_of[name], count(told_of[name])), name) for name in names]
    return [*figures, (duration(verdict.seconds), "time")]


def _overview(found: Several[Verdict]) -> Element:
    figures = ("rows", "objects", "missing", "different", "extra")
    columns = [Column("Job"), Column("How it ended"), *(Column(name.capitalize(), NUMBERS) for name in figures)]
    told_of = found.to_json()
    rows: list[list[Node]] = [
        [
            el("a", name, href=f"#job-{number}", dir="auto"),
            el("span", _STATES[verdict.status][0], class_=_STATES[verdict.status][1]),
            *_figures(summary, figures),
        ]
        for number, ((name, verdict), summary) in enumerate(zip(found.parts, told_of["jobs"], strict=True), 1)
    ]
    return table("What was compared", columns, rows, ["All", "", *_figures(told_of, figures)])


def _figures(told_of: dict[str, int], names: Sequence[str]) -> list[Node]:
    return [figure_of(name, told_of[name], count(told_of[name])) for name in names]
