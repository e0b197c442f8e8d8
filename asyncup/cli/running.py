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
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from asyncup.cli.jobs import Stage
from asyncup.cli.options import misspelt
from asyncup.errors import AsyncupError, UsageError
from asyncup.values import environment, secrets_of

if TYPE_CHECKING:
    from asyncup.cli.presentation import Outcome, View
    from asyncup.flow.interrupt import Interrupt

#: What a command does on the event loop, watched by a view, until it is interrupted.
Run: TypeAlias = "Callable[[View, Interrupt], Awaitable[Outcome]]"

#: The options that say how a run is presented; no job has them.
PRESENTATION = ("output", "progress", "verbose", "quiet")


def present(
    prepare: Callable[[Stage], Run], values: Mapping[str, Any], failed: Callable[[AsyncupError], Outcome] | None = None
) -> int:
    """Run what `prepare` gives and present it as a command's values ask for; returns the exit code.

    No output holds a secret of its connections. `failed` makes the report of a command line that is wrong, where it is another one than a run's.
    """
    from asyncup.cli.presentation import PROGRESS, close, open_view
    from asyncup.console.text import Redactor
    from asyncup.report import Report

    output, progress, verbosity, quiet = (values[name] for name in PRESENTATION)
    stage, json = Stage(), output == "json"
    try:
        for option, value, allowed in (("--output", output, ("text", "json")), ("--progress", progress, PROGRESS)):
            if value not in allowed:
                raise UsageError("read flags", option, f"{value!r} is none of {', '.join(allowed)}")
        for line in [] if quiet else misspelt({*values, "deep", "config"}):
            print(line, file=sys.stderr)
        run = prepare(stage)
    except AsyncupError as exc:
        _name_variable(exc)
        wrong = Report(error=exc) if failed is None else failed(exc)
        redact = Redactor((*secrets(values["dsn"]), *stage.secrets))
        return close(wrong, json=json, redact=redact, verbosity=verbosity)
    logging.basicConfig(
        level=logging.DEBUG if verbosity >= 3 else logging.WARNING if verbosity else logging.CRITICAL, stream=sys.stderr
    )
    redact = Redactor((*secrets(values["dsn"]), *stage.secrets))
    view = open_view(progress, redact, quiet=quiet, labels=stage.labels)
    try:
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # stdout is for what a run comes to, whatever a user's function prints
            report = _run(run, view)
    finally:
        view.close()
    _name_variable(report.error)
    return close(report, json=json, redact=redact, quiet=quiet, verbosity=verbosity)


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


def _name_variable(error: AsyncupError | None) -> None:
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
