"""`asyncup status`: checkpoints and what is left."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from asyncup.cli import sync
from asyncup.cli.options import shares
from asyncup.config import Config
from asyncup.errors import AsyncupError, UsageError

if TYPE_CHECKING:
    from asyncup.console.text import Redactor
    from asyncup.overview import Overview

HELP = """Show every checkpoint of a state: how far its job is, who runs it, what is left, and the command that goes on.

Nothing is changed. How many rows are left is the planner's estimate, where the database can be asked.

Exit codes: 0 everything was read; 1 a server cannot be reached; 2 only another configuration mends it, or a checkpoint \
cannot be read; 130 and 143 interrupted."""

_ACCESS = (
    "dsn",
    "password_command",
    "endpoint_url",
    "region",
    "profile",
    "addressing",
    "ca_bundle",
    "no_sign_request",
    "attempt_timeout",
)


@shares(sync.sync, ("state", *_ACCESS, "output", "verbose", "quiet"))
def status(**options: Any) -> int:
    from asyncup.console.text import Redactor

    redact = Redactor(sync.secrets(options["dsn"]))
    return _close(_look(options, redact), redact, json=options["output"] == "json", quiet=options["quiet"])


def close_early(state: str | None, error: AsyncupError | None, signum: int | None, *, json: bool) -> int:
    """Say how the command ended that never began; returns the exit code."""
    from asyncup.console.text import Redactor
    from asyncup.overview import Overview

    return _close(Overview(state or _default_state(), error=error, signal=signum), Redactor(), json=json)


def _default_state() -> str:
    return str(next(entry.default for entry in fields(Config) if entry.name == "state"))


def _close(found: Overview, redact: Redactor, *, json: bool, quiet: bool = False) -> int:
    """Print what was found; returns the exit code."""
    from asyncup.console.summary import json_summary
    from asyncup.console.text import error_lines

    for line in [] if found.error is None else error_lines(found.error):
        print(redact(line), file=sys.stderr)
    if json:
        print(json_summary(found, redact), flush=True)
    elif not quiet:
        from asyncup.console.status import overview_lines

        for line in overview_lines(found):
            print(redact(line), flush=True)
    return found.exit_code


def _look(options: dict[str, Any], redact: Redactor) -> Overview:
    from asyncup.overview import Overview, overview
    from asyncup.state import Access

    state = options["state"] or _default_state()
    given = {name: options[name] for name in _ACCESS if options[name] is not None}

    def waiting(error: AsyncupError, _: int, seconds: float) -> None:
        if not options["quiet"]:
            print(redact(f"waiting {seconds:.1f}s: {error}"), file=sys.stderr)

    try:
        if options["output"] not in ("text", "json"):
            raise UsageError("read flags", "--output", f"{options['output']!r} is none of text, json")
        # validated as those of a job are, of which a table and a destination are the least
        config = Config.of(table="any", to="null:", state=state, **given)
        return _run(overview(config.state, Access.of(config), waiting), state)
    except AsyncupError as exc:
        return Overview(state, error=exc)


def _run(looking: Coroutine[Any, Any, Overview], state: str) -> Overview:
    """What there is to see, or that a signal came before."""
    from asyncup.overview import Overview

    signals: list[int] = []

    async def main() -> Overview:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def stop(signum: int) -> None:
            signals.append(signum)
            if task is not None:
                loop.call_soon_threadsafe(task.cancel)

        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda number, _frame: stop(number))
        try:
            return await looking
        except asyncio.CancelledError:
            return Overview(state, signal=signals[0])
        finally:  # what has come of it is decided: a late signal must not make another exit code of it
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_IGN)

    return asyncio.run(main())
