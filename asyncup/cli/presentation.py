"""Which rendering a run gets, and its last words: JSON to stdout, the summary to stdout, errors to stderr."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from asyncup.console.ci.detection import GITHUB, GITLAB, detect
from asyncup.console.ci.guard import unguarded
from asyncup.console.plain import CALM_SECONDS, LINE_SECONDS, PlainView
from asyncup.console.summary import error_text, errors_of, gone_line, json_summary, summary_lines
from asyncup.console.terminal import can_redraw, columns_of, complain, say, write_line
from asyncup.console.text import Redactor, shown
from asyncup.console.verdict import SHOWN, verdict_lines
from asyncup.errors import UsageError
from asyncup.events import Event
from asyncup.report import Report, Several, Verdict

if TYPE_CHECKING:
    from asyncup.benchmark import Benchmark
    from asyncup.console.logged import LogLines
    from asyncup.preflight import Preflight

#: What a command came to.
Outcome: TypeAlias = (
    "Report | Verdict | Preflight | Benchmark | Several[Verdict] | Several[Preflight] | Several[Benchmark]"
)

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


@runtime_checkable
class Attendant(Protocol):
    """An addition that has something to do on the run's event loop while it goes."""

    def attend(self, tell: Callable[[Event], None]) -> AbstractAsyncContextManager[None]: ...


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


def additions(values: Mapping[str, Any], redact: Redactor, log: LogLines | None) -> list[Addition]:
    """What the options of a command ask for beside a view, that for CI last.

    Raises:
        UsageError: one of them is wrong, or cannot be made.
    """
    added: list[Addition] = []
    if values.get("report") is not None:
        from asyncup.cli.reporting import html_report

        added.append(html_report(values, redact))
    if values.get("junit"):
        from asyncup.console.junit import JUnitFile

        added.append(JUnitFile(values["junit"], redact))
    if values.get("metrics"):
        added.append(_endpoint(values["metrics"]))
    files = {option: values[option] for option in ("report", "junit") if values.get(option)}
    provider = detect(values.get("ci"), os.environ)
    if (step := step_of(provider, redact, log, files, quiet=values["quiet"])) is not None:
        added.append(step)
    return added


def _endpoint(address: str) -> Addition:
    """What serves metrics.

    Raises:
        UsageError: nobody can listen there, or what it takes is not installed.
    """
    try:
        from asyncup.operations.endpoint import Endpoint
    except ImportError as exc:
        reason = f"it needs prometheus-client, which cannot be imported: {exc}"
        raise UsageError(
            "serve metrics", "--metrics", reason, "pip install 'asyncup[metrics]', or '.[metrics]' in a checkout"
        ) from exc
    return Endpoint.open(address)


def step_of(
    provider: str | None,
    redact: Redactor,
    log: LogLines | None,
    files: Mapping[str, str] | None = None,
    *,
    quiet: bool = False,
) -> Addition | None:
    """What is told to whoever runs this as a step of a pipeline, if they can be told anything.

    A log of JSON stays one: there are no annotations and no sections in it.
    """
    if provider == GITHUB:
        from asyncup.console.ci.github import GithubStep

        def warn(line: str) -> None:
            if log is not None:
                log.write("warning", "notice", None, {"message": line})
            else:
                print(redact(f"warning: {line}"), file=sys.stderr)

        stream = unguarded(sys.stderr) if log is None else None
        return GithubStep(stream, redact, os.environ, files or {}, warn)
    if provider == GITLAB and log is None and not quiet:
        from asyncup.console.ci.gitlab import GitlabSection

        return GitlabSection(unguarded(sys.stderr))
    return None


def open_view(
    progress: str,
    redact: Redactor,
    *,
    quiet: bool,
    labels: Sequence[str] = (),
    log: LogLines | None = None,
    traces: bool = False,
    ci: bool = False,
) -> View:
    """The view for `--progress`: live on a terminal that can redraw, plain lines elsewhere. `labels` are those of several jobs.

    Where there is a `log`, it is that. In `ci` lines are few, and nothing is live that was not asked for.
    What cannot be redrawn is never live.
    """
    is_shown = progress != "none" and not quiet
    if log is not None:
        from asyncup.console.logged import JsonView

        return JsonView(log, progress=is_shown, labels=labels)
    capable = is_shown and can_redraw(sys.stderr)
    every = CALM_SECONDS if ci else LINE_SECONDS
    is_live = capable and (progress == "live" or (progress == "auto" and not ci))
    if labels:
        if is_live:
            from asyncup.console.livejobs import LiveJobs

            return LiveJobs(sys.stderr, redact, labels, traces=traces)
        from asyncup.console.jobs import PlainJobs

        return PlainJobs(sys.stderr, redact, labels, progress=is_shown, traces=traces, every=every)
    if is_live:
        from asyncup.console.live import LiveView

        return LiveView(sys.stderr, redact, traces=traces)
    return PlainView(sys.stderr, redact, progress=is_shown, traces=traces, every=every)


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
            write_line(sys.stderr, redact("".join(lines).rstrip("\n")))
        for line in error_text(report):
            complain(redact(line))
    if json:
        print(json_summary(report, redact), flush=True)
        for line in gone_line(report) if isinstance(report, Report) and not quiet and log is None else []:
            complain(redact(line))
    elif not quiet:
        for line in _last_words(report):
            say(redact(line))
    return report.exit_code


def close_early(
    outcome: Outcome, ci: bool | None, *, json: bool, redact: Redactor, verbosity: int = 0, log: LogLines | None = None
) -> int:
    """Say how a command ended that never began; returns the exit code."""
    code = close(outcome, json=json, redact=redact, verbosity=verbosity, log=log)
    step = step_of(detect(ci, os.environ), redact, log)
    if step is not None:
        step.finish(outcome, code)
    return code


def _last_words(report: Outcome, most: int = SHOWN) -> list[str]:
    if isinstance(report, Several):
        each = max(2, SHOWN // len(report.parts))
        said = [(name, lines) for name, part in report.parts if (lines := _last_words(part, each))]
        return [line for name, lines in said for line in _under(shown(name), lines)]
    if isinstance(report, Verdict):
        return verdict_lines(report, most)
    if isinstance(report, Report):
        return summary_lines(report)
    return _words_of_looking(report)


def _words_of_looking(report: Preflight | Benchmark) -> list[str]:
    """Those of commands that look before a run, whose values a run need not import: they are many."""
    from asyncup.preflight import Preflight

    if isinstance(report, Preflight):
        from asyncup.console.preflight import preflight_lines

        return preflight_lines(report, columns_of(sys.stdout) or shutil.get_terminal_size().columns)
    from asyncup.console.benchmark import benchmark_lines

    return benchmark_lines(report, plots=sys.stdout.isatty())


def _under(name: str, lines: Sequence[str]) -> list[str]:
    """What is said of a job, under its name."""
    return [f"{name}: {lines[0]}"] if len(lines) == 1 else [f"{name}:", *(f"  {line}" for line in lines)]
