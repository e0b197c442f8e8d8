"""What `asyncup bench` found, as values: four questions measured, what bounds a run, and what the whole table would take.

Every field is there in every outcome; what was not measured is None. Rates are per second, times in seconds; CPU time is
that of this process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncup.errors import AsyncupError
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, error_to_json, exit_code_of

#: Version of the JSON object's shape.
BENCHMARK_VERSION = 1
SIMULATOR, BUCKET = "simulator", "bucket"

#: The share of attempts from which on a step counts as throttled.
THROTTLED = 0.02
#: The last level is far from saturation where it brings this share of what it would without any.
_LINEAR = 0.87
#: By so much no step is better than the next best one, unless it was lucky.
_LUCKY = 1.25
#: What may bound a run, by the names that JSON has for it.
DATABASE, TRANSFORM, MACHINE, DESTINATION = "database", "transform", "machine", "destination"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast something went, once it was under way: rows, or objects, and bytes in `seconds`, for `cpu` seconds of CPU."""

    count: int
    bytes: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """A second."""
        return self.count / self.seconds if self.seconds else 0.0

    @property
    def bytes_rate(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU for each."""
        return self.cpu * 1e6 / self.count if self.count else 0.0

    def to_json(self, counted: str = "rows") -> dict[str, Any]:
        return {
            counted: self.count,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            f"{counted}_per_second": round(self.rate, 1),
            "bytes_per_second": round(self.bytes_rate),
            "cpu_us": round(self.cpu_us, 2),
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One level of concurrency: how fast it was, its latencies in milliseconds, and how many attempts were throttled."""

    concurrency: int
    pace: Pace
    p50: float
    p99: float
    throttled: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "concurrency": self.concurrency,
            "objects_per_second": round(self.pace.rate, 1),
            "latency_ms": {"p50": self.p50, "p99": self.p99},
            "throttled": self.throttled,
            "cpu_us": round(self.pace.cpu_us, 2),
        }


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a destination takes at several levels of concurrency, and the knee: beyond it more in flight brings no more.

    `latency` is what the simulator was given, in milliseconds, None for a real bucket; `basis` says where it is from. `limit`
    is how many requests a second the simulator took, None for any number. `knee` is None where it was not reached.
    """

    against: str
    steps: tuple[Step, ...]
    knee: int | None = None
    latency: float | None = None
    basis: str | None = None
    limit: float | None = None

    @property
    def best(self) -> float:
        """The most objects a second."""
        return ceiling_of(self.steps)

    def to_json(self) -> dict[str, Any]:
        return {
            "against": self.against,
            "latency_ms": None if self.latency is None else round(self.latency, 3),
            "latency_basis": self.basis,
            "requests_per_second_limit": self.limit,
            "objects_per_second": round(self.best, 1),
            "knee": self.knee,
            "steps": [step.to_json() for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything together, as a run goes: `pace` once it was under way, `begun` all of it with its beginning.

    `limit` is the level of concurrency at the end, for the `reason` given.
    """

    pace: Pace
    begun: Pace
    limit: int
    reason: str

    def seconds_for(self, rows: int) -> float:
        """How long so many rows take, the beginning with them; start-up is not among it."""
        if rows <= self.begun.count or not self.pace.rate:
            return self.begun.seconds * rows / self.begun.count if self.begun.count else 0.0
        return self.begun.seconds + (rows - self.begun.count) / self.pace.rate

    def to_json(self) -> dict[str, Any]:
        return {**self.pace.to_json(), "concurrency": {"limit": self.limit, "reason": self.reason}}


@dataclass(frozen=True, slots=True)
class StartUp:
    """What a run costs before its first row: importing (another process was asked for that), and connecting and checking."""

    imports: float
    prepare: float

    @property
    def seconds(self) -> float:
        return self.imports + self.prepare

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "imports_seconds": round(self.imports, 3),
            "prepare_seconds": round(self.prepare, 3),
        }


