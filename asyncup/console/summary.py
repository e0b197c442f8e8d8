"""The closing words of a run: what happened, what it cost, and what to do next."""

from __future__ import annotations

import json
import shlex
from typing import Any, Protocol

from asyncup.console.text import Redactor, count, duration, error_lines, plural, size
from asyncup.preflight import Preflight
from asyncup.pricing import DOLLARS_PER_1000_PUTS, PRICED_FOR
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Report, Verdict

#: Fields whose values are words of ours.
_OURS = frozenset({"status", "type", "op", "kind"})
_OPENINGS = {
    COMPLETE: "Complete",
    PARTIAL: "Complete, but rows failed",
    INTERRUPTED: "Interrupted",
    ABORTED: "Aborted",
}


class Told(Protocol):
    """What a command came to."""

    def to_json(self) -> dict[str, Any]: ...


def json_summary(report: Told, redact: Redactor) -> str:
    """The one object of `--output json`, on one line; in ASCII, so that any stdout can take it."""
    return json.dumps(_redacted(report.to_json(), redact))


def _redacted(value: Any, redact: Redactor) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: part if name in _OURS else _redacted(part, redact) for name, part in value.items()}
    return [_redacted(part, redact) for part in value] if isinstance(value, list) else value


def summary_lines(report: Report) -> list[str]:
    """What a person reads at the end. Empty when no job began: the error says it all."""
    job = report.job
    if job is None:
        return [] if report.error is not None else ["Interrupted before anything was read."]
    counts = job.counts
    opening = (
        f"{_OPENINGS[job.status]}: {plural(counts.rows, 'row')} in {duration(job.seconds)}: {count(counts.put)} put, "
        f"{count(counts.skipped)} skipped, {count(counts.failed)} failed"
    )
    lines = [opening]
    if job.resumed:
        lines.append(f"  {plural(job.total, 'row')} over all runs since this checkpoint began")
    lines += [f"  {line}" for line in gone_line(report)]
    if counts.put:
        rate = counts.put / job.seconds if job.seconds else 0.0
        lines.append(
            f"  {size(counts.bytes)}, {rate:,.0f} objects/s; latency p50 {job.latency.p50:.1f} ms, "
            f"p95 {job.latency.p95:.1f} ms, p99 {job.latency.p99:.1f} ms"
        )
    if job.attempts and job.destination.startswith("s3:"):
        lines.append(f"  {_requests(job)}")
    if job.level and job.peak:
        lines.append(
            f"  at most {plural(job.peak, 'request')} in flight; the limit was {count(job.limit)}: {job.level}"
        )
    if job.dead_letters is not None:
        lines.append(f"  the failed rows are in {job.dead_letters}")
    following = _next(job)
    if following:
        lines.append(following)
    return lines


def gone_line(report: Report) -> list[str]:
    """How many of a retry's rows are not there any more, or nothing; JSON counts them among the skipped ones."""
    gone = report.job.gone if report.job is not None else 0
    be = "row is" if gone == 1 else "rows are"
    return [f"{count(gone)} {be} gone: deleted, or no longer selected by --where or --query"] if gone else []


def error_text(report: Report | Verdict | Preflight) -> list[str]:
    """The error that ended the run, or every reason why it would not begin, or nothing."""
    errors = report.reasons if isinstance(report, Preflight) else (report.error,)
    return [line for error in errors if error is not None for line in error_lines(error)]


def _requests(job: JobReport) -> str:
    line = (
        f"{plural(job.attempts, 'PUT request')}, {count(job.retries)} of them retries, {count(job.throttled)} throttled"
    )
    if job.priced:
        dollars = job.attempts / 1000 * DOLLARS_PER_1000_PUTS
        line += f"; about ${dollars:,.2f} at ${DOLLARS_PER_1000_PUTS} for 1,000 ({PRICED_FOR})"
    return line


def _next(job: JobReport) -> str | None:
    if job.status == COMPLETE and job.retried is not None:
        what = f"Every row of {job.retried} is settled" if job.counts.rows else f"{job.retried} holds no rows"
        return f"{what}; it may be deleted once its job is complete."
    if job.status == COMPLETE:
        return None
    if job.status == PARTIAL:
        if job.dead_letters is None:
            return "Next: mend the cause, then run the same command again; it copies every row anew."
        line = f"Next: mend the cause, then send those rows again: asyncup retry {shlex.quote(job.dead_letters)}"
        return line if job.retried is None else f"{line}; {job.retried} may be deleted once its job is complete."
    if job.error is not None and job.error.needs_configuration:
        return None
    if job.retried is not None:
        return f"Next: run the same command again; it sends every row of {job.retried}."
    if job.checkpoint is None:
        return "Next: run the same command again; it starts from the beginning."
    return f"Next: run the same command again; it resumes from the checkpoint {job.checkpoint}."
