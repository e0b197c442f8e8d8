"""What of an outcome is worth an annotation: a step that fails has its reason as an error, and what rows failed for as warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from asyncup.benchmark import Benchmark
from asyncup.console.advice import next_before, next_of_job, next_of_jobs
from asyncup.console.causes import EXAMPLES, Cause, Causes
from asyncup.console.summary import errors_of
from asyncup.console.text import Redactor, count, plural, shown
from asyncup.console.verdict import place
from asyncup.errors import AsyncupError
from asyncup.preflight import Preflight
from asyncup.report import PARTIAL, Difference, Report, Several, Verdict

#: What a command came to.
Outcome: TypeAlias = (
    Report | Verdict | Preflight | Benchmark | Several[Verdict] | Several[Preflight] | Several[Benchmark]
)

#: GitHub shows so many of each level for a step: https://docs.github.com/en/rest/checks, and keeps the rest to itself.
MOST = 10
#: Characters of a message, and of a line of it.
_LENGTH, _LINE = 4000, 1000


@dataclass(frozen=True, slots=True)
class Annotation:
    """One remark on a step; `level` is `error`, `warning` or `notice`."""

    level: str
    title: str
    message: str


def annotate(
    outcome: Outcome, causes: Causes, redact: Redactor, notices: Sequence[str] = (), name: str | None = None
) -> list[Annotation]:
    """What is to be said of an outcome, without secrets, at most ten of each level; those beyond are counted in the tenth.

    `name` is that of the job, where there is one and it is known.
    """
    said = [
        *_within(list(_errors(outcome, name))),
        *_within(list(_warnings(outcome, causes, name))),
        *_within([Annotation("notice", "asyncup", text) for text in notices]),
    ]
    return [Annotation(one.level, redact(one.title), _cut(redact(one.message))) for one in said]


def verdicts(outcome: Outcome) -> list[tuple[str | None, Verdict]]:
    """Each verdict with its job's name, None where there is one job."""
    if isinstance(outcome, Verdict):
        return [(None, outcome)]
    if isinstance(outcome, Several):
        return [(name, part) for name, part in outcome.parts if isinstance(part, Verdict)]
    return []


def following(report: Report) -> list[str]:
    """The lines that say what to do next; none where there is nothing to do."""
    if report.job is None:
        return next_before(report)
    return next_of_jobs(report, report.job) if report.jobs else next_of_job(report.job, report)


def _cut(message: str) -> str:
    return cut("\n".join(cut(line, _LINE) for line in message.split("\n")), _LENGTH)


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _errors(outcome: Outcome, name: str | None) -> Iterator[Annotation]:
    for label, error in errors_of(outcome):
        yield Annotation("error", _title(label or name, error.type), _error(error))
    if isinstance(outcome, Report):
        for job in outcome.parts:
            if job.status == PARTIAL:
                rows = f"{count(job.counts.failed)} of {plural(job.counts.rows, 'row')} failed"
                where = f"; they are in {job.dead_letters}" if job.dead_letters is not None else ""
                yield Annotation("error", _title(job.name, "rows failed"), shown(f"{rows}{where}"))
        if outcome.signal is not None:
            lines = following(outcome) or ["it can be run again"]
            yield Annotation("warning", _title(name, "interrupted"), "\n".join(shown(line.strip()) for line in lines))
    for label, verdict in verdicts(outcome):
        if verdict.status == "different":
            found = ", ".join(f"{count(getattr(verdict, kind))} {kind}" for kind in ("missing", "different", "extra"))
            yield Annotation(
                "error", _title(label or name, "differences"), f"{found}, of {plural(verdict.rows, 'row')}"
            )


def _warnings(outcome: Outcome, causes: Causes, name: str | None) -> Iterator[Annotation]:
    for cause in causes.most_first():
        yield Annotation(
            "warning", _title(cause.job or name, f"{plural(cause.count, 'row')} failed: {cause.type}"), _cause(cause)
        )
    for label, verdict in verdicts(outcome):
        for kind in ("missing", "different", "extra"):
            named = [one for one in verdict.differences if one.kind == kind]
            if named:
                lines = [shown(difference_text(one)) for one in named[:EXAMPLES]]
                left = getattr(verdict, kind) - sum(one.rows for one in named[:EXAMPLES])
                more = [f"and {count(left)} more"] if left > 0 else []
                yield Annotation("warning", _title(label or name, kind), "\n".join([*lines, *more]))


def difference_text(one: Difference) -> str:
    """A difference in one line: `d/14.txt (row 14): there is no such object`."""
    return f"{place(one)}: {one.reason}" if one.reason else place(one)


def _within(found: list[Annotation]) -> list[Annotation]:
    """As many of a level as are shown."""
    kept = []
    for level in dict.fromkeys(one.level for one in found):
        of_level = [one for one in found if one.level == level]
        if len(of_level) > MOST:
            left = len(of_level) - MOST + 1
            of_level[MOST - 1 :] = [Annotation(level, "asyncup", f"and {count(left)} more; the log has them")]
        kept += of_level
    return kept


def _title(label: str | None, what: str) -> str:
    return f"asyncup: {what}" if not label else f"asyncup: {shown(label)}: {what}"


def _error(error: AsyncupError) -> str:
    lines = [error.message, f"where: {error.op} {error.subject}".rstrip()]
    if error.hint is not None:
        lines.append(f"hint: {error.hint}")
    return "\n".join(shown(line) for text in lines for line in text.splitlines())


def _cause(cause: Cause) -> str:
    first = cause.examples[0]
    lines = [first.message]
    for one in cause.examples:
        to = f" ({one.object_key})" if one.object_key else ""
        other = "" if one.message == first.message else f": {one.message}"
        lines.append(f"row {one.key}{to}{other}")
    left = cause.count - len(cause.examples)
    if left > 0:
        lines.append(f"and {plural(left, 'row')} more")
    return "\n".join(map(shown, lines))
