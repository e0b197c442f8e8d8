"""`asyncup status`: checkpoints and what is left."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Coroutine
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from asyncup.cli import sync
from asyncup.cli.jobs import CONNECTIONS, Stage, as_job, options_of, settings_of, typed
from asyncup.cli.options import check_output, shares
from asyncup.cli.running import secrets
from asyncup.commandline import command_line
from asyncup.config import Config
from asyncup.errors import AsyncupError, UsageError

if TYPE_CHECKING:
    from asyncup.console.text import Redactor
    from asyncup.overview import Overview, Standing
    from asyncup.settings import Settings

HELP = """Nothing is changed. How many rows are left is the planner's estimate, where the database can be asked.

Exit codes: 0 everything was read; 1 a server cannot be reached; 2 only another configuration mends it, or a checkpoint \
cannot be read; 130 and 143 interrupted."""

_ACCESS = tuple(name for name in CONNECTIONS if name != "password")


@shares(sync.sync, ("config", "state", *_ACCESS, "output", "verbose", "quiet"))
def status(**options: Any) -> int:
    from asyncup.console.text import Redactor

    stage = Stage()
    found = _look(options, stage)
    redact = Redactor((*secrets(options["dsn"]), *stage.secrets))
    return _close(found, redact, json=options["output"] == "json", quiet=options["quiet"])


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
    from asyncup.console.terminal import complain, say
    from asyncup.console.text import error_lines

    for line in [] if found.error is None else error_lines(found.error):
        complain(redact(line))
    if json:
        print(json_summary(found, redact), flush=True)
    elif not quiet:
        from asyncup.console.status import overview_lines

        for line in overview_lines(found):
            say(redact(line))
    return found.exit_code


def _look(options: dict[str, Any], stage: Stage) -> Overview:
    from asyncup.console.text import Redactor
    from asyncup.overview import Overview, overview
    from asyncup.state import Access

    state = options["state"] or _default_state()
    given = {name: options[name] for name in ("state", *_ACCESS) if options[name] not in (None, False)}

    def waiting(error: AsyncupError, _: int, seconds: float) -> None:
        if not options["quiet"]:
            redact = Redactor((*secrets(options["dsn"]), *stage.secrets))
            print(redact(f"waiting {seconds:.1f}s: {error}"), file=sys.stderr)

    try:
        check_output(options["output"])
        # validated as those of a job are, of which a table and a destination are the least
        known = options_of(options, given, stage, ("state", *CONNECTIONS))
        config = Config.of(**{**known, "table": "any", "to": "null:"})
        state = config.state
        return _by_name(_run(overview(config.state, Access.of(config), waiting), state), options)
    except AsyncupError as exc:
        return Overview(state, error=exc)


def _by_name(found: Overview, options: dict[str, Any]) -> Overview:
    """With shorter commands for jobs of the configuration file; what a run had otherwise than that says is in them too."""
    config, names, settings = options["config"], {}, settings_of(options)
    for name, table in settings.jobs.items():
        own, shard = (table[option].value if option in table else None for option in ("name", "shard"))
        names[(own or name) if shard is None else f"{own or name}.{'-of-'.join(shard.split('/'))}"] = name
    standings = []
    for standing in found.standings:
        job, command = names.get(standing.entry.name), standing.command
        if job is not None and command is not None:
            if command.startswith("asyncup retry "):
                shorter = f"{command} {shlex.join(as_job(job, config))}"
            else:
                others = _otherwise(standing, settings, job)
                shorter = command if others is None else command_line("sync", typed(others, config), (job,))
            standings.append(replace(standing, command=shorter))
        else:
            standings.append(standing)
    return replace(found, standings=standings)


def _otherwise(standing: Standing, settings: Settings, job: str) -> dict[str, Any] | None:
    """The options of a run that are not those of its job in the file; None where no flags would make these of them."""
    checkpoint = standing.entry.checkpoint
    if checkpoint is None or not checkpoint.options:
        return {}
    try:
        found = settings.resolve(job, (), os.environ, [])
        usual = Config.of(**{option: setting.value for option, setting in found.items()}).kept()
    except UsageError:  # a variable that is not set here; the job is what the file says
        return {}
    kept = {option: value for option, value in checkpoint.options.items() if option != "state"}
    if usual.keys() - kept.keys() - {"state"}:
        return None
    return {option: value for option, value in kept.items() if usual.get(option) != value}


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
