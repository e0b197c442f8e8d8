"""The step summary: what ran and what came of it, as GitHub's Markdown.

Names, keys and messages are data of strangers. They stand in `<code>`, each character that Markdown, HTML or GitHub's own
links could take for more than itself as a reference to it, which is text and nothing else
(https://spec.commonmark.org/0.31.2/#entity-and-numeric-character-references).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from asyncup.benchmark import Benchmark
from asyncup.console.advice import next_of_verdict
from asyncup.console.causes import Cause, Causes
from asyncup.console.ci.annotations import Outcome, cut, difference_text, following, verdicts
from asyncup.console.preflight import preflight_lines
from asyncup.console.summary import errors_of
from asyncup.console.text import Redactor, count, duration, plural, shown, size
from asyncup.preflight import Preflight
from asyncup.report import INTERRUPTED, JobReport, Report, Several, Verdict

#: What is shown of what may be many, so that a summary stays far below the MiB that GitHub takes.
JOBS, ERRORS, CAUSES, DIFFERENCES = 100, 20, 20, 10
_LENGTH = 300
#: Bytes of a summary; GitHub takes a MiB for a step, which may run asyncup more than once.
_MOST = 500_000
_COMMANDS = ((Report, "sync"), (Verdict, "verify"), (Preflight, "plan"), (Benchmark, "bench"))
_PLAIN = re.compile(r"[^A-Za-z0-9 ,/=\u0080-\U0010ffff-]")
_WORDS = {
    "complete": "complete",
    "partial": "complete, but rows failed",
    "interrupted": "interrupted",
    "aborted": "aborted",
    "same": "all the same",
    "different": "there are differences",
    "ready": "it would run",
    "refused": "it would be refused",
}


def code(text: str, length: int = _LENGTH) -> str:
    """A text of strangers, shown as it is."""
    return f"<code>{_references(cut(shown(text), length))}</code>" if text else ""


def fenced(lines: Iterable[str]) -> str:
    """Lines as they are, each with its own end."""
    text = "\n".join(shown(line) for line in lines)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def step_summary(
    outcome: Outcome,
    causes: Causes,
    redact: Redactor,
    files: Sequence[tuple[str, str]] = (),
    name: str | None = None,
) -> str:
    """What a step came to, in a few hundred lines at most; `files` are those that it wrote, by what they are.

    `name` is that of the job, where there is one and it is known.
    """
    return _joined(_parts(outcome, causes, redact, files, name)) + "\n"


def _parts(
    outcome: Outcome, causes: Causes, redact: Redactor, files: Sequence[tuple[str, str]], name: str | None
) -> Iterator[str]:
    yield f"### {_heading(outcome, name, redact)}"
    yield _table(outcome, name, redact)
    yield from _errors(outcome, redact)
    yield from _causes(causes, redact)
    if isinstance(outcome, Report):
        if lines := following(outcome):
            yield fenced(map(redact, lines))
        kept = [("dead letters", job.dead_letters) for job in outcome.parts if job.dead_letters is not None]
        kept += [("checkpoint", job.checkpoint) for job in outcome.parts if job.checkpoint is not None]
        files = [*files, *kept[:JOBS]]
    for label, verdict in verdicts(outcome):
        yield from _differences(label, verdict, redact)
        if lines := next_of_verdict(verdict):
            yield fenced(map(redact, lines))
    for label, told in _told(outcome):
        title = "In full" if label is None else code(redact(label))
        if told:
            yield f"<details open><summary>{title}</summary>\n\n{fenced(map(redact, told))}\n\n</details>"
    yield "\n".join(f"- {what}: {code(redact(place))}" for what, place in files)


def _joined(parts: Iterable[str]) -> str:
    """The parts as one text, as far as there is room."""
    kept, left = [], _MOST
    for part in filter(None, parts):
        left -= len(part.encode(errors="replace")) + 2
        if left < 0:
            kept.append("There is more, which is left out here; `--output json` has it all.")
            break
        kept.append(part)
    return "\n\n".join(kept)


def _references(text: str) -> str:
    return _PLAIN.sub(lambda found: f"&#{ord(found[0])};", text)


def _heading(outcome: Outcome, name: str | None, redact: Redactor) -> str:
    first = outcome.parts[0][1] if isinstance(outcome, Several) else outcome
    command = next(word for kind, word in _COMMANDS if isinstance(first, kind))
    jobs: Sequence[str] = [name] if name else []
    if isinstance(outcome, Report):
        jobs = [job.name for job in outcome.parts] or jobs
        command = "retry" if any(job.retried is not None for job in outcome.parts) else command
        command = "sync --dry-run" if outcome.to_json().get("dry_run") else command
    elif isinstance(outcome, Several):
        jobs = [name for name, _ in outcome.parts]
    named = (
        f" {code(redact(jobs[0]), 100)}"
        if len(jobs) == 1 and jobs[0]
        else f" of {plural(len(jobs), 'job')}"
        if jobs
        else ""
    )
    return f"asyncup {command}{named}: {_WORDS[outcome.status]}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _grid(names: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> str:
    """A table whose first `texts` columns are texts, and the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(names) - texts)
    return "\n".join([_row(names), _row(rule), *(_row(row) for row in rows)])


