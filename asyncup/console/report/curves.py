"""The charts of a run: what a timeline comes to as curves, and latencies as a histogram."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from asyncup.console.report.charts import Axis, Mark, Series, histogram, line_chart
from asyncup.console.report.elements import Element
from asyncup.console.report.timeline import BOUNDS_APART, UNBOUNDED, Span, percentile
from asyncup.console.text import size
from asyncup.report import Latency

_TIME = Axis("time since the start", kind="time")
_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def curves(spans: Sequence[Span], counted: str, *, done: str, sends: bool) -> list[Element]:
    """What happened over time. `counted` are the objects or rows, `done` what becomes of them; `sends` where requests are made."""
    rows = Series("rows settled", steps(spans, lambda span: span.rate("rows")), "step")
    put = Series(f"{counted} {done}", steps(spans, lambda span: span.rate("put")), "step")
    is_apart = counted != "rows" and any(span.rows != span.put for span in spans)
    found = [
        line_chart("Throughput", [put, rows] if is_apart else [put], _TIME, Axis(f"{counted}/s")),
        line_chart(
            "Bytes",
            [Series(f"bytes {done}", steps(spans, lambda span: span.rate("bytes")), "step")],
            _TIME,
            Axis("bytes/s", form=bytes_of, most=1000.0),
        ),
    ]
    if sends:
        found += [_concurrency(spans), _retries(spans), _latencies(spans)]
    return [*found, _lag(spans), _memory(spans)]


def spread(latencies: Sequence[tuple[float, int]], of: Latency) -> Element:
    """How long requests took, each doubling of the time in four bars."""
    # what was not met between two that were is left out of a spread
    bars = [
        (1000 * min(bound, UNBOUNDED) / BOUNDS_APART, 1000 * min(bound, UNBOUNDED), float(count))
        for bound, count in latencies
    ]
    marks = [Mark(value, name) for name, value in (("p50", of.p50), ("p95", of.p95), ("p99", of.p99))]
    return histogram(
        "How long requests took",
        bars,
        Axis("milliseconds", kind="log"),
        Axis("acknowledged requests"),
        marks=marks,
        note="Each bar is of times up to 19 % apart; the lines are percentiles.",
    )


def bytes_of(value: float) -> str:
    """A tick of bytes: `1.5 MB`, `500 kB`."""
    return size(value).replace(".0 ", " ")


def _concurrency(spans: Sequence[Span]) -> Element:
    series = [Series("in flight", steps(spans, lambda span: span.in_flight), "step")]
    if any(span.limit for span in spans):
        series.append(Series("limit", steps(spans, lambda span: span.limit), "step"))
    note = "The most in flight, and the highest limit, of each moment."
    return line_chart("Concurrency", series, _TIME, Axis("requests"), note=note)


def _retries(spans: Sequence[Span]) -> Element:
    kinds = (("retries", "retries"), ("throttled", "throttled answers"))
    series = [
        Series(label, steps(spans, lambda span, kind=kind: span.rate(kind)), "step")  # type: ignore[misc]
        for kind, label in kinds
        if any(getattr(span, kind) for span in spans)
    ]
    note = None if series else "No request had to be sent again, and none was throttled."
    return line_chart("Retries and throttling", series, _TIME, Axis("requests/s"), note=note)


def _latencies(spans: Sequence[Span]) -> Element:
    def at(share: float) -> Callable[[Span], float | None]:
        def value(span: Span) -> float | None:
            seconds = percentile(span.latencies, share)
            return None if seconds is None else seconds * 1000

        return value

    series = [Series(name, steps(spans, at(share)), "step") for name, share in _SHARES]
    is_any = any(span.latencies for span in spans)
    note = "Of the requests acknowledged in each moment." if is_any else "No request was acknowledged."
    return line_chart("Latency", series, _TIME, Axis("milliseconds", kind="log"), note=note)


def _lag(spans: Sequence[Span]) -> Element:
    return line_chart(
        "Event loop lag",
        [Series("late by, at most", steps(spans, lambda span: span.lag * 1000), "step")],
        _TIME,
        Axis("milliseconds", most=1.0),
        note="By how much the program came late to what was due: a transform, or a busy processor, holds it up.",
    )


def _memory(spans: Sequence[Span]) -> Element:
    return line_chart(
        "Memory held by rows",
        [Series("bytes between reading and acknowledgement", steps(spans, lambda span: span.memory), "step")],
        _TIME,
        Axis("bytes", form=bytes_of, most=1000.0),
    )


def steps(spans: Sequence[Span], value: Callable[[Span], float | None]) -> list[tuple[float, float | None]]:
    """A value for each span, from its begin to its end."""
    values = [(span, value(span)) for span in spans]
    points: list[tuple[float, float | None]] = []
    for (span, this), following in itertools.zip_longest(values, values[1:]):
        points.append((span.begin, this))
        if this is not None and (following is None or following[1] is None):
            points.append((span.end, this))
    return points
