"""The accounts of a job, as its summary has them: what became of its rows, what was asked of the destination, how fast it went."""

from __future__ import annotations

from typing import Any

from asyncup.console.report.elements import Element, Node
from asyncup.console.report.page import figure_of, value
from asyncup.console.text import count, plural, size
from asyncup.pricing import DOLLARS_PER_1000_PUTS, PRICED_FOR
from asyncup.report import JobReport

Rows = list[tuple[str, Node]]


def counted(summary: dict[str, Any], name: str) -> Element:
    """A count of the summary."""
    return figure_of(name, summary[name], count(summary[name]))


def accounts(job: JobReport, summary: dict[str, Any]) -> Rows:
    """Names and values; `summary` is the job's part of the JSON summary, or all of it."""
    return [
        *_rows(job, summary),
        *_speed(job, summary),
        *_requests(job, summary),
        *_times(job, summary),
        *([("Dead letters", value(job.dead_letters))] if job.dead_letters is not None else []),
    ]


def _rows(job: JobReport, summary: dict[str, Any]) -> Rows:
    counts = job.counts
    put: list[Node] = [counted(summary, "put"), " would be put" if job.dry_run else " put"]
    rest: list[Node] = [" + ", counted(summary, "skipped"), " skipped + ", counted(summary, "failed"), " failed"]
    rows: Rows = [("Rows", [counted(summary, "rows"), " = ", put, rest])]
    if job.packs is not None:
        rows.append(("Packs", counted(summary, "packs")))
    if job.resumed:
        rows.append(("Over all runs", f"{plural(job.total, 'row')} since the checkpoint began"))
    if counts.skipped and job.skips:
        rows.append(("Skipped because", " or ".join(job.skips)))
    if job.gone:
        rows.append(("Gone", f"{plural(job.gone, 'row')} not in the database any more; among the skipped ones"))
    return rows


def _speed(job: JobReport, summary: dict[str, Any]) -> Rows:
    rate, bytes_ = summary["objects_per_second"], summary["bytes"]
    return [
        ("Bytes", [figure_of("bytes", bytes_, count(bytes_)), f" ({size(bytes_)})"]),
        ("Time", figure_of("seconds", summary["seconds"], f"{summary['seconds']:,.3f} s")),
        ("Rate", [figure_of("objects_per_second", rate, f"{rate:,.1f}"), f" {job.counted}/s"]),
    ]


def _requests(job: JobReport, summary: dict[str, Any]) -> Rows:
    rows: Rows = []
    if not job.dry_run:
        names = ("attempts", "Requests"), ("retries", "Retries"), ("throttled", "Throttled")
        rows += [(title, counted(summary, name)) for name, title in names]
    elif job.requests:
        rows.append(("Requests it would take", f"{count(job.requests)} or more"))
    requests = job.requests if job.dry_run else job.attempts
    if requests and job.priced:
        dollars = requests / 1000 * DOLLARS_PER_1000_PUTS
        rows.append(
            ("Price of requests", f"about ${dollars:,.2f}, at ${DOLLARS_PER_1000_PUTS} for 1,000 ({PRICED_FOR})")
        )
    return rows


def _times(job: JobReport, summary: dict[str, Any]) -> Rows:
    rows: Rows = []
    if not job.dry_run and job.latencies:
        rows.append(("Latency", _milliseconds(summary, "latency_ms", ("p50", "p95", "p99"))))
    rows.append(("Event loop late by", _milliseconds(summary, "loop_lag_ms", ("p99", "max"))))
    if not job.dry_run and job.peak:
        found = summary["concurrency"]
        peak = figure_of("concurrency.peak", found["peak"], count(found["peak"]))
        limit = figure_of("concurrency.limit", found["limit"], count(found["limit"]))
        why = f" ({job.level})" if job.level else None
        rows.append(("Concurrency", ["at most ", peak, " in flight; the limit was ", limit, why]))
    return rows


def _milliseconds(summary: dict[str, Any], field: str, names: tuple[str, ...]) -> Node:
    values = summary[field]
    return [
        [
            "" if name == names[0] else ", ",
            f"{name} ",
            figure_of(f"{field}.{name}", values[name], f"{values[name]:,.1f} ms"),
        ]
        for name in names
    ]
