"""The closing words of a run: what happened, what it cost, and what to do next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from asyncup.console.advice import next_before, next_of_job, next_of_jobs
from asyncup.console.ci.guard import WITHIN
from asyncup.console.text import LATE_SECONDS, Redactor, count, duration, error_lines, plural, shown, size
from asyncup.errors import AsyncupError, GateMissed
from asyncup.pricing import DOLLARS_PER_1000_PUTS, PRICED_FOR
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Report, Several

#: Fields whose values are words of ours.
_OURS = frozenset({"status", "type", "op", "kind"})
#: Of several jobs, so many are shown one by one; and the errors of so many, in full.
SHOWN_JOBS, SHOWN_ERRORS = 8, 2
#: How a job ended, the worst first.
_STATES = {ABORTED: "aborted", INTERRUPTED: "interrupted", PARTIAL: "with failed rows", COMPLETE: "complete"}
_OPENINGS = {
    COMPLETE: "Complete",
    PARTIAL: "Complete, but rows failed",
    INTERRUPTED: "Interrupted",
    ABORTED: "Aborted",
}


class Told(Protocol):
    """What a command came to."""

    def to_json(self) -> dict[str, Any]: ...


class Ended(Protocol):
    """What a command came to, with the error that ended it."""

    @property
    def error(self) -> AsyncupError | None: ...


def json_summary(report: Told, redact: Redactor) -> str:
    """The one object of `--output json`, on one line; in ASCII, so that any stdout can take it."""
    return as_line(redacted(report.to_json(), redact))


def as_line(value: Any) -> str:
    """A value of JSON on one line, in which no CI finds a command: what would be one in a text has an escape, and is the same text."""
    return WITHIN.sub(r"\\u0023#", json.dumps(value))


def redacted(value: Any, redact: Redactor) -> Any:
    """A value of JSON with no secret in it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: part if name in _OURS else redacted(part, redact) for name, part in value.items()}
    return [redacted(part, redact) for part in value] if isinstance(value, (list, tuple)) else value


def summary_lines(report: Report) -> list[str]:
    """What a person reads at the end. Empty when no job began: the error says it all."""
    if report.job is None:
        opening = [] if report.error is not None else ["Interrupted before anything was read."]
        return [*opening, *next_before(report)]
    return _jobs_lines(report.job, report) if report.jobs else _job_lines(report, report.job)


def _opening(job: JobReport) -> str:
    """How a job ended."""
    words = "Complete, but a gate was missed" if isinstance(job.error, GateMissed) else _OPENINGS[job.status]
    return f"Dry run {words[0].lower()}{words[1:]}" if job.dry_run else words


def _settled(job: JobReport) -> str:
    """What became of the rows."""
    counts = job.counts
    packs = f" in {plural(job.packs, 'pack')}" if job.packs else ""
    return (
        f"{count(counts.put)} {'would be put' if job.dry_run else 'put'}{packs}, {count(counts.skipped)} skipped, "
        f"{count(counts.failed)} failed"
    )


def _job_lines(report: Report, job: JobReport) -> list[str]:
    counts = job.counts
    opening = f"{_opening(job)}: {plural(counts.rows, 'row')} in {duration(job.seconds)}: {_settled(job)}"
    lines = [opening]
    if job.resumed:
        lines.append(f"  {plural(job.total, 'row')} over all runs since this checkpoint began")
    lines += [f"  {line}" for line in gone_line(report)]
    if counts.skipped > job.gone and job.skips:
        lines.append(f"  {count(counts.skipped - job.gone)} skipped: {' or '.join(job.skips)}")
    is_sent = not (job.dry_run or job.destination.startswith("null:"))
    if counts.put and job.dry_run:
        lines += [f"  {line}" for line in _dry(job)]
    elif counts.put:
        rate = counts.put / job.seconds if job.seconds else 0.0
        lines.append(
            f"  {size(counts.bytes)}, {rate:,.0f} {job.counted}/s; nothing was sent (null:)"
            if not is_sent
            else f"  {size(counts.bytes)}, {rate:,.0f} {job.counted}/s; latency p50 {job.latency.p50:.1f} ms, "
            f"p95 {job.latency.p95:.1f} ms, p99 {job.latency.p99:.1f} ms"
        )
    if job.lag.max >= LATE_SECONDS * 1000:
        lines.append(f"  the event loop was late by {job.lag.max:,.0f} ms at most, p99 {job.lag.p99:,.1f} ms")
    if job.attempts and job.destination.startswith("s3:") and not job.dry_run:
        lines.append(f"  {_requests(job)}")
    if job.level and job.peak and is_sent:
        when = "" if job.level.startswith("fixed") else " at the end"
        lines.append(f"  at most {count(job.peak)} in flight; the limit{when} was {count(job.limit)}: {job.level}")
    if job.dead_letters is not None:
        lines.append(f"  the failed rows are in {job.dead_letters}")
    return [*lines, *next_of_job(job, report)]