def _table(outcome: Outcome, name: str | None, redact: Redactor) -> str:
    if isinstance(outcome, Report):
        return _jobs(outcome, redact)
    found = [(label, verdict) for label, verdict in verdicts(outcome) if verdict.rows or verdict.complete]
    if not found:
        return ""
    names = ["job", "status", "rows", "objects", "missing", "different", "extra", "skipped", "time"]
    return _grid(
        names,
        (
            [
                code(redact(label or name or ""), 100),
                _WORDS[verdict.status],
                *map(count, (verdict.rows, verdict.objects, verdict.missing, verdict.different)),
                "not looked for" if verdict.limited else count(verdict.extra),
                count(verdict.skipped),
                duration(verdict.seconds),
            ]
            for label, verdict in found[:JOBS]
        ),
        texts=2,
    )


def _jobs(report: Report, redact: Redactor) -> str:
    jobs = report.parts
    if not jobs:
        return ""
    put = "would be put" if all(job.dry_run for job in jobs) else "put"
    names = [
        "job",
        "status",
        "rows",
        put,
        "skipped",
        "failed",
        "bytes",
        "time",
        "per second",
        "p50",
        "p95",
        "p99",
        "retries",
    ]
    rows = [_cells(job, code(redact(job.name), 100)) for job in jobs[:JOBS]]
    if report.job is not None and report.jobs:
        rows.append(_cells(report.job, "**all of them**"))
    table = _grid([*names, "throttled"], rows, texts=2)
    more = f"\n\nand {count(len(jobs) - JOBS)} jobs more" if len(jobs) > JOBS else ""
    return f"{table}{more}\n\np50, p95 and p99 are latencies of acknowledged requests, in milliseconds."


def _cells(job: JobReport, name: str) -> list[str]:
    counts, latency = job.counts, job.latency
    rate = f"{counts.put / job.seconds:,.0f} {job.counted}" if job.seconds else ""
    times = [
        f"{one:,.1f}" if job.attempts and not job.dry_run else "" for one in (latency.p50, latency.p95, latency.p99)
    ]
    return [
        name,
        _WORDS[job.status],
        f"{count(counts.rows)}{f' ({count(job.total)} over all runs)' if job.resumed else ''}",
        *map(count, (counts.put, counts.skipped, counts.failed)),
        size(counts.bytes),
        duration(job.seconds),
        rate,
        *times,
        count(job.retries),
        count(job.throttled),
    ]


def _errors(outcome: Outcome, redact: Redactor) -> list[str]:
    found = errors_of(outcome)
    parts = []
    for label, error in found[:ERRORS]:
        whose = f"{code(redact(label), 100)} " if label else ""
        lines = [f"> {whose}**{error.type}**: {code(redact(error.message), 2000)}"]
        lines.append(f"> where: {code(redact(f'{error.op} {error.subject}'.strip()))}")
        lines += [f"> hint: {code(redact(error.hint), 1000)}"] if error.hint is not None else []
        parts.append("  \n".join(lines))
    if len(found) > ERRORS:
        parts.append(f"and {count(len(found) - ERRORS)} errors more")
    if isinstance(outcome, Report) and outcome.status == INTERRUPTED and not found:
        parts.append("> A signal ended the run.")
    return parts


def _causes(causes: Causes, redact: Redactor) -> list[str]:
    found = causes.most_first()
    if not found:
        return []
    has_jobs = any(cause.job is not None for cause in found)
    names = [*(["job"] if has_jobs else []), "rows", "why they failed", "the first of them"]

    def cells(cause: Cause) -> list[str]:
        examples = "<br>".join(_example(one.key, one.object_key, redact) for one in cause.examples)
        why = f"{cause.type}: {code(redact(cause.examples[0].message))}"
        return [*([code(redact(cause.job or ""), 100)] if has_jobs else []), count(cause.count), why, examples]

    table = _grid(names, (cells(cause) for cause in found[:CAUSES]), texts=len(names))
    left = sum(cause.count for cause in found[CAUSES:])
    return [table, *([f"and {plural(left, 'row')} for other reasons"] if left else [])]


def _example(key: str, object_key: str | None, redact: Redactor) -> str:
    to = f" → {code(redact(object_key), 100)}" if object_key else ""
    return f"row {code(redact(key), 100)}{to}"


def _differences(label: str | None, verdict: Verdict, redact: Redactor) -> list[str]:
    if not verdict.differences:
        return []
    kinds = dict.fromkeys(one.kind for one in verdict.differences)
    first = [one for kind in kinds for one in [each for each in verdict.differences if each.kind == kind][:DIFFERENCES]]
    names = [f"differences{'' if label is None else f' of {code(redact(label), 100)}'}", "where"]
    rows = ([one.kind, code(redact(difference_text(one)), 600)] for one in first)
    left = verdict.missing + verdict.different + verdict.extra - sum(one.rows for one in first)
    return [_grid(names, rows, texts=2), *([f"and {count(left)} more"] if left > 0 else [])]


def _told(outcome: Outcome) -> Iterator[tuple[str | None, list[str]]]:
    """The last words of commands whose words say it best, of each job."""
    if isinstance(outcome, Several):
        yield from ((name, lines) for name, part in outcome.parts for _, lines in _told(part))
    elif isinstance(outcome, Preflight):
        yield None, preflight_lines(outcome, 100)
    elif isinstance(outcome, Benchmark):
        from asyncup.console.benchmark import benchmark_lines  # noqa: PLC0415 - only for bench

        yield None, benchmark_lines(outcome, plots=False)
