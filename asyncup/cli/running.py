"""How every command that has a run goes: on an event loop, watched, interrupted by signals, and presented at the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

from asyncup.cli.jobs import Stage
from asyncup.cli.options import OUTPUTS, misspelt
from asyncup.errors import AsyncupError, UsageError
from asyncup.values import environment, secrets_of

if TYPE_CHECKING:
    from asyncup.cli.presentation import Addition, Outcome, View
    from asyncup.console.logged import LogLines
    from asyncup.console.text import Redactor
    from asyncup.flow.interrupt import Interrupt

#: What a command does on the event loop, watched by a view, until it is interrupted.
Run: TypeAlias = "Callable[[View, Interrupt], Awaitable[Outcome]]"

#: Seconds for which an event loop that hears of no signal may be busy with something that ends.
HELD_SECONDS = 0.5
#: The options that say how a run is presented; no job has them.
PRESENTATION = ("output", "progress", "verbose", "quiet", "log_format", "ci", "report", "metrics")


def present(
    prepare: Callable[[Stage], Run], values: Mapping[str, Any], failed: Callable[[AsyncupError], Outcome] | None = None
) -> int:
    """Run what `prepare` gives and present it as a command's values ask for; returns the exit code.

    No output holds a secret of its connections. `failed` makes the report of a command line that is wrong, where it is another one than a run's.
    """
    from asyncup.cli.presentation import Views, additions, close, open_view
    from asyncup.console.text import Redactor
    from asyncup.report import Report

    output, progress, verbosity, quiet, log_format = (values[name] for name in PRESENTATION[:5])
    stage, json = Stage(), output == "json"
    try:
        _check_presentation(output, progress, log_format)
        strange = [] if quiet else misspelt({*values, "deep", "config"})
        for line in strange if log_format == "text" else []:
            print(line, file=sys.stderr)
        run = prepare(stage)
        added = additions(values)
    except AsyncupError as exc:
        name_variable(exc)
        wrong = Report(error=exc, dry_run=bool(values.get("dry_run"))) if failed is None else failed(exc)
        redact = Redactor((*secrets(values["dsn"]), *stage.secrets))
        return close(wrong, json=json, redact=redact, verbosity=verbosity, log=_log(log_format, redact))
    redact = Redactor((*secrets(values["dsn"]), *stage.secrets))
    log, printed = _log(log_format, redact), None
    level = logging.DEBUG if verbosity >= 3 else logging.WARNING if verbosity else logging.CRITICAL
    if log is None:
        logging.basicConfig(level=level, stream=sys.stderr)
    else:
        from asyncup.console.logged import LogRecords, Printed

        logging.basicConfig(level=level, handlers=[LogRecords(log)])
        printed = Printed(log)
        for line in strange:
            log.write("warning", "notice", None, {"message": line.removeprefix("warning: ")})
    shown = open_view(progress, redact, quiet=quiet, labels=stage.labels, log=log, traces=verbosity > 0)
    view = Views([shown, *added]) if added else shown
    # stdout is for what a run comes to, whatever a user's function prints
    elsewhere: Any = printed or sys.stderr
    try:
        with contextlib.redirect_stdout(elsewhere):
            report = _run(run, view)
    finally:
        view.close()
        if printed is not None:
            printed.close()
    name_variable(report.error)
    is_made = _finish(added, report, redact, log)
    return close(report, json=json, redact=redact, quiet=quiet, verbosity=verbosity, log=log) or int(not is_made)


def _check_presentation(output: str, progress: str, log_format: str) -> None:
    """Refuse values that are none.

    Raises:
        UsageError: one is that.
    """
    from asyncup.cli.presentation import LOG_FORMATS, PROGRESS

    for option, value, allowed in (
        ("--output", output, OUTPUTS),
        ("--progress", progress, PROGRESS),
        ("--log-format", log_format, LOG_FORMATS),
    ):
        if value not in allowed:
            raise UsageError("read flags", option, f"{value!r} is none of {', '.join(allowed)}")


def _finish(added: Sequence[Addition], report: Outcome, redact: Redactor, log: LogLines | None) -> bool:
    """Make what is made beside the last words; whether all of it could be."""
    from asyncup.console.text import error_lines

    is_made = True
    for addition in added:
        try:
            addition.finish(report, report.exit_code)
        except AsyncupError as exc:
            is_made = False
            if log is not None:
                log.error(exc)  # noqa: TRY400 - a line of ours, not a record of a logger
            else:
                print(*(redact(line) for line in error_lines(exc)), sep="\n", file=sys.stderr)
    return is_made


def _log(log_format: str, redact: Redactor) -> LogLines | None:
    """Where everything is logged that is no result, where it is to be JSON."""
    if log_format != "json":
        return None
    from asyncup.console.logged import LogLines

    return LogLines(sys.stderr, redact)


def _run(run: Run, view: View) -> Outcome:
    from asyncup.flow.interrupt import Interrupt

    async def main() -> Outcome:
        interrupt = Interrupt()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(signum, interrupt.request, signum)
            except NotImplementedError:  # Windows
                signal.signal(signum, lambda number, _frame: loop.call_soon_threadsafe(interrupt.request, number))
            else:
                signal.signal(signum, _LastWay(interrupt))
        try:
            return await run(view, interrupt)
        finally:  # what has come of the run is decided: a late signal must not make another exit code of it
            for signum in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):  # Windows
                    loop.remove_signal_handler(signum)
                signal.signal(signum, signal.SIG_IGN)

    # a row leaves no garbage in cycles, so to look for it among all that was imported would be in vain
    gc.freeze()
    gc.set_threshold(10_000)
    factory = None
    with contextlib.suppress(ImportError):  # not on Windows
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


class _LastWay:
    """What a signal meets beside the event loop, which may be held by a user's function and then hears of none.

    The loop is woken by a descriptor (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd), whatever handler
    there is. The third signal that it has not come to ends the process, which loses no more than `kill -9` would.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._signals = 0
        self._first = 0.0

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._first = self._first or time.monotonic()
        if self._signals - self._interrupt.requests > 2 and time.monotonic() - self._first > HELD_SECONDS:
            os.write(2, b"something holds the event loop, so that nothing can be saved: ended at once; run it again\n")
            os._exit(128 + signum)


def name_variable(error: AsyncupError | None) -> None:
    """Name the variable in place of the flag, where the value that is wrong came from the environment."""
    if error is not None and error.subject.startswith("--"):
        error.subject = _as_given(error.subject)
        error.message = re.sub(r"--[a-z][a-z0-9-]*", lambda found: _as_given(found[0]), error.message)


def _as_given(written: str) -> str:
    """A flag, or the variable that was given in its place."""
    variable = environment(written[2:].replace("-", "_"))
    is_typed = any(word.partition("=")[0] == written for word in sys.argv)
    return variable if variable in os.environ and not is_typed else written


def secrets(dsn: str | None) -> tuple[str, ...]:
    """The secret texts of this run's connections; no output may hold them."""
    return _environment_secrets() + secrets_of(dsn)


def _environment_secrets() -> tuple[str, ...]:
    names = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    secrets = [os.environ[name] for name in names if os.environ.get(name)]
    return (*secrets, *secrets_of(os.environ.get("DATABASE_URL")))
