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
    from asyncup.cli.presentation import Addition, Attendant, Outcome, View
    from asyncup.console.logged import LogLines
    from asyncup.console.text import Redactor
    from asyncup.flow.interrupt import Interrupt
    from asyncup.operations.states import States

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
    from asyncup.cli.presentation import Attendant, Views, additions, close, close_early, open_view
    from asyncup.console.ci.detection import detect
    from asyncup.console.text import Redactor
    from asyncup.operations.states import States
    from asyncup.report import Report

    stage = Stage()
    values, unread = _with_file(values, stage)
    output, progress, verbosity, quiet, log_format = (values[name] for name in PRESENTATION[:5])
    json = output == "json"
    try:
        if unread is not None:
            raise unread
        _check_presentation(output, progress, log_format)
        strange = [] if quiet else misspelt(values)
        for line in strange if log_format == "text" else []:
            print(line, file=sys.stderr)
        run = prepare(stage)
        redact = Redactor((*secrets(values["dsn"]), *stage.secrets))
        log, printed = _log(log_format, redact), None
        added = additions(values, redact, log)
    except AsyncupError as exc:
        name_variable(exc)
        wrong = Report(error=exc, dry_run=bool(values.get("dry_run"))) if failed is None else failed(exc)
        redact = Redactor((*secrets(values["dsn"]), *stage.secrets))
        log = _log(log_format, redact)
        if values.get("report") is not None:
            from asyncup.cli.reporting import html_report

            with contextlib.suppress(AsyncupError):  # its file may be what is wrong
                html_report(values, redact).finish(wrong, wrong.exit_code)
        return close_early(wrong, values["ci"], json=json, redact=redact, verbosity=verbosity, log=log)
    _show_records(verbosity, redact, log)
    if log is not None:
        from asyncup.console.logged import Printed

        printed = Printed(log)
        for line in strange:
            log.write("warning", "notice", None, {"message": line.removeprefix("warning: ")})
    in_ci = detect(values["ci"], os.environ) is not None
    shown = open_view(progress, redact, quiet=quiet, labels=stage.labels, log=log, traces=verbosity > 0, ci=in_ci)
    states = States()
    view = Views([states, *added, shown])
    # stdout is for what a run comes to, whatever a user's function prints
    elsewhere: Any = printed or sys.stderr
    try:
        with contextlib.redirect_stdout(elsewhere):
            report = _run(run, view, states, [one for one in added if isinstance(one, Attendant)])
    finally:
        view.close()
        if printed is not None:
            printed.close()
    name_variable(report.error)
    is_made = _finish(added, report, redact, log)
    return close(report, json=json, redact=redact, quiet=quiet, verbosity=verbosity, log=log) or int(not is_made)


def _with_file(values: Mapping[str, Any], stage: Stage) -> tuple[Mapping[str, Any], UsageError | None]:
    """The values of a command with what the file says of its presentation, where neither a flag nor the environment does."""
    from asyncup.cli.jobs import settings_of

    given = [name for name in PRESENTATION if environment(name) in os.environ or _is_typed(name)]
    try:
        found = settings_of(values).presented(given, os.environ, stage.secrets)
    except UsageError as exc:
        return values, exc
    return {**values, **{name: value for name, value in found.items() if name in values}}, None


def _is_typed(option: str) -> bool:
    """Whether a flag of the presentation stands on the command line, in any of its forms."""
    names = {"--" + option.replace("_", "-"), *(("--no-ci",) if option == "ci" else ())}
    letter = {"verbose": "v", "quiet": "q"}.get(option, "-")  # such may stand together: -qv
    return any(
        word.partition("=")[0] in names or (re.fullmatch("-[qv]+", word) is not None and letter in word[1:])
        for word in sys.argv
    )


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
            addition.finish(report, report.exit_code or int(not is_made))
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


def _show_records(verbosity: int, redact: Redactor, log: LogLines | None) -> None:
    """Show what is logged: with -v warnings of libraries, with -vv requests to S3 that failed, with -vvv every request and the rest.

    Not what botocore tells of each request, since that holds its signature and its session's token.
    """
    handler: logging.Handler
    if log is None:
        from asyncup.console.records import TextRecords

        handler = TextRecords(redact)
    else:
        from asyncup.console.logged import LogRecords

        handler = LogRecords(log)
    level = logging.DEBUG if verbosity >= 3 else logging.WARNING if verbosity else logging.CRITICAL
    logging.basicConfig(level=level, handlers=[handler])
    if verbosity >= 2:
        logging.getLogger("asyncup.s3").setLevel(logging.INFO if verbosity == 2 else logging.DEBUG)
    for library in ("botocore", "aiobotocore"):
        logging.getLogger(library).setLevel(max(level, logging.INFO))


def _run(run: Run, view: View, states: States, attendants: Sequence[Attendant]) -> Outcome:
    from concurrent.futures import ThreadPoolExecutor

    from asyncup.flow.interrupt import Interrupt
    from asyncup.operations.asking import Asking

    async def main() -> Outcome:
        interrupt = Interrupt()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncup-thread"))
        if (task := asyncio.current_task()) is not None:
            task.set_name("asyncup-run")
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(signum, interrupt.request, signum)
            except NotImplementedError:  # Windows
                signal.signal(signum, lambda number, _frame: loop.call_soon_threadsafe(interrupt.request, number))
            else:
                signal.signal(signum, _LastWay(interrupt, view))
        try:
            with Asking(states, view.on_event).heard():
                async with contextlib.AsyncExitStack() as stack:
                    for attendant in attendants:
                        await stack.enter_async_context(attendant.attend(view.on_event))
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

    def __init__(self, interrupt: Interrupt, view: View) -> None:
        self._interrupt = interrupt
        self._view = view
        self._signals = 0
        self._first = 0.0

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        self._signals += 1
        self._first = self._first or time.monotonic()
        if self._signals - self._interrupt.requests > 2 and time.monotonic() - self._first > HELD_SECONDS:
            with contextlib.suppress(Exception):  # whatever state it is in
                self._view.close()
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
