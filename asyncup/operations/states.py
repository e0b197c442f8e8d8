"""Where every job of a command stands, from its events: what metrics, health and the live state are read off.

It costs a few additions four times a second for each job, and nothing for a row.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from asyncup.console.rates import RateMeter, Rates
from asyncup.events import Draining, Event, Finished, JobState, Listing, OfJob, Planned, Progress, Waiting
from asyncup.resolved import Plan

PREPARING, RUNNING, DRAINING, FINISHED = "preparing", "running", "draining", "finished"
#: A job whose requests bring nothing for so many seconds is stuck: an attempt takes a minute and a second more for each MiB,
#: and who waits for another one says so.
STUCK_SECONDS = 600.0
#: Seconds for which the worst lateness of the event loop is remembered: longer than anybody waits between two scrapes.
LAG_SECONDS = 60.0
#: What only grows, of `Progress`. An attempt that turns out to have sent nothing is taken back there, and not here:
#: to Prometheus a counter that goes down has begun anew.
_GROWING = ("attempts", "retries", "throttled", "parts")


class Known:
    """What is known of one job."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.plan: Plan | None = None
        self.progress: Progress | None = None
        self.rates = Rates(0.0, 0.0, None, None)
        self.status: str | None = None
        self.rows = {"put": 0, "skipped": 0, "failed": 0}
        self.totals = dict.fromkeys(("bytes", *_GROWING), 0)
        self.latencies: tuple[tuple[float, int], ...] = ()
        self._meter: RateMeter | None = None
        self._is_draining = False
        self._lags: deque[tuple[float, float]] = deque()
        self._settled_at: float | None = None
        self._moved_at = now
        self._moved: tuple[int, ...] = ()

    @property
    def phase(self) -> str:
        if self.status is not None:
            return FINISHED
        return DRAINING if self._is_draining else PREPARING if self.plan is None else RUNNING

    @property
    def in_flight(self) -> int:
        return 0 if self.progress is None else self.progress.in_flight

    def take(self, event: Event, now: float) -> None:
        """Take in an event of this job."""
        if isinstance(event, Planned):
            self.plan, self._meter, self._settled_at = event.plan, RateMeter(event.plan), now
        elif isinstance(event, Progress):
            self._take_progress(event, now)
        elif isinstance(event, Draining):
            self._is_draining = True
        elif isinstance(event, Finished):
            self.status = event.report.status
        if not isinstance(event, Progress):
            self._moved_at = now  # it waits knowingly, or comes to another stage

    def is_stuck(self, now: float) -> bool:
        """Whether requests have been in flight for long, and nothing was begun, answered, settled or waited for."""
        return self.phase in (RUNNING, DRAINING) and self.in_flight > 0 and now - self._moved_at > STUCK_SECONDS

    def since_settled(self, now: float) -> float | None:
        """Seconds since a row was settled, or since reading began."""
        return None if self._settled_at is None else now - self._settled_at

    @property
    def lag(self) -> float:
        """By how many seconds the event loop was late at worst in the last minute."""
        return max((lag for _, lag in list(self._lags)), default=0.0)

    def _take_progress(self, progress: Progress, now: float) -> None:
        counts, before = progress.counts, sum(self.rows.values())
        self.progress = progress
        self.rows = {name: max(known, getattr(counts, name)) for name, known in self.rows.items()}
        self.totals["bytes"] = max(self.totals["bytes"], counts.bytes)
        if self.plan is None or not self.plan.dry_run:  # which has sent nothing
            for name in _GROWING:
                self.totals[name] = max(self.totals[name], getattr(progress, name))
            self.latencies = progress.latencies
        if self._meter is not None:
            self.rates = self._meter.add(progress)
        self._lags.append((now, progress.lag))
        while now - self._lags[0][0] > LAG_SECONDS:
            self._lags.popleft()
        if sum(self.rows.values()) > before:
            self._settled_at = now
        acknowledged = sum(count for _, count in progress.latencies)
        moved = (counts.rows, acknowledged, *(getattr(progress, name) for name in _GROWING))
        if moved != self._moved:
            self._moved, self._moved_at = moved, now


class States:
    """An observer that keeps what the last events said of each job."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._jobs: dict[str, Known] = {}
        self._only: Known | None = None  # the one whose events name none
        self._has_ended = False

    @property
    def jobs(self) -> tuple[Known, ...]:
        """Those of which something was heard, in the order of that."""
        return tuple(self._jobs.copy().values())

    @property
    def phase(self) -> str:
        """The one of the jobs together."""
        phases = {job.phase for job in self.jobs}
        if self._has_ended:
            return FINISHED
        return next((phase for phase in (DRAINING, RUNNING) if phase in phases), PREPARING)

    @property
    def stuck(self) -> tuple[Known, ...]:
        """The jobs that are."""
        now = self._clock()
        return tuple(job for job in self.jobs if job.is_stuck(now))

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return self._clock() - self._begun

    def on_event(self, event: Event) -> None:
        """See `Observer.on_event`."""
        if isinstance(event, Progress | Planned | Waiting | Listing | Draining):
            self._has_ended = False
        now = self._clock()
        if isinstance(event, OfJob):
            job = self._jobs.setdefault(event.label, Known(event.label, now))
            job.take(event.event, now)
            return
        if isinstance(event, Planned):  # one job, or one after another
            self._only = self._jobs[event.plan.name] = Known(event.plan.name, now)
        if self._only is not None:
            self._only.take(event, now)
        if isinstance(event, Finished):
            self._has_ended, self._only = True, None

    def close(self) -> None:
        """Nothing to clean up."""

    def job_states(self) -> tuple[JobState, ...]:
        """All jobs as values."""
        now = self._clock()
        return tuple(
            JobState(
                job.name,
                job.phase,
                job.plan,
                job.progress,
                job.rates.objects,
                job.rates.bytes,
                job.since_settled(now),
            )
            for job in self.jobs
        )