def _jobs_lines(total: JobReport, report: Report) -> list[str]:
    """Several jobs: all of them in a few lines, and a line for each, the worst first where they are many."""
    counts, jobs = total.counts, report.jobs
    ended = Counter(job.status for job in jobs)
    how = ", ".join(f"{count(ended[status])} {state}" for status, state in _STATES.items() if ended[status])
    what = f"Dry run of {plural(len(jobs), 'job')}" if total.dry_run else plural(len(jobs), "job")
    lines = [f"{what} in {duration(total.seconds)}, {how}: {plural(counts.rows, 'row')}: {_settled(total)}"]
    if counts.put and total.dry_run:
        lines += [f"  {line}" for line in _dry(total)]
    elif counts.put:
        rate = counts.put / total.seconds if total.seconds else 0.0
        lines.append(
            f"  {size(counts.bytes)}, {rate:,.0f} {total.counted}/s; at most {plural(total.peak, 'request')} in flight"
        )
    if total.attempts and total.priced:
        lines.append(f"  {_requests(total)}")
    worst_first = sorted(jobs, key=lambda job: list(_STATES).index(job.status))
    listed = jobs if len(jobs) <= SHOWN_JOBS else worst_first[: SHOWN_JOBS - 1]
    width = max(len(shown(job.name)) for job in listed)
    lines += [f"  {_job_line(job, width)}" for job in listed]
    if len(jobs) > len(listed):
        lines.append(f"  and {count(len(jobs) - len(listed))} more; --output json has them all")
    return [*lines, *next_of_jobs(report, total)]


def _job_line(job: JobReport, width: int) -> str:
    state = "missed a gate" if isinstance(job.error, GateMissed) else _STATES[job.status]
    line = f"{shown(job.name):{width}}  {state}, {duration(job.seconds)}: {_settled(job)}"
    return f"{line}; {count(job.total)} over all runs" if job.resumed else line


def gone_line(report: Report) -> list[str]:
    """How many of a retry's rows are not there any more, or nothing; JSON counts them among the skipped ones."""
    gone = report.job.gone if report.job is not None else 0
    be = "row is" if gone == 1 else "rows are"
    return [f"{count(gone)} {be} gone: deleted, or no longer selected by --where or --query"] if gone else []


def error_text(report: Ended) -> list[str]:
    """The error that ended the run, or every reason why it would not begin, or nothing; of several jobs each under its name."""
    if isinstance(report, Several):
        return [line for label, part in report.parts for line in _labelled(label, error_text(part))]
    if isinstance(report, Report) and report.jobs:
        failed = [(job.name, job.error) for job in report.jobs if job.error is not None]
        most = SHOWN_ERRORS if len(failed) > SHOWN_ERRORS + 1 else len(failed)
        lines = [line for name, error in failed[:most] for line in _labelled(name, error_lines(error))]
        left = len(failed) - most
        return [*lines, f"and {count(left)} more jobs have errors; --output json has them all"] if left > 0 else lines
    return [line for error in _reasons(report) for line in error_lines(error)]


def errors_of(report: Ended) -> list[tuple[str | None, AsyncupError]]:
    """Every error that ended a run, or kept it from beginning, with the job whose it is."""
    if isinstance(report, Several):
        return [(label, error) for label, part in report.parts for _, error in errors_of(part)]
    if isinstance(report, Report) and report.parts:
        return [(job.name or None, job.error) for job in report.parts if job.error is not None]
    return [(None, error) for error in _reasons(report)]


def _reasons(outcome: Ended) -> Sequence[AsyncupError]:
    """Why it ended early, or would not begin: several reasons where it has so many, as a preflight does."""
    reasons: Sequence[AsyncupError] | None = getattr(outcome, "reasons", None)
    if reasons is not None:
        return reasons
    return () if outcome.error is None else (outcome.error,)


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    """The lines of an error with the name of its job."""
    return [
        line.replace("error: ", f"error: {shown(label)}: ", 1) if line.startswith("error: ") else line for line in lines
    ]


def _dry(job: JobReport) -> list[str]:
    """What a dry run found out."""
    counts = job.counts
    rate = counts.put / job.seconds if job.seconds else 0.0
    made = f"{size(counts.bytes)}, {rate:,.0f} {job.counted}/s read and made ready on this machine"
    lines = [f"{made}; nothing was sent, so neither the network nor the destination is in that figure"]
    if job.requests:
        lines.append(f"it would take {plural(job.requests, 'PUT request')} or more{_price(job, job.requests)}")
    return lines


def _requests(job: JobReport) -> str:
    line = (
        f"{plural(job.attempts, 'PUT request')}, {count(job.retries)} of them retries, {count(job.throttled)} throttled"
    )
    return line + _price(job, job.attempts)


def _price(job: JobReport, requests: int) -> str:
    if not job.priced:
        return ""
    dollars = requests / 1000 * DOLLARS_PER_1000_PUTS
    return f"; about ${dollars:,.2f} at ${DOLLARS_PER_1000_PUTS} for 1,000 ({PRICED_FOR})"
