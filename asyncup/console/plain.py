"""Progress for pipes, logs and CI: one plain line every few seconds, and one for what a person should know."""

from __future__ import annotations

import re
import time
from pathlib import PurePath
from typing import TextIO

from asyncup.console.rates import RateMeter
from asyncup.console.state import state_lines
from asyncup.console.terminal import write_line
from asyncup.console.text import LATE_SECONDS, Redactor, count, duration, plural, shown, size
from asyncup.events import Draining, Event, Finished, Listing, LiveState, Notice, Planned, Progress, RowFailed, Waiting
from asyncup.resolved import Plan

LINE_SECONDS = 5.0
#: In CI, where a log is read when all is over: a line this often, and the first one sooner, to show that it runs.
CALM_SECONDS, FIRST_SECONDS = 30.0, 10.0
_PLACE = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)
#: Failed rows that are shown one by one; all of them are in the dead-letter file.
SHOWN_FAILURES = 5
#: A single failed attempt is everyday life and counted; one that fails this often is worth a line.
SHOWN_ATTEMPT = 3
#: Repeated waits are shown at most this often.
WAIT_SECONDS = 5.0


def headline(plan: Plan) -> str:
    """What the run copies and where it begins."""
    line = f"{plan.source} → {plan.destination}, by {', '.join(plan.key)}"
    if plan.dry_run:
        line = f"dry run, nothing is sent: {line}"
    if plan.settles != "put":
        line = f"rows are compared, nothing is sent: {line}"
    if plan.resumed:
        return f"{line}; resuming after {plural(plan.settled_before, 'row')} of an earlier run"
    return line


def level(progress: Progress) -> str:
    """What the limit is, and why."""
    return f" of {count(progress.limit)} ({progress.reason})" if progress.reason else ""


def lagging(progress: Progress) -> str:
    """By how much the event loop was late, where it is worth a word."""
    return f", the event loop {progress.lag * 1000:,.0f} ms late" if progress.lag >= LATE_SECONDS else ""


def event_line(event: Event) -> str | None:
    """The line for an event that is not progress, or None."""
    if isinstance(event, Waiting):
        return (
            f"{event.message.rstrip('.')}; trying again in {duration(event.seconds)} (attempt {event.attempt} failed)"
        )
    if isinstance(event, Listing):
        return f"{plural(event.objects, 'object')} listed at the destination"
    if isinstance(event, RowFailed):
        letter = event.letter
        key = ", ".join("NULL" if part is None else part for part in letter.key)
        return f"row ({key}) failed: {letter.message}{_place(letter.traceback)}"
    if isinstance(event, Notice):
        return event.message if event.is_routine else f"warning: {event.message}"
    if isinstance(event, Draining):
        return (
            f"{event.signal}: reading has stopped; {plural(event.in_flight, 'request')} in flight may finish within "
            f"{duration(event.seconds)}; {'a signal' if event.signal.startswith('--') else 'once more'} to stop at once"
        )
    return None


def _place(traceback: str | None) -> str:
    """The user's line that a traceback comes from, as far as it is theirs: ` (pages.py:12)`."""
    places = _PLACE.findall(traceback or "")
    own = [place for place in places if "site-packages" not in place[0]] or places
    return f" ({PurePath(own[-1][0]).name}:{own[-1][1]})" if own else ""


class EventFilter:
    """Keeps repetition away: the first failures, and a wait every few seconds. `traces` shows the first traceback of a user's."""

    def __init__(self, *, traces: bool = False, every: float = LINE_SECONDS) -> None:
        self._traces = traces
        self._every = every
        self._failures = 0
        self._waited = -WAIT_SECONDS
        self._listed = time.monotonic()

    def line(self, event: Event) -> str | None:
        if isinstance(event, RowFailed):
            self._failures += 1
            if self._failures == SHOWN_FAILURES + 1:
                return "more rows failed; the dead-letter file has them all"
            if self._failures > SHOWN_FAILURES:
                return None
        if isinstance(event, Listing):
            if time.monotonic() - self._listed < self._every:
                return None
            self._listed = time.monotonic()
        if isinstance(event, Waiting):
            now = time.monotonic()
            passing = event.attempt < SHOWN_ATTEMPT and event.seconds < 1
            if passing or now - self._waited < WAIT_SECONDS:
                return None
            self._waited = now
        if isinstance(event, LiveState):
            return "\n".join(state_lines(event))
        line = event_line(event)
        if self._traces and isinstance(event, RowFailed) and event.letter.traceback is not None:
            self._traces = False
            lines = (line or "", *event.letter.traceback.rstrip().split("\n"))
            return "\n  ".join(map(shown, lines))
        return None if line is None else shown(line)


class PlainView:
    """Writes lines to a stream, of progress `every` so many seconds."""

    def __init__(
        self,
        stream: TextIO,
        redact: Redactor,
        *,
        progress: bool = True,
        traces: bool = False,
        every: float = LINE_SECONDS,
    ) -> None:
        self._stream = stream
        self._redact = redact
        self._progress = progress
        self._filter = EventFilter(traces=traces, every=every)
        self._rates: RateMeter | None = None
        self._every = every
        self._next = min(every, FIRST_SECONDS)

    def on_event(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._rates, self._next = RateMeter(event.plan), min(self._every, FIRST_SECONDS)
            if self._progress:
                self._write(headline(event.plan))
        elif isinstance(event, Progress):
            if self._rates is not None:
                rates = self._rates.add(event)
                if self._progress and event.seconds >= self._next:
                    self._next = event.seconds + self._every
                    skipped = f"{count(event.counts.skipped)} skipped, " if event.counts.skipped else ""
                    done = f"{rates.share:.0%} of the planner's estimate, " if rates.share is not None else ""
                    eta = f", about {duration(rates.eta)} left" if rates.eta is not None else ""
                    sends = self._rates.sends
                    self._write(
                        f"{duration(event.seconds)}: {plural(event.counts.rows, 'row')}, {done}"
                        f"{rates.objects:,.0f} {self._rates.counted}/s, {size(rates.bytes)}/s, {count(event.in_flight)} in flight{level(event) if sends else ''}{lagging(event)}, "
                        f"{skipped}{count(event.counts.failed)} {'failed' if sends else 'missing or different'}{eta}"
                    )
        elif not isinstance(event, Finished):
            line = self._filter.line(event)
            if line is not None:
                self._write(line)

    def close(self) -> None:
        """Nothing to clean up."""

    def _write(self, line: str) -> None:
        write_line(self._stream, self._redact(line))
