"""Several jobs for pipes, logs and CI: what any of them has to say under its name, and one line every few seconds for all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from asyncup.console.plain import FIRST_SECONDS, LINE_SECONDS, EventFilter, headline
from asyncup.console.rates import RateMeter, Rates
from asyncup.console.terminal import write_line
from asyncup.console.text import Redactor, count, duration, plural, shown, size
from asyncup.events import Draining, Event, Finished, OfJob, Planned, Progress
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, Report
from asyncup.resolved import Plan

_ENDED = {COMPLETE: "complete", PARTIAL: "complete, but rows failed", INTERRUPTED: "interrupted", ABORTED: "aborted"}


NOTHING = Rates(0.0, 0.0, None, None)


@dataclass
class Running:
    """A job that is under way, and how fast."""

    plan: Plan
    meter: RateMeter
    progress: Progress | None = None
    rates: Rates = NOTHING


class Board:
    """Where each of several jobs stands, from their events."""

    def __init__(self, labels: Sequence[str], *, traces: bool = False, every: float = LINE_SECONDS) -> None:
        self.jobs = len(labels)
        self.running: dict[str, Running] = {}
        self.ended: list[Progress] = []
        self.finished = 0
        self.begun = time.monotonic()
        self._filters = {label: EventFilter(traces=traces, every=every) for label in labels}
        self.is_draining = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def take(self, label: str, event: Event) -> str | None:
        """Take an event of a job in; the line that it is worth, or None."""
        if isinstance(event, Planned):
            self.running[label] = Running(event.plan, RateMeter(event.plan))
            return headline(event.plan)
        if isinstance(event, Progress):
            running = self.running[label]
            running.progress, running.rates = event, running.meter.add(event)
            return None
        if isinstance(event, Finished):
            running_, self.finished = self.running.pop(label, None), self.finished + 1
            if running_ is not None and running_.progress is not None:
                self.ended.append(running_.progress)
            return ending(event.report)
        if isinstance(event, Draining):
            if self.is_draining:
                return None
            self.is_draining = True
            return (
                f"{event.signal}: reading has stopped in all jobs; requests in flight may finish within "
                f"{duration(event.seconds)}; {'a signal' if event.signal.startswith('--') else 'once more'} to stop at once"
            )
        return self._filters[label].line(event)

    def totals(self) -> str:
        """Where all of them stand, in one line."""
        under_way = [job.progress for job in self.running.values() if job.progress is not None]
        counts = [progress.counts for progress in (*self.ended, *under_way)]
        rates = [job.rates for job in self.running.values()]
        return (
            f"{duration(self.seconds)}: {self.finished} of {plural(self.jobs, 'job')} ended, "
            f"{plural(sum(one.rows for one in counts), 'row')}, {sum(rate.objects for rate in rates):,.0f} objects/s, "
            f"{size(sum(rate.bytes for rate in rates))}/s, {count(sum(one.in_flight for one in under_way))} in flight, "
            f"{count(sum(one.failed for one in counts))} failed"
        )


def ending(report: Report) -> str:
    """How one of several jobs ended, in a line; what its error says in full comes at the end of the run."""
    job = report.job
    line = _ENDED[report.status]
    if job is not None:
        line += f" after {duration(job.seconds)}: {plural(job.counts.rows, 'row')}"
    if report.error is not None:
        line += f": {report.error.message}"
    return shown(line)


class PlainJobs:
    """Writes lines to a stream, those of a job behind its name."""

    def __init__(
        self,
        stream: TextIO,
        redact: Redactor,
        labels: Sequence[str],
        *,
        progress: bool = True,
        traces: bool = False,
        every: float = LINE_SECONDS,
    ) -> None:
        self._stream = stream
        self._redact = redact
        self._board = Board(labels, traces=traces, every=every)
        self._is_shown = progress
        self._every = every
        self._next = min(every, FIRST_SECONDS)

    def on_event(self, event: Event) -> None:
        if not isinstance(event, OfJob):
            line = None if isinstance(event, (Planned, Progress, Finished)) else EventFilter().line(event)
        else:
            line = self._board.take(event.label, event.event)
            if line is not None:
                is_progress = isinstance(event.event, (Planned, Finished))
                line = f"{shown(event.label)}: {line}" if not isinstance(event.event, Draining) else line
                line = line if self._is_shown or not is_progress else None
        if line is not None:
            self._write(line)
        if self._is_shown and self._board.running and self._board.seconds >= self._next:
            self._next = self._board.seconds + self._every
            self._write(self._board.totals())

    def close(self) -> None:
        """Nothing to clean up."""

    def _write(self, line: str) -> None:
        write_line(self._stream, self._redact(line))
