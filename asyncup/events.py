"""What happens in a run, as values. Everything that people see is a rendering of these.

No event is made per row: numbers travel in `Progress`, a few times a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from asyncup.model import Counts, DeadLetter
from asyncup.report import Latency, Report
from asyncup.resolved import Plan


@dataclass(frozen=True, slots=True)
class Planned:
    """The run is resolved and checked; reading begins."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, a few times a second. `seconds` since reading began; `memory` in bytes held.

    `limit` requests may be in flight, for the `reason` given. `lag` is by how many seconds the event loop was late at worst
    since the event before. `latency` is that of the attempts which were acknowledged in the last seconds, `latencies` are
    all of the run: bounds in seconds, and how many are between each and the one before. `parts` are the requests of objects in
    parts that were acknowledged. The checkpoint was `saved` so many seconds ago, None where this run has not saved it yet.
    """

    counts: Counts
    seconds: float
    in_flight: int
    limit: int
    attempts: int
    retries: int
    throttled: int
    memory: int
    reason: str = ""
    lag: float = 0.0
    latency: Latency = field(default_factory=Latency)
    latencies: tuple[tuple[float, int], ...] = ()
    parts: int = 0
    saved: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something outside does not answer or asks for patience; the run tries again in `seconds`."""

    message: str
    seconds: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Busy:
    """What a command does that has no progress of rows, as people say it: `measuring …`."""

    words: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The destination is being listed, before any row is read; so many objects so far."""

    objects: int


@dataclass(frozen=True, slots=True)
class RowFailed:
    """A row became a dead letter."""

    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know, that stops nothing; `is_routine` where it is as it should be."""

    message: str
    is_routine: bool = False


@dataclass(frozen=True, slots=True)
class Draining:
    """A signal asked the run to end: reading has stopped, `in_flight` uploads get `seconds` to finish."""

    signal: str
    in_flight: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over, however it ended."""

    report: Report


@dataclass(frozen=True, slots=True)
class JobState:
    """One job in a `LiveState`: what is known of it.

    `phase` is preparing, running, draining or finished. Rates are those of the last seconds. `since_settled`: seconds since a
    row was settled, or since reading began.
    """

    name: str
    phase: str
    plan: Plan | None = None
    progress: Progress | None = None
    objects_per_second: float = 0.0
    bytes_per_second: float = 0.0
    since_settled: float | None = None


@dataclass(frozen=True, slots=True)
class Alike:
    """Tasks of one kind: how many, and how many of them wait in which place of our code."""

    name: str
    count: int
    places: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LiveState:
    """Somebody asked, with a signal, where everything stands. `seconds` since the command began.

    `threads` by name, and how many of each. `stacks` are those of all threads, where something holds the event loop.
    """

    phase: str
    seconds: float
    jobs: tuple[JobState, ...] = ()
    tasks: tuple[Alike, ...] = ()
    threads: tuple[tuple[str, int], ...] = ()
    stacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OfJob:
    """An event of one job, where there are several. `label` is its name."""

    label: str
    event: Event


Event = Planned | Progress | Busy | Waiting | Listing | RowFailed | Notice | Draining | Finished | LiveState | OfJob
