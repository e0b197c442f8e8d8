"""What is kept of a run's events while it goes on, for a report: bounded, however many rows there are and however long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from asyncup.console.causes import Causes
from asyncup.console.plain import event_line
from asyncup.console.report.elements import shortened
from asyncup.console.report.timeline import KEPT, Span, Timeline
from asyncup.console.report.waits import Waits
from asyncup.events import (
    Draining,
    Event,
    Finished,
    Listing,
    Notice,
    OfJob,
    Planned,
    Progress,
    RowFailed,
    Waiting,
)
from asyncup.model import Counts
from asyncup.report import Report
from asyncup.resolved import Plan

#: Lines of notices that are kept of a job, and characters of each.
NOTICES, _LINE = 60, 500
#: Spans that are kept of each job where there are several, and of which all of them together begin.
_KEPT_OF_EACH, _TOGETHER = 240, 1.0


@dataclass(frozen=True, slots=True)
class Said:
    """Something a person should know, `moment` seconds after the run began."""

    moment: float
    text: str


class JobRecord:
    """What one job did."""

    def __init__(self, redact: Callable[[str], str], kept: int = KEPT) -> None:
        self.plan: Plan | None = None
        self.report: Report | None = None
        self.timeline = Timeline(kept)
        self.causes = Causes(redact)
        self.waits = Waits(redact)
        self.said: list[Said] = []
        self.unsaid = 0
        self.listed = 0
        self.latest: Progress | None = None
        self._redact = redact

    def take(self, event: Event, now: float) -> Span | None:
        """Keep what an event tells; of progress, what has happened since the one before."""
        if isinstance(event, Progress):
            span = _since(self.latest, event, now)
            self.timeline.add(span)
            self.latest = event
            return span
        if isinstance(event, Planned):
            self.plan = event.plan
        elif isinstance(event, RowFailed):
            self.causes.add(event.letter)
        elif isinstance(event, Waiting):
            self.waits.add(event, now)
        elif isinstance(event, Listing):
            self.listed = event.objects
        elif isinstance(event, Finished):
            self.report = event.report
        elif isinstance(event, (Notice, Draining)) and (line := event_line(event)) is not None:
            self._say(line, now)
        return None

    def _say(self, line: str, now: float) -> None:
        if len(self.said) < NOTICES:
            self.said.append(Said(now, shortened(self._redact(line), _LINE)))
        else:
            self.unsaid += 1


class Recording:
    """What the jobs of a run did, each and all together. `clock` gives seconds that only go forward."""

    def __init__(self, redact: Callable[[str], str], clock: Callable[[], float] = time.monotonic) -> None:
        self._redact = redact
        self._clock = clock
        self._begun = clock()
        #: Jobs that follow one another, or the only one.
        self.alone = [JobRecord(redact)]
        #: Jobs that run together, by their labels.
        self.jobs: dict[str, JobRecord] = {}
        self.together = Timeline(least=_TOGETHER)

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return self._clock() - self._begun

    def on_event(self, event: Event) -> None:
        now = self.seconds
        if isinstance(event, OfJob):
            self._take(event.label, event.event, now)
            return
        if self.alone[-1].report is not None:
            self.alone.append(JobRecord(self._redact))
        self.alone[-1].take(event, now)

    def _take(self, label: str, event: Event, now: float) -> None:
        if label not in self.jobs:
            self.jobs[label] = JobRecord(self._redact, _KEPT_OF_EACH)
        span = self.jobs[label].take(event, now)
        if span is None:
            return
        # what jobs do at one moment adds up, and so do their maxima as far as anybody knows
        under_way = [job.latest for job in self.jobs.values() if job.latest is not None and job.report is None]
        end = self.together.end
        whole = Span(
            span.begin if end is None else end,
            now,
            put=span.put,
            rows=span.rows,
            bytes=span.bytes,
            retries=span.retries,
            throttled=span.throttled,
            in_flight=sum(progress.in_flight for progress in under_way),
            memory=sum(progress.memory for progress in under_way),
            lag=span.lag,
            latencies=dict(span.latencies),
        )
        self.together.add(whole)


def _since(before: Progress | None, event: Progress, now: float) -> Span:
    """What happened between two looks at a job."""
    first = before or Progress(Counts(), 0.0, 0, 0, 0, 0, 0, 0)
    known = dict(first.latencies)
    return Span(
        now - (event.seconds - first.seconds),
        now,
        put=event.counts.put - first.counts.put,
        rows=event.counts.rows - first.counts.rows,
        bytes=event.counts.bytes - first.counts.bytes,
        retries=event.retries - first.retries,
        throttled=event.throttled - first.throttled,
        in_flight=event.in_flight,
        limit=event.limit,
        memory=event.memory,
        lag=event.lag,
        latencies={
            bound: count - known.get(bound, 0) for bound, count in event.latencies if count != known.get(bound, 0)
        },
    )
