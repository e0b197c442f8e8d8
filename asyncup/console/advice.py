"""What to do next, with the command for it: whole, on a line of its own, to be copied."""

from __future__ import annotations

import shlex

from asyncup.console.text import plural, shown
from asyncup.errors import GateMissed
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Report, Verdict

#: Of several jobs with failed rows, so many retries are named.
_SHOWN_RETRIES = 2
#: Of several jobs that only configuration mends, so many are named.
_SHOWN_NAMES = 4
_AGAIN = "run the same command again"


def next_before(report: Report) -> list[str]:
    """After a run that read nothing; nothing where another configuration is needed: which one says the error."""
    if report.again is None or (report.error is not None and report.error.needs_configuration):
        return []
    return _told("once that can be reached, run the same command again" if report.error else _AGAIN, report)


def next_of_job(job: JobReport, report: Report) -> list[str]:
    """After a run of one job."""
    counts, checkpoint = job.counts, job.checkpoint
    if job.status == COMPLETE and job.retried is not None:
        what = f"Every row of {job.retried} is settled" if counts.rows else f"{job.retried} holds no rows"
        return [f"{what}; it may be deleted once its job is complete."]
    if job.dry_run and job.status in (COMPLETE, PARTIAL):
        return _after_dry_run(report, failed=bool(counts.failed))
    if job.status == COMPLETE:
        return _check(report)
    if isinstance(job.error, GateMissed) and not (counts.failed and _has_all(job)):
        return []
    if _has_all(job):
        return _send_again(job, report)
    if job.error is not None and job.error.needs_configuration:
        if not counts.put:
            return _told("mend that, then run the same command again", report) if report.again is not None else []
        then = "the same command then" if checkpoint is not None else "it then starts from the beginning"
        resumes = f" resumes from the checkpoint {checkpoint}, other flags need --restart" if checkpoint else ""
        return _told(f"mend that first, or it ends there again; {then}{resumes}", report)
    if job.retried is not None:
        return _told(f"{_AGAIN}; it sends every row of {job.retried}", report)
    if checkpoint is None:
        return _told(f"{_AGAIN}; it starts from the beginning", report)
    again = "run it again without --restart" if job.restarted and report.again is None else _AGAIN
    return _told(f"{again}; it resumes from the checkpoint {checkpoint}", report)


def next_of_jobs(report: Report, total: JobReport) -> list[str]:
    """After a run of several; those that end there again until they are mended are named."""
    failed = [job for job in report.jobs if job.counts.failed and job.dead_letters is not None and _has_all(job)]
    lines = []
    if failed:
        lines = ["Next: mend the cause, then send the rows that failed again:"]
        lines += [f"  {_retry(job)}" for job in failed[:_SHOWN_RETRIES]]
        left = len(failed) - _SHOWN_RETRIES
        lines += [f"  and {plural(left, 'more file')}, which asyncup status names"] if left > 0 else []
    elif total.status in (COMPLETE, PARTIAL):
        return _after_dry_run(report, failed=bool(total.counts.failed)) if total.dry_run else _check(report)
    left_over = [
        job for job in report.jobs if job.status in (ABORTED, INTERRUPTED) and not isinstance(job.error, GateMissed)
    ]
    return [*lines, *_go_on(left_over, total, report)] if left_over else lines


def next_of_verdict(verdict: Verdict) -> list[str]:
    """After a comparison."""
    if not verdict.complete:
        is_refused = verdict.error is not None and verdict.error.needs_configuration
        return [] if is_refused or verdict.again is None else _told(_AGAIN, verdict)
    extra = f"the {plural(verdict.extra, 'extra object')}, of no row" if verdict.extra else ""
    if verdict.mend is None:
        return [f"Next: see whether {extra}, may go; asyncup deletes nothing."] if extra else []
    stay = f"; {extra}, will stay, since asyncup deletes nothing" if extra else ""
    return [f"Next: make objects as their rows are{stay}{_with(verdict.left_out)}:", f"  {verdict.mend}"]


def _go_on(jobs: list[JobReport], total: JobReport, report: Report) -> list[str]:
    broken = [shown(job.name) for job in jobs if job.error is not None and job.error.needs_configuration]
    if broken:
        named = f"{', '.join(broken[:_SHOWN_NAMES])}{', …' if broken[_SHOWN_NAMES:] else ''}"
        whose = "its error" if len(broken) == 1 else "their errors"
        if report.again is None:
            return [f"Next: mend {named} (see {whose}), then run the jobs that are not complete again."]
        return [f"Next: mend {named} (see {whose}), then{_with(report.left_out)}:", f"  {report.again}"]
    then = "they go on from their checkpoints"
    if total.dry_run or (not total.resumed and not any(job.checkpoint for job in jobs)):
        then = "they begin anew"
    elif any(job.checkpoint is None for job in jobs):
        then = "those with a checkpoint go on from it, the others begin anew"
    words = f"run the jobs that are not complete again; {then}"
    return _told(words, report)


def _after_dry_run(report: Report, *, failed: bool) -> list[str]:
    once = ", once the cause is mended for which rows failed" if failed else ""
    if report.again is None:
        return [f"Next: run the same command without --dry-run{once}."]
    return [f"Next: send them{once}{_with(report.left_out)}:", f"  {report.again}"]


def _check(report: Report) -> list[str]:
    if report.check is None:
        return []
    return [f"Next: compare the rows with their objects{_with(report.left_out)}:", f"  {report.check}"]


def _send_again(job: JobReport, report: Report) -> list[str]:
    """Send the rows that failed, which are all that is left."""
    if job.dead_letters is None:
        return _told("mend the cause, then run the same command again; it copies every row anew", report)
    old = [] if job.retried is None else [f"  {job.retried} may be deleted once its job is complete"]
    return [*old, "Next: mend the cause, then send those rows again:", f"  {_retry(job)}"]


def _told(words: str, report: Report | Verdict) -> list[str]:
    if report.again is None:
        return [f"Next: {words}."]
    return [f"Next: {words.replace('the same command', 'this')}{_with(report.left_out)}:", f"  {report.again}"]


def _with(left_out: tuple[str, ...]) -> str:
    return f", with {' and '.join(left_out)} as before" if left_out else ""


def _retry(job: JobReport) -> str:
    return shlex.join(["asyncup", "retry", job.dead_letters or "", *job.configured])


def _has_all(job: JobReport) -> bool:
    """Whether every row of a job was sent, or has failed for good, so that a retry is what is left."""
    return not job.dry_run and (job.status == PARTIAL or isinstance(job.error, GateMissed))