@dataclass(frozen=True, slots=True)
class Projection:
    """What all rows would take, by what was measured. `basis` says whose number `rows` is.

    `prefixes` and `machines` are how many it takes for the target, if there is one that start-up leaves time for: partitions of the bucket that take
    `prefix_rate` requests a second each, and machines such as this one.
    """

    rows: int
    basis: str
    seconds: float
    objects: int
    bytes: int
    requests: int
    dollars: float | None
    dollars_per_month: float | None
    prefix_rate: float
    prefixes_now: int
    target: float | None = None
    prefixes: int | None = None
    machines: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "basis": self.basis,
            "seconds": round(self.seconds, 1),
            "objects": self.objects,
            "bytes": self.bytes,
            "requests": self.requests,
            "dollars": None if self.dollars is None else round(self.dollars, 4),
            "dollars_per_month": None if self.dollars_per_month is None else round(self.dollars_per_month, 4),
            "prefix_rate": self.prefix_rate,
            "prefixes_now": self.prefixes_now,
            "target_seconds": self.target,
            "prefixes_for_target": self.prefixes,
            "machines_for_target": self.machines,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """A figure beside that of an earlier benchmark. `share` is by how much it is worse, negative where it is better."""

    figure: str
    before: float
    now: float
    share: float
    is_worse: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "before": self.before,
            "now": self.now,
            "worse_by": round(self.share, 4),
            "regression": self.is_worse,
        }


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured of one job."""

    name: str = ""
    source: str = ""
    destination: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    start_up: StartUp | None = None
    read: Pace | None = None
    render: Pace | None = None
    send: Pace | None = None
    sweep: Sweep | None = None
    whole: Whole | None = None
    rates: dict[str, float] = field(default_factory=dict)
    projection: Projection | None = None
    changes: tuple[Change, ...] = ()
    compared: str | None = None
    saved: str | None = None
    command: str | None = None
    failed: int = 0
    failure: str | None = None
    unmeasured: str | None = None
    error: AsyncupError | None = None
    signal: int | None = None

    @property
    def bottleneck(self) -> str | None:
        """What bounds a run: the slowest of `rates`, which are rows a second."""
        return min(self.rates, key=self.rates.__getitem__) if self.rates else None

    @property
    def status(self) -> str:
        return INTERRUPTED if self.signal is not None else COMPLETE if self.error is None else ABORTED

    @property
    def exit_code(self) -> int:
        """0 measured · 1 a server is away, or a gate was missed · 2 only configuration mends it · 128 + signal."""
        return exit_code_of(self.error, self.signal)

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints, and `--save` keeps; every field is there in every outcome."""
        return {
            "version": BENCHMARK_VERSION,
            "status": self.status,
            "name": self.name,
            "source": self.source,
            "destination": self.destination,
            "machine": self.machine,
            "start_up": None if self.start_up is None else self.start_up.to_json(),
            "read": None if self.read is None else self.read.to_json(),
            "render": None if self.render is None else self.render.to_json(),
            "send": None if self.send is None else self.send.to_json("objects"),
            "sweep": None if self.sweep is None else self.sweep.to_json(),
            "whole": None if self.whole is None else self.whole.to_json(),
            "bottleneck": self.bottleneck,
            "rows_per_second": {name: round(rate, 1) for name, rate in self.rates.items()},
            "projection": None if self.projection is None else self.projection.to_json(),
            "compared": self.compared,
            "changes": [change.to_json() for change in self.changes],
            "saved": self.saved,
            "failed": self.failed,
            "error": None if self.error is None else error_to_json(self.error),
        }


def ceiling_of(steps: Sequence[Step]) -> float:
    """The most objects a second; where some steps were throttled, the median of theirs: a burst lets one of them have more.

    A step that stands out by far between two others was lucky.
    """
    throttled = [step.pace.rate for step in steps if step.throttled > THROTTLED * (step.pace.count + step.throttled)]
    if len(throttled) > 1:
        return sorted(throttled)[(len(throttled) - 1) // 2]
    ordered = sorted(steps, key=lambda step: step.pace.rate, reverse=True)
    highest = max((step.concurrency for step in steps), default=0)
    if len(ordered) > 2 and ordered[0].concurrency < highest and ordered[0].pace.rate > _LUCKY * ordered[1].pace.rate:
        return ordered[1].pace.rate
    return ordered[0].pace.rate if ordered else 0.0


def knee_of(steps: Sequence[Step]) -> int | None:
    """Where more in flight brings no more, by the bounds of a closed system; None where that was not reached.

    While nothing is saturated, N in flight bring N / R a second, R being the time of one; saturated, no more than X. The
    two lines meet at N = X * R (Denning and Buzen, The Operational Analysis of Queueing Network Models, ACM Computing
    Surveys 10, 1978: the saturation point). R is that of the steps which are far from X, X the best of all.
    """
    if len(steps) < 2:
        return steps[0].concurrency if steps and steps[0].throttled else None
    best, last = ceiling_of(steps), max(steps, key=lambda step: step.concurrency)
    free = [step for step in steps if 0 < step.pace.rate <= best / 2] or [min(steps, key=lambda step: step.concurrency)]
    answered = sum(step.pace.rate for step in free)
    if not answered:
        return None
    response = sum(step.concurrency for step in free) / answered
    if last.pace.rate > _LINEAR * last.concurrency / response and not last.throttled:
        return None  # it still grows
    return max(1, math.ceil(best * response - 0.5))
