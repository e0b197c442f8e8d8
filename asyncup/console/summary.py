"""The closing words of a run: what happened, what it cost, and what to do next."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from asyncup.console.text import LATE_SECONDS, Redactor, count, duration, error_lines, plural, shown, size
from asyncup.errors import AsyncupError, GateMissed
from asyncup.preflight import Preflight
from asyncup.pricing import DOLLARS_PER_1000_PUTS, PRICED_FOR
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Report, Several, Verdict

#: Fields whose values are words of ours.
_OURS = frozenset({"status", "type", "op", "kind"})
#: Of several jobs, so many are shown one by one.
SHOWN_JOBS = 12
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


def json_summary(report: Told, redact: Redactor) -> str:
    """The one object of `--output json`, on one line; in ASCII, so that any stdout can take it."""
    return json.dumps(redacted(report.to_json(), redact))


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
        return [] if report.error is not None else ["Interrupted before anything was read."]
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
        what = f"at most {plural(job.peak, 'request')} in flight"
        lines.append(f"  {what}; the limit{when} was {count(job.limit)}: {job.level}")
    if job.dead_letters is not None:
        lines.append(f"  the failed rows are in {job.dead_letters}")
    following = _next(job)
    if following:
        lines.append(following)
    return lines


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
    listed = jobs if len(jobs) <= SHOWN_JOBS else worst_first[:SHOWN_JOBS]
    width = max(len(shown(job.name)) for job in listed)
    lines += [f"  {_job_line(job, width)}" for job in listed]
    if len(jobs) > len(listed):
        lines.append(f"  and {count(len(jobs) - len(listed))} more; --output json has them all")
    failed = [job for job in listed if job.counts.failed and job.dead_letters is not None and _has_all(job)]
    if failed:
        lines.append("Next: mend the cause, then send the rows that failed again:")
        lines += [f"  {_retry(job)}" for job in failed]
    return [*lines, *_again(report, total)]


def _again(report: Report, total: JobReport) -> list[str]:
    """What to do for the jobs that are not complete; those that end there again until they are mended are named."""
    left = [
        job for job in report.jobs if job.status in (ABORTED, INTERRUPTED) and not isinstance(job.error, GateMissed)
    ]
    broken = [shown(job.name) for job in left if job.error is not None and job.error.needs_configuration]
    if not left:
        return []
    if broken:
        named = f"{', '.join(broken[:SHOWN_JOBS])}{', …' if broken[SHOWN_JOBS:] else ''}"
        whose = "its error" if len(broken) == 1 else "their errors"
        then = "run the jobs that are not complete again" if report.again is None else report.again
        return [f"Next: mend {named} (see {whose}), then: {then}"]
    then = "they go on from their checkpoints"
    if total.dry_run or (not total.resumed and not any(job.checkpoint for job in left)):
        then = "they begin anew"
    elif any(job.checkpoint is None for job in left):
        then = "those with a checkpoint go on from it, the others begin anew"
    lines = [f"Next: run the jobs that are not complete again; {then}."]
    return lines if report.again is None else [*lines, f"  {report.again}"]


def _job_line(job: JobReport, width: int) -> str:
    state = "missed a gate" if isinstance(job.error, GateMissed) else _STATES[job.status]
    line = f"{shown(job.name):{width}}  {state}: {plural(job.counts.rows, 'row')}: {_settled(job)}, {duration(job.seconds)}"
    return f"{line}; {count(job.total)} over all runs" if job.resumed else line


def gone_line(report: Report) -> list[str]:
    """How many of a retry's rows are not there any more, or nothing; JSON counts them among the skipped ones."""
    gone = report.job.gone if report.job is not None else 0
    be = "row is" if gone == 1 else "rows are"
    return [f"{count(gone)} {be} gone: deleted, or no longer selected by --where or --query"] if gone else []


def error_text(report: Report | Verdict | Preflight | Several[Any]) -> list[str]:
    """The error that ended the run, or every reason why it would not begin, or nothing; of several jobs each under its name."""
    if isinstance(report, Several):
        return [line for label, part in report.parts for line in _labelled(label, error_text(part))]
    if isinstance(report, Report) and report.jobs:
        failed = [(job.name, job.error) for job in report.jobs if job.error is not None]
        lines = [line for name, error in failed[:SHOWN_JOBS] for line in _labelled(name, error_lines(error))]
        left = len(failed) - SHOWN_JOBS
        return [*lines, f"and {count(left)} more jobs have errors; --output json has them all"] if left > 0 else lines
    errors = report.reasons if isinstance(report, Preflight) else (report.error,)
    return [line for error in errors if error is not None for line in error_lines(error)]


def errors_of(report: Report | Verdict | Preflight | Several[Any]) -> list[tuple[str | None, AsyncupError]]:
    """Every error that ended a run, or kept it from beginning, with the job whose it is."""
    if isinstance(report, Several):
        return [(label, error) for label, part in report.parts for _, error in errors_of(part)]
    if isinstance(report, Report) and report.parts:
        return [(job.name or None, job.error) for job in report.parts if job.error is not None]
    errors = report.reasons if isinstance(report, Preflight) else (report.error,)
    return [(None, error) for error in errors if error is not None]


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    """The lines of an error with the name of its job."""
    return [
        line.replace("error: ", f"error: {shown(label)}: ", 1) if line.startswith("error: ") else line for line in lines
    ]


def _has_all(job: JobReport) -> bool:
    """Whether every row of a job was sent, or has failed for good, so that a retry is what is left."""
    return not job.dry_run and (job.status == PARTIAL or isinstance(job.error, GateMissed))


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


def _retry(job: JobReport) -> str:
    return shlex.join(["asyncup", "retry", job.dead_letters or "", *job.configured])


def _next(job: JobReport) -> str | None:
    counts = job.counts
    if job.status == COMPLETE and job.retried is not None:
        what = f"Every row of {job.retried} is settled" if counts.rows else f"{job.retried} holds no rows"
        return f"{what}; it may be deleted once its job is complete."
    if job.dry_run and job.status in (COMPLETE, PARTIAL):
        again = "Next: run the same command without --dry-run"
        return f"{again}, once the cause is mended for which rows failed." if counts.failed else f"{again}."
    if job.status == COMPLETE or (isinstance(job.error, GateMissed) and not (counts.failed and _has_all(job))):
        return None
    if _has_all(job):
        if job.dead_letters is None:
            return "Next: mend the cause, then run the same command again; it copies every row anew."
        line = f"Next: mend the cause, then send those rows again: {_retry(job)}"
        return line if job.retried is None else f"{line}; {job.retried} may be deleted once its job is complete."
    if job.error is not None and job.error.needs_configuration:
        if not counts.put:
            return None
        then = "the same command then" if job.checkpoint is not None else "it then starts from the beginning"
        resumes = f" resumes from the checkpoint {job.checkpoint}, other flags need --restart" if job.checkpoint else ""
        return f"Next: mend that first, or it ends there again; {then}{resumes}."
    if job.retried is not None:
        return f"Next: run the same command again; it sends every row of {job.retried}."
    if job.checkpoint is None:
        return "Next: run the same command again; it starts from the beginning."
    again = "the same command again" if not job.restarted else "it again without --restart"
    return f"Next: run {again}; it resumes from the checkpoint {job.checkpoint}."
