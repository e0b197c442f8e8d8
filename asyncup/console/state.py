"""The live state that somebody asked for with a signal: on a screen at most, and as fields of a log."""

from __future__ import annotations

from typing import Any

from asyncup.console.text import count, duration, plural, shown, size
from asyncup.events import Alike, JobState, LiveState, Progress

#: Of several jobs, those that run are shown first, and so many one by one.
_JOBS = 5
#: Kinds of tasks that are shown.
_KINDS = 10


def state_lines(state: LiveState) -> list[str]:
    """What a person reads; stacks are as long as they are."""
    jobs = sorted(state.jobs, key=lambda job: job.phase == "finished")
    lines = [f"state after {duration(state.seconds)}: {state.phase}"]
    lines += [line for job in jobs[:_JOBS] for line in _job(job)]
    if len(jobs) > _JOBS:
        lines.append(f"  and {plural(len(jobs) - _JOBS, 'more job')}")
    lines += [
        f"  {'tasks: ' if not number else ' ' * 7}{_kind(kind)}" for number, kind in enumerate(state.tasks[:_KINDS])
    ]
    if state.threads:
        lines.append("  threads: " + ", ".join(_times(shown(name), number) for name, number in state.threads))
    if state.stacks:
        lines.append(
            "something holds the event loop, so nothing is read or sent; every thread, the last call at its end:"
        )
        lines += [shown(line) for stack in state.stacks for line in stack.splitlines()]
    return lines


def _job(job: JobState) -> list[str]:
    progress, plan = job.progress, job.plan
    if progress is None or plan is None:
        return [f"  {shown(job.name)}: {job.phase}"]
    counts, sends = progress.counts, plan.settles == "put"
    estimate = f" of about {count(plan.estimated_rows)}" if plan.estimated_rows else ""
    before = f" ({count(plan.settled_before)} before)" if plan.settled_before else ""
    quiet = f"; the last one {duration(job.since_settled)} ago" if job.since_settled is not None else ""
    latency = progress.latency
    rows = (
        f"  {shown(job.name)}: {job.phase}: {plural(counts.rows, 'row')}{estimate}{before}: {count(counts.put)} "
        f"{plan.settles}, {count(counts.skipped)} skipped, {count(counts.failed)} "
        f"{'failed' if sends else 'missing or different'}{quiet}"
    )
    speed = (
        f"    {job.objects_per_second:,.0f} {plan.counted}/s, {size(job.bytes_per_second)}/s; "
        f"{count(progress.in_flight)} of {count(progress.limit)} in flight{_reason(progress)}; "
        f"p50 {latency.p50:,.1f} ms, p95 {latency.p95:,.1f} ms, p99 {latency.p99:,.1f} ms"
    )
    spent = (
        f"    {plural(progress.attempts, 'attempt')}, {count(progress.retries)} of them retries, "
        f"{count(progress.throttled)} throttled; {size(progress.memory)} held; event loop {progress.lag * 1000:,.0f} ms late"
    )
    if plan.checkpoint is None:
        return [rows, speed, spent]
    saved = "not saved yet" if progress.saved is None else f"saved {duration(progress.saved)} ago"
    return [rows, speed, spent, f"    checkpoint {shown(plan.checkpoint)}, {saved}"]


def _reason(progress: Progress) -> str:
    return f" ({progress.reason})" if progress.reason else ""


def _kind(kind: Alike) -> str:
    places = ", ".join(f"{number} in {place}" if kind.count > 1 else place for place, number in kind.places if place)
    return shown(f"{_times(kind.name, kind.count)}{': ' if places else ''}{places}")


def _times(name: str, number: int) -> str:
    return f"{name} ×{number}" if number > 1 else name


def state_fields(state: LiveState) -> dict[str, Any]:
    """What a log has of it."""
    return {
        "phase": state.phase,
        "seconds": round(state.seconds, 3),
        "jobs": [_fields(job) for job in state.jobs],
        "tasks": [{"name": kind.name, "count": kind.count, "places": dict(kind.places)} for kind in state.tasks],
        "threads": dict(state.threads),
        "stacks": list(state.stacks),
    }


def _fields(job: JobState) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": job.name, "phase": job.phase}
    progress, plan = job.progress, job.plan
    if progress is None or plan is None:
        return fields
    counts, latency = progress.counts, progress.latency
    return {
        **fields,
        "rows": counts.rows,
        "put": counts.put,
        "skipped": counts.skipped,
        "failed": counts.failed,
        "bytes": counts.bytes,
        "estimated_rows": plan.estimated_rows,
        "settled_before": plan.settled_before,
        "seconds_since_settled": None if job.since_settled is None else round(job.since_settled, 3),
        "objects_per_second": round(job.objects_per_second, 1),
        "bytes_per_second": round(job.bytes_per_second),
        "in_flight": progress.in_flight,
        "limit": progress.limit,
        "reason": progress.reason,
        "latency_ms": {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99},
        "attempts": progress.attempts,
        "retries": progress.retries,
        "throttled": progress.throttled,
        "memory": progress.memory,
        "loop_lag_ms": round(progress.lag * 1000, 1),
        "checkpoint": plan.checkpoint,
        "seconds_since_saved": None if progress.saved is None else round(progress.saved, 3),
    }
