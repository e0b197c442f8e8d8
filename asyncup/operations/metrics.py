"""The metrics of a run, as a table: what each is called, what it means, and where its values come from.

Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for what only grows. They and their labels stay as
they are; others may be added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from asyncup.operations.states import Known

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
#: Where the buckets of latencies end, in seconds: each twice the one before, from half a millisecond to a minute. They are among
#: those that a run counts in, so that nothing is guessed.
BOUNDS = tuple(2**octave / 1e6 for octave in range(9, 27))
#: Of four buckets in an octave, what lies halfway between two ends, as a part of the higher one.
_MIDDLE = 2 ** (-1 / 8)

#: Values with those of the labels behind `job`.
Values = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One of them. `values` gives those of a job, with the labels behind `job`; nothing for what is not known of it."""

    name: str
    kind: str
    help: str
    values: Callable[[Known], Values]
    labels: tuple[str, ...] = ("job",)


def _rows(job: Known) -> Values:
    return [((outcome,), number) for outcome, number in job.rows.items()]


def _total(name: str) -> Callable[[Known], Values]:
    return lambda job: [((), job.totals[name])]


def _now(name: str) -> Callable[[Known], Values]:
    return lambda job: [((), 0 if job.progress is None else getattr(job.progress, name))]


def _planned(name: str) -> Callable[[Known], Values]:
    def values(job: Known) -> Values:
        value = None if job.plan is None else getattr(job.plan, name)
        return [] if value is None else [((), value)]

    return values


def _saved(job: Known) -> Values:
    return [] if job.progress is None or job.progress.saved is None else [((), job.progress.saved)]


def _finished(job: Known) -> Values:
    return [] if job.status is None else [((job.status,), 1)]


def latencies(job: Known) -> tuple[list[tuple[float, int]], float]:
    """How many attempts took up to each of `BOUNDS` and any time, and the seconds of all, to about four per cent."""
    ends = (*BOUNDS, float("inf"))
    found = [(end, sum(count for bound, count in job.latencies if bound <= end)) for end in ends]
    return found, sum(count * bound * _MIDDLE for bound, count in job.latencies if bound != ends[-1])


#: Those of a job, in the order in which they are shown.
OF_JOBS = (
    Metric(
        "asyncup_rows_total",
        COUNTER,
        "Rows that this run settled. With verify, put are those whose object is the same, failed those that differ.",
        _rows,
        ("job", "outcome"),
    ),
    Metric("asyncup_bytes_total", COUNTER, "Bytes of the rows that were put.", _total("bytes")),
    Metric(
        "asyncup_attempts_total",
        COUNTER,
        "Attempts to put an object, repeated ones and those for parts included.",
        _total("attempts"),
    ),
    Metric("asyncup_retries_total", COUNTER, "Attempts that followed one that had failed.", _total("retries")),
    Metric("asyncup_throttled_total", COUNTER, "Answers that asked for fewer requests.", _total("throttled")),
    Metric(
        "asyncup_parts_total",
        COUNTER,
        "Acknowledged requests of objects that go in parts: the beginning, each part, the end.",
        _total("parts"),
    ),
    Metric("asyncup_in_flight", GAUGE, "Requests in flight.", _now("in_flight")),
    Metric("asyncup_concurrency_limit", GAUGE, "How many requests may be in flight.", _now("limit")),
    Metric(
        "asyncup_memory_bytes", GAUGE, "Bytes held from read to acknowledged, which --memory bounds.", _now("memory")
    ),
    Metric(
        "asyncup_loop_lag_seconds",
        GAUGE,
        "By how much the event loop was late at worst, in the last minute.",
        lambda job: [((), job.lag)],
    ),
    Metric(
        "asyncup_estimated_rows",
        GAUGE,
        "Rows of the source by the planner's estimate; absent where there is none.",
        _planned("estimated_rows"),
    ),
    Metric(
        "asyncup_settled_before_rows",
        GAUGE,
        "Rows that earlier runs of this checkpoint settled.",
        _planned("settled_before"),
    ),
    Metric(
        "asyncup_checkpoint_age_seconds",
        GAUGE,
        "For how long the checkpoint has not been saved: it is while rows settle; absent before the first time.",
        _saved,
    ),
    Metric(
        "asyncup_put_latency_seconds",
        HISTOGRAM,
        "Seconds from the beginning of an attempt to its acknowledgement.",
        lambda _: [],
    ),
    Metric("asyncup_finished", GAUGE, "1 for a job that has ended, and how.", _finished, ("job", "status")),
)
#: The one that is no job's.
INFO = Metric("asyncup_run_info", GAUGE, "1, with the version of asyncup.", lambda _: [], ("version",))
#: What a run shows of itself. docs/operations.md has the same table.
METRICS = (INFO, *OF_JOBS)
