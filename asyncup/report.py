"""What a run did, as values: the closing summary, the JSON object and the exit code are all read off these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from asyncup.errors import AsyncupError
from asyncup.model import Counts, Key

COMPLETE = "complete"
PARTIAL = "partial"
INTERRUPTED = "interrupted"
ABORTED = "aborted"
_WORST_FIRST = (ABORTED, INTERRUPTED, PARTIAL)

#: Version of the JSON summary's shape.
SUMMARY_VERSION = 1


class Percentiles(Protocol):
    """Durations that were recorded."""

    def percentile(self, share: float) -> float: ...


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of acknowledged attempts, in milliseconds."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, seconds: Percentiles) -> Latency:
        """Those of durations in seconds."""
        return cls(*(round(seconds.percentile(share) * 1000, 3) for share in (0.5, 0.95, 0.99)))


@dataclass(frozen=True, slots=True)
class Lag:
    """By how many milliseconds the event loop was late: what 99 of a hundred looks did not exceed, and the worst."""

    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True)
class JobReport:
    """One job's part of a run. `counts` is what this run settled; `settled_before` what earlier runs did.

    `limit` is the number in flight that was found or asked for, `peak` the most there were, `level` says why it is so.
    `configured` are the words that say to another command which job of a configuration file it is. `restarted`: the command
    was told to start over.
    `skips` are the reasons for which rows may be skipped, `packs` those that were put, None where rows are not packed.
    A `dry_run` has sent nothing: `put` are those that would have been, in so many `requests` as PUTs are paid, where known.
    `latencies` are the bounds in seconds of the acknowledged attempts, and how many are between each and the one before.
    A retry says in `retried` whose rows it sent, and in `gone` how many of those were not in the database any more.
    """

    name: str
    status: str
    counts: Counts = field(default_factory=Counts)
    attempts: int = 0
    retries: int = 0
    throttled: int = 0
    seconds: float = 0.0
    latency: Latency = field(default_factory=Latency)
    lag: Lag = field(default_factory=Lag)
    limit: int = 0
    peak: int = 0
    resumed: bool = False
    settled_before: int = 0
    checkpoint: str | None = None
    dead_letters: str | None = None
    error: AsyncupError | None = None
    priced: bool = False
    counted: str = "objects"
    destination: str = ""
    retried: str | None = None
    gone: int = 0
    level: str = ""
    configured: tuple[str, ...] = ()
    restarted: bool = False
    skips: tuple[str, ...] = ()
    dry_run: bool = False
    requests: int = 0
    packs: int | None = None
    latencies: tuple[tuple[float, int], ...] = ()

    @property
    def total(self) -> int:
        """Every row once, over all runs since the checkpoint began."""
        return self.settled_before + self.counts.rows

    def to_json(self) -> dict[str, Any]:
        summary: dict[str, Any] = {"name": self.name, **_summary(self)}
        if self.resumed:
            summary["total"] = self.total
        return summary


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run. `job` is None when it ended before a job was resolved; `signal` is the one that interrupted it.

    Where several jobs ran, they are in `jobs`, and `job` is the sum of them. `dry_run` is for one that ended before there was a
    job. Commands to type next, where they are known: `again` goes on, with the jobs that are not complete, `check` compares what
    was sent with the rows; `left_out` are the flags with a secret that neither has.
    """

    job: JobReport | None = None
    error: AsyncupError | None = None
    signal: int | None = None
    jobs: tuple[JobReport, ...] = ()
    again: str | None = None
    dry_run: bool = False
    check: str | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        jobs: Sequence[JobReport],
        *,
        seconds: float,
        latency: Latency,
        most: int,
        peak: int,
        signal: int | None = None,
    ) -> Report:
        """Several jobs, in `seconds` altogether, with `peak` of `most` in flight together."""
        errors = [job.error for job in jobs if job.error is not None]
        latencies: Counter[float] = Counter()
        for job in jobs:
            latencies.update(dict(job.latencies))
        total = JobReport(
            name="",
            status=next((status for status in _WORST_FIRST if any(job.status == status for job in jobs)), COMPLETE),
            counts=sum((job.counts for job in jobs), Counts()),
            attempts=sum(job.attempts for job in jobs),
            retries=sum(job.retries for job in jobs),
            throttled=sum(job.throttled for job in jobs),
            seconds=seconds,
            latency=latency,
            latencies=tuple(sorted(latencies.items())),
            lag=Lag(max((job.lag.p99 for job in jobs), default=0.0), max((job.lag.max for job in jobs), default=0.0)),
            limit=min(most, sum(job.limit for job in jobs)),
            peak=peak,
            resumed=any(job.resumed for job in jobs),
            settled_before=sum(job.settled_before for job in jobs),
            checkpoint=_one_of(job.checkpoint for job in jobs),
            dead_letters=_one_of(job.dead_letters for job in jobs),
            error=errors[0] if errors else None,
            priced=any(job.priced for job in jobs),
            counted="rows" if any(job.counted == "rows" for job in jobs) else "objects",
            dry_run=bool(jobs) and all(job.dry_run for job in jobs),
            requests=sum(job.requests for job in jobs),
            packs=sum(job.packs or 0 for job in jobs) if any(job.packs is not None for job in jobs) else None,
        )
        return cls(total, total.error, signal, tuple(jobs))

    @property
    def parts(self) -> tuple[JobReport, ...]:
        """Each job that was begun."""
        return self.jobs or (() if self.job is None else (self.job,))

    @property
    def status(self) -> str:
        if self.job is not None:
            return self.job.status
        return INTERRUPTED if self.signal is not None else ABORTED

    @property
    def exit_code(self) -> int:
        """0 complete · 1 aborted · 2 only configuration mends it and nothing was sent · 3 rows failed · 128 + signal."""
        if self.status == COMPLETE:
            return 0
        if self.status == PARTIAL:
            return 3
        if self.status == INTERRUPTED and self.signal is not None:
            return 128 + self.signal
        sent = self.job is not None and self.job.counts.put > 0 and not self.job.dry_run
        errors: Sequence[AsyncupError | None]
        errors = [job.error for job in self.parts if job.error is not None] or [self.error]
        refused = all(error is not None and error.needs_configuration for error in errors)
        return 2 if refused and not sent else 1

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints; every field is there in every outcome."""
        job = self.job or JobReport(name="", status=self.status, error=self.error, dry_run=self.dry_run)
        return {
            "version": SUMMARY_VERSION,
            **_summary(job),
            "jobs": [job.to_json() for job in self.parts],
        }


def _one_of(values: Iterable[str | None]) -> str | None:
    """The one value that there is; None where there are several."""
    found = {value for value in values if value is not None}
    return found.pop() if len(found) == 1 else None


def _summary(job: JobReport) -> dict[str, Any]:
    counts = job.counts
    return {
        "status": job.status,
        **({"dry_run": True} if job.dry_run else {}),
        "rows": counts.rows,
        "put": counts.put,
        **({} if job.packs is None else {"packs": job.packs}),
        "skipped": counts.skipped,
        "failed": counts.failed,
        "bytes": counts.bytes,
        "attempts": job.attempts,
        "retries": job.retries,
        "throttled": job.throttled,
        "seconds": round(job.seconds, 3),
        "objects_per_second": round(counts.put / job.seconds, 1) if job.seconds else 0.0,
        "latency_ms": {"p50": job.latency.p50, "p95": job.latency.p95, "p99": job.latency.p99},
        "loop_lag_ms": {"p99": job.lag.p99, "max": job.lag.max},
        "concurrency": {"limit": job.limit, "peak": job.peak},
        "resumed": job.resumed,
        "checkpoint": job.checkpoint,
        "dead_letters": job.dead_letters,
        "error": None if job.error is None else error_to_json(job.error),
    }


def error_to_json(error: AsyncupError) -> dict[str, Any]:
    """An error as the summary shows it."""
    return {
        "type": error.type,
        "op": error.op,
        "subject": error.subject,
        "message": error.message,
        "hint": error.hint,
    }


#: Differences that a verdict names; all are counted.
DIFFERENCES = 1000
#: The reason of a `missing` one, where there is no other.
NO_OBJECT = "there is no such object"


@dataclass(frozen=True, slots=True)
class Difference:
    """A row whose object is `missing` or `different`, or an `extra` object, which has no row and so no `key`.

    Of a pack, several `rows` have one object: those from `key` to `last`.
    """

    kind: str
    key: Key | None
    object_key: str | None
    reason: str
    rows: int = 1
    last: Key | None = None

    def to_json(self) -> dict[str, Any]:
        key = None if self.key is None else list(self.key)
        found = {"kind": self.kind, "key": key, "object_key": self.object_key, "reason": self.reason}
        return found if self.last is None else {**found, "rows": self.rows, "last_key": list(self.last)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. `complete` when everything was compared.

    `by_size` objects could be compared by their size alone; of `skipped` rows, for one of the reasons in `skips`, no object
    is expected; `limited` when only some rows were read, and so no extra object was looked for. Commands to type next, where they are
    known: `mend` makes every object as its row is, `again` compares once more; `left_out` are the flags with a secret that neither
    has.
    """

    complete: bool = False
    rows: int = 0
    objects: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    differences: tuple[Difference, ...] = ()
    skipped: int = 0
    skips: tuple[str, ...] = ()
    by_size: int = 0
    limited: bool = False
    seconds: float = 0.0
    error: AsyncupError | None = None
    signal: int | None = None
    mend: str | None = None
    again: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        if not self.complete:
            return ABORTED
        return "different" if self.missing or self.different or self.extra else "same"

    @property
    def exit_code(self) -> int:
        """0 same · 1 aborted · 2 only configuration mends it · 4 different · 128 + signal."""
        if self.complete:
            return 0 if self.status == "same" else 4
        if self.error is not None:
            return exit_code_of(self.error, None)
        return 1 if self.signal is None else 128 + self.signal

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints; every field is there in every outcome."""
        return {
            "version": SUMMARY_VERSION,
            "status": self.status,
            "rows": self.rows,
            "objects": self.objects,
            "missing": self.missing,
            "different": self.different,
            "extra": self.extra,
            "differences": [difference.to_json() for difference in self.differences],
            "error": None if self.error is None else error_to_json(self.error),
        }


def exit_code_of(error: AsyncupError | None, signal: int | None) -> int:
    """What a command that looks at things ends with: 0 · 1 a server is away · 2 only configuration mends it · 128 + signal."""
    if signal is not None:
        return 128 + signal
    return 0 if error is None else 2 if error.needs_configuration else 1


class Ending(Protocol):
    """What one job of a command came to."""

    @property
    def status(self) -> str: ...

    @property
    def exit_code(self) -> int: ...

    @property
    def error(self) -> AsyncupError | None: ...

    def to_json(self) -> dict[str, Any]: ...


E = TypeVar("E", bound=Ending)


@dataclass(frozen=True, slots=True)
class Several(Generic[E]):
    """What each of several jobs came to, by its name. The worst of them says what all came to.

    `worst` are exit codes, the worst first; an interruption is worse than all of them. `sums` are fields to add up.
    """

    parts: tuple[tuple[str, E], ...]
    worst: tuple[int, ...]
    sums: tuple[str, ...] = ()

    @property
    def _leading(self) -> E:
        def rank(part: E) -> int:
            code = part.exit_code
            return -1 if code >= 128 else self.worst.index(code) if code in self.worst else len(self.worst)

        return min((part for _, part in self.parts), key=rank)

    @property
    def status(self) -> str:
        return self._leading.status

    @property
    def exit_code(self) -> int:
        return self._leading.exit_code

    @property
    def error(self) -> AsyncupError | None:
        """The first one."""
        return next((part.error for _, part in self.parts if part.error is not None), None)

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints: sums, and each job under its name."""
        jobs = [{"name": name, **part.to_json()} for name, part in self.parts]
        found: dict[str, Any] = {"version": SUMMARY_VERSION, "status": self.status}
        found |= {name: sum(job[name] for job in jobs) for name in self.sums}
        if "differences" in jobs[0]:
            all_ = [{"job": job["name"], **one} for job in jobs for one in job["differences"]]
            found["differences"] = all_[:DIFFERENCES]
        return {**found, "error": None if self.error is None else error_to_json(self.error), "jobs": jobs}
