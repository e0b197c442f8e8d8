"""Which rendering a run gets, and its last words: JSON to stdout, the summary to stdout, errors to stderr."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from asyncup.console.plain import PlainView
from asyncup.console.preflight import preflight_lines
from asyncup.console.summary import error_text, errors_of, gone_line, json_summary, summary_lines
from asyncup.console.text import Redactor, shown
from asyncup.console.verdict import verdict_lines
from asyncup.errors import UsageError
from asyncup.events import Event
from asyncup.preflight import Preflight
from asyncup.report import Report, Several, Verdict

if TYPE_CHECKING:
    from asyncup.console.logged import LogLines

#: What a command came to.
Outcome: TypeAlias = Report | Verdict | Preflight | Several[Verdict] | Several[Preflight]

PROGRESS = ("auto", "live", "plain", "none")
LOG_FORMATS = ("text", "json")


class View(Protocol):
    """An observer that holds a terminal."""

    def on_event(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Addition(View, Protocol):
    """What is made of a run beside what its terminal shows: a report, annotations, metrics."""

    def finish(self, outcome: Outcome, exit_code: int) -> None:
        """Make it, once everything is known; called once, and not where the command line was wrong.

        Raises:
            AsyncupError: it cannot be written.
        """


class Views:
    """Several observers as one."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views

    def on_event(self, event: Event) -> None:
        for view in self._views:
            view.on_event(event)

    def close(self) -> None:
        for view in self._views:
            view.close()


def additions(values: Mapping[str, Any]) -> list[Addition]:
    """What the options of a command ask for beside a view.

    Raises:
        UsageError: one of them is wrong, or cannot be made.
    """
    added: list[Addition] = []
    if values.get("ci") or values.get("report") or values.get("metrics"):
        raise UsageError("read flags", "--ci", "is not there yet", "leave it out")
    return added


def open_view(
    progress: str,
    redact: Redactor,
    *,
    quiet: bool,
    labels: Sequence[str] = (),
    log: LogLines | None = None,
    traces: bool = False,
) -> View:
    """The view for `--progress`: live on a terminal that can redraw, plain lines elsewhere. `labels` are those of several jobs.

    Where there is a `log`, it is that.
    """
    is_shown = progress != "none" and not quiet
    if log is not None:
        from asyncup.console.logged import JsonView

        return JsonView(log, progress=is_shown, labels=labels)
    capable = sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb" and not os.environ.get("CI")
    is_live = is_shown and (progress == "live" or (progress == "auto" and capable))
    if labels:
        if is_live:
            from asyncup.console.livejobs import LiveJobs

            return LiveJobs(sys.stderr, redact, labels, traces=traces)
        from asyncup.console.jobs import PlainJobs

        return PlainJobs(sys.stderr, redact, labels, progress=is_shown, traces=traces)
    if is_live:
        from asyncup.console.live import LiveView

        return LiveView(sys.stderr, redact, traces=traces)
    return PlainView(sys.stderr, redact, progress=is_shown, traces=traces)


def close(
    report: Outcome,
    *,
    json: bool,
    redact: Redactor,
    quiet: bool = False,
    verbosity: int = 0,
    log: LogLines | None = None,
) -> int:
    """Print what is to be said at the end; returns the exit code."""
    if log is not None:
        for label, error in errors_of(report):
            log.error(error, label, deep=verbosity >= 2)
    else:
        if report.error is not None and verbosity >= 2:
            lines = traceback.format_exception(report.error)
            print(redact("".join(lines)), file=sys.stderr, end="")
        for line in error_text(report):
            print(redact(line), file=sys.stderr)
    if json:
        print(json_summary(report, redact), flush=True)
        for line in gone_line(report) if isinstance(report, Report) and not quiet and log is None else []:
            print(line, file=sys.stderr)
    elif not quiet:
        for line in _last_words(report):
            print(redact(line), flush=True)
    return report.exit_code


def _last_words(report: Outcome) -> list[str]:
    if isinstance(report, Several):
        said = [(name, lines) for name, part in report.parts if (lines := _last_words(part))]
        return [line for name, lines in said for line in (f"{shown(name)}:", *(f"  {line}" for line in lines))]
    if isinstance(report, Verdict):
        return verdict_lines(report)
    if isinstance(report, Preflight):
        return preflight_lines(report, shutil.get_terminal_size().columns)
    return summary_lines(report)
