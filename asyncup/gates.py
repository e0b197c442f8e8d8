"""What a run has to come to beside settling its rows: gates for pipelines, judged once at the end.

A gate that is missed makes of a run that is complete one that does not exit 0. Nothing is taken back: the rows are settled,
and the checkpoint says so.
"""

from __future__ import annotations

from dataclasses import replace

from asyncup.config import Config
from asyncup.errors import GateMissed, OutOfTime
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Report
from asyncup.values import as_typed


def judged(config: Config, job: JobReport) -> JobReport:
    """The same report, or that of a run which missed a gate. What did not come to its end is not judged."""
    missed = _missed(config, job) if job.status in (COMPLETE, PARTIAL) else None
    return job if missed is None else replace(job, status=ABORTED, error=missed)


def _missed(config: Config, job: JobReport) -> GateMissed | None:
    least, most = config.expected_rows
    rows, hint = job.total, "every row is settled; see why there are not as many as there should be, or change the gate"
    if least is not None and rows < least:
        return GateMissed("count rows", job.name, f"{rows:,} rows, fewer than the {least:,} of --expect-rows", hint)
    if most is not None and rows > most:
        return GateMissed("count rows", job.name, f"{rows:,} rows, more than the {most:,} of --expect-rows", hint)
    # a dry run says nothing about sending, and where nothing was to be sent there is no rate
    if config.min_rate is None or job.dry_run or not job.counts.put or not job.seconds:
        return None
    rate = job.counts.put / job.seconds
    if rate >= config.min_rate:
        return None
    return GateMissed(
        "measure rate",
        job.name,
        f"{rate:,.1f} {job.counted} a second, fewer than the {config.min_rate:,.12g} of --min-rate",
        "every row is settled; the summary says what was in flight, and why no more was",
    )


def in_time(config: Config, report: Report, *, has_expired: bool) -> Report:
    """The same report, or that of a run which ended because its time was over."""
    if not has_expired or report.status != INTERRUPTED:
        return replace(report, signal=None) if has_expired else report
    job = report.job
    saved = None if job is None else job.checkpoint is not None
    error = out_of_time(config.timeout, "" if job is None else job.name, saved=saved)
    return Report(None if job is None else replace(job, status=ABORTED, error=error), error, dry_run=report.dry_run)


def out_of_time(seconds: float | None, name: str, *, saved: bool | None = None) -> OutOfTime:
    """The error of a run, or of one of its jobs, that was ended after so many seconds.

    `saved` says whether it left a checkpoint; None where it had not begun to read.
    """
    allowed = "" if seconds is None else f" of {as_typed('timeout', seconds)}"
    then = "what is settled is saved, and the same command goes on there" if saved else "the same command begins anew"
    then = "nothing was read yet: run the same command again, with more time" if saved is None else then
    return OutOfTime("run", name, f"the time{allowed} that --timeout gives is over", then)
