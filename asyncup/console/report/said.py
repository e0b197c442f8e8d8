"""Why rows failed, and what a person should know of a run, as sections of its report."""

from __future__ import annotations

from collections.abc import Sequence

from asyncup.console.causes import Cause, Causes
from asyncup.console.report.elements import Node, el
from asyncup.console.report.page import NUMBERS, TEXTS, Column, Section, preformatted, table, value
from asyncup.console.report.recording import JobRecord
from asyncup.console.text import count, duration, plural
from asyncup.report import JobReport

_MOMENT = Column("After", NUMBERS)


def failures(job: JobReport | None, causes: Causes, retry: str | None) -> list[Section]:
    """Rows that failed, by cause; where they are, and the command that sends them again. None where none failed."""
    if not causes.count:
        return []
    content: list[Node] = [
        el("p", f"{plural(causes.count, 'row')} failed, for {plural(len(causes.most_first()), 'reason')}.")
    ]
    if job is not None and job.dead_letters is not None:
        content.append(el("p", "All of them are in ", value(job.dead_letters), "."))
    if retry is not None:
        content += [el("p", "Mend the cause, then send them again:"), el("pre", retry)]
    return [Section("Failures", [*content, [_cause(cause) for cause in causes.most_first()]], "failures")]


def notices(records: Sequence[tuple[str, JobRecord]]) -> list[Section]:
    """What was said on the way, and what was waited for, each with the name of its job."""
    content: list[Node] = []
    named = any(name for name, _ in records)
    said = sorted(
        ((note.moment, name, note.text) for name, record in records for note in record.said), key=lambda note: note[0]
    )
    if said:
        columns = [_MOMENT, *([Column("Job")] if named else []), Column("What", TEXTS)]
        lines: list[list[Node]] = [[duration(after), *([name] if named else []), text] for after, name, text in said]
        content.append(table("What was said on the way", columns, lines))
    if unsaid := sum(record.unsaid for _, record in records):
        content.append(el("p", f"And {count(unsaid)} more."))
    waits = [(name, waited) for name, record in records for waited in record.waits.most_first()]
    if waits:
        columns = [
            *([Column("Job")] if named else []),
            Column("The first of these", TEXTS),
            *(Column(title, NUMBERS) for title in ("Times", "Longest", "First after", "Last after")),
        ]
        rows: list[list[Node]] = [
            [
                *([name] if named else []),
                value(waited.message),
                count(waited.count),
                *(duration(seconds) for seconds in (waited.seconds, waited.first, waited.last)),
            ]
            for name, waited in waits
        ]
        content.append(table("What was waited for, and tried again", columns, rows))
    return [Section("On the way", content, "notices")] if content else []


def _cause(cause: Cause) -> Node:
    columns = [Column("Key"), Column("Object key", TEXTS), Column("What was wrong", TEXTS), Column("Attempts", NUMBERS)]
    rows = [
        [
            value(one.key),
            None if one.object_key is None else value(one.object_key),
            value(one.message),
            count(one.attempts),
        ]
        for one in cause.examples
    ]
    trace = cause.traceback
    return el(
        "div",
        el("h3", plural(cause.count, "row"), ": ", value(cause.message)),
        el("p", f"{cause.type}, {cause.op}", class_="dim"),
        table("All of them" if cause.count == len(rows) else "The first of them", columns, rows),
        None if trace is None else el("details", el("summary", "The first traceback"), preformatted(trace.split("\n"))),
        class_="cause",
    )
