"""What `--report` adds to a run: an observer that keeps what happens, and writes a page of it at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from asyncup.benchmark import Benchmark
from asyncup.console.report.about import About
from asyncup.console.report.benchpage import bench_page
from asyncup.console.report.elements import written
from asyncup.console.report.recording import Recording
from asyncup.console.report.runpage import run_page
from asyncup.console.report.target import Target
from asyncup.console.report.verdictpage import verdict_page
from asyncup.errors import AsyncupError, InternalError
from asyncup.events import Event
from asyncup.report import Report, Several


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


class HtmlReport:
    """An observer. Its file is looked at when it is made.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(
        self,
        path: str,
        about: About,
        redact: Callable[[str], str],
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = now,
    ) -> None:
        self._target = Target(path)
        self._target.check()
        self._about = about
        self._redact = redact
        self._today = today
        self._recording = Recording(redact, clock)

    def on_event(self, event: Event) -> None:
        self._recording.on_event(event)

    def close(self) -> None:
        """Nothing to clean up."""

    def finish(self, outcome: Any, exit_code: int) -> None:
        """Write the page of what a run, a comparison or a benchmark came to, or several of the latter two.

        Raises:
            AsyncupError: it cannot be written.
        """
        ended = self._today()
        try:
            if isinstance(outcome, Report):
                whole = run_page(self._about, outcome, self._recording, ended, exit_code)
            elif isinstance(outcome.parts[0][1] if isinstance(outcome, Several) else outcome, Benchmark):
                whole = bench_page(self._about, outcome, ended, exit_code)
            else:
                whole = verdict_page(self._about, outcome, self._recording, ended, exit_code)
            text = written(whole, self._redact)
        except AsyncupError:
            raise
        except Exception as exc:  # a report that fails must not take the run's own words with it
            said = f"an unexpected {type(exc).__name__}: {exc}"
            raise InternalError(
                "write report",
                self._target.path,
                said,
                "this is a defect of asyncup: report it; the run itself is as its summary says",
            ) from exc
        self._target.write(text)
