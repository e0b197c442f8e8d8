"""What happens in a run as JSON lines, for whoever collects logs: one event, one object, one line.

Every line has `time` (ISO 8601, UTC, milliseconds), `level` (`info`, `warning` or `error`), `event` and `job` (None where no job is
meant), then the event's own fields. Names of events and fields stay as they are; others may be added. docs/pipelines.md has them all.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from asyncup.console.plain import LINE_SECONDS
from asyncup.console.rates import RateMeter
from asyncup.console.state import state_fields
from asyncup.console.summary import as_line, redacted
from asyncup.console.terminal import write_line
from asyncup.console.text import Redactor
from asyncup.errors import AsyncupError
from asyncup.events import (
    Draining,
    Event,
    Finished,
    Listing,
    LiveState,
    Notice,
    OfJob,
    Planned,
    Progress,
    RowFailed,
    Waiting,
)
from asyncup.report import COMPLETE, PARTIAL, Report, error_to_json

INFO, WARNING, ERROR = "info", "warning", "error"
#: Of waits so many lines a job in so many seconds: a bucket that throttles causes thousands.
WAITS, WAIT_SECONDS = 10, 1.0

Fields = dict[str, Any]


class LogLines:
    """Writes lines to a stream. No line holds a secret that `redact` knows."""

    def __init__(self, stream: TextIO, redact: Redactor, now: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._redact = redact
        self._now = now

    def write(self, level: str, event: str, job: str | None, fields: Fields) -> None:
        moment = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": moment, "level": level, "event": event, "job": job, **fields}
        write_line(self._stream, as_line(redacted(line, self._redact)))

    def error(self, error: AsyncupError, job: str | None = None, *, deep: bool = False) -> None:
        """An error that ended a run, or kept it from beginning; `deep` with its traceback."""
        more = {"traceback": "".join(traceback.format_exception(error))} if deep else {}
        if error.request_id is not None:
            more |= {"request_id": error.request_id, "host_id": error.host_id or ""}
        self.write(ERROR, "error", job, {**error_to_json(error), **more})


class JsonView:
    """An observer that logs, of one job or of several. Without `progress` neither how far it is, nor its begin and end."""

    def __init__(
        self,
        lines: LogLines,
        *,
        progress: bool = True,
        labels: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lines = lines
        self._is_shown = progress
        self._clock = clock
        self._only = None if labels else _Job(None)
        self._jobs = {label: _Job(label) for label in labels}

    def on_event(self, event: Event) -> None:
        job, inner = self._only or _Job(None), event
        if isinstance(event, OfJob):
            job, inner = self._jobs.setdefault(event.label, _Job(event.label)), event.event
        if isinstance(inner, (Planned, Progress, Finished)) and not self._is_shown:
            return
        if isinstance(inner, LiveState):
            self._lines.write(INFO, "state", job.name, state_fields(inner))
            return
        found = job.told(inner, self._clock())
        if found is not None:
            self._lines.write(found[0], found[1], job.name, found[2])

    def close(self) -> None:
        """Nothing to clean up."""


class _Job:
    """What is known of one job while it runs."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self._meter: RateMeter | None = None
        self._next = LINE_SECONDS
        self._listed = self._waits_since = float("-inf")
        self._waits = self._unsaid = 0

    def told(self, event: Event, now: float) -> tuple[str, str, Fields] | None:
        """The level, the name and the fields of an event; None where it is not worth a line."""
        if isinstance(event, Planned):
            plan = event.plan
            self.name, self._meter, self._next = self.name or plan.name, RateMeter(plan), LINE_SECONDS
            names = (
                "source",
                "destination",
                "key",
                "estimated_rows",
                "resumed",
                "settled_before",
                "checkpoint",
                "dry_run",
            )
            return INFO, "planned", {name: getattr(plan, name) for name in names}
        if isinstance(event, Progress):
            return self._progress(event)
        if isinstance(event, Waiting):
            return self._waiting(event, now)
        if isinstance(event, Listing):
            if now - self._listed < LINE_SECONDS:
                return None
            self._listed = now
            return INFO, "listing", {"objects": event.objects}
        if isinstance(event, RowFailed):
            letter = event.letter
            failed: Fields = {
                "key": list(letter.key),
                "object_key": letter.object_key,
                "type": letter.error,
                "op": letter.op,
            }
            return WARNING, "row_failed", {**failed, "message": letter.message, "attempts": letter.attempts}
        if isinstance(event, Notice):
            return INFO if event.is_routine else WARNING, "notice", {"message": event.message}
        if isinstance(event, Draining):
            fields = {"signal": event.signal, "in_flight": event.in_flight, "seconds": event.seconds}
            return WARNING, "draining", fields
        if isinstance(event, Finished):
            return _finished(event.report)
        return None

    def _progress(self, event: Progress) -> tuple[str, str, Fields] | None:
        if self._meter is None:
            return None
        rates = self._meter.add(event)
        if event.seconds < self._next:
            return None
        self._next = event.seconds + LINE_SECONDS
        counts = event.counts
        return (
            INFO,
            "progress",
            {
                "rows": counts.rows,
                "put": counts.put,
                "skipped": counts.skipped,
                "failed": counts.failed,
                "bytes": counts.bytes,
                "seconds": round(event.seconds, 3),
                "objects_per_second": round(rates.objects, 1),
                "bytes_per_second": round(rates.bytes),
                "share": None if rates.share is None else round(rates.share, 4),
                "eta_seconds": None if rates.eta is None else round(rates.eta),
                "in_flight": event.in_flight,
                "limit": event.limit,
                "reason": event.reason,
                "attempts": event.attempts,
                "retries": event.retries,
                "throttled": event.throttled,
                "memory": event.memory,
                "loop_lag_ms": round(event.lag * 1000, 1),
            },
        )

    def _waiting(self, event: Waiting, now: float) -> tuple[str, str, Fields] | None:
        if now - self._waits_since >= WAIT_SECONDS:
            self._waits_since, self._waits = now, 0
        self._waits += 1
        if self._waits > WAITS:
            self._unsaid += 1
            return None
        unsaid, self._unsaid = self._unsaid, 0
        fields = {"message": event.message, "seconds": round(event.seconds, 3), "attempt": event.attempt}
        return WARNING, "waiting", {**fields, "unsaid": unsaid}


def _finished(report: Report) -> tuple[str, str, Fields]:
    """The summary, without its parts: each of several jobs has a line of its own."""
    summary = report.to_json()
    fields = {name: value for name, value in summary.items() if name not in ("version", "jobs")}
    level = {COMPLETE: INFO, PARTIAL: WARNING}.get(report.status, ERROR)
    return level, "finished", {**fields, "exit_code": report.exit_code}


class LogRecords(logging.Handler):
    """What libraries log, as lines of ours."""

    def __init__(self, lines: LogLines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        level = ERROR if record.levelno >= logging.ERROR else WARNING if record.levelno >= logging.WARNING else INFO
        fields: Fields = {"logger": record.name, "message": record.getMessage()}
        if (request := getattr(record, "request", None)) is not None:  # of asyncup.s3
            fields["request"] = request
        if record.exc_info is not None and record.exc_info[1] is not None:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._lines.write(level, "log", None, fields)


class Printed:
    """A stream for what a user's function prints: each line of it becomes one of ours."""

    encoding = "utf-8"

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines
        self._rest = ""

    def write(self, text: str) -> int:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._lines.write(INFO, "printed", None, {"message": line})
        return len(text)

    def flush(self) -> None:
        """A line is written when it is whole."""

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Write what has no end of its own."""
        if self._rest:
            self.write("\n")
