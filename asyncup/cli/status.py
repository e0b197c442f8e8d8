"""`asyncup status`: checkpoints and what is left."""

from __future__ import annotations

import asyncio
import sys
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

_ACCESS = ("dsn", "endpoint_url", "region", "profile", "addressing", "ca_bundle", "no_sign_request", "attempt_timeout")


@shares(sync.sync, ("state", *_ACCESS, "output", "verbose", "quiet"))
def status(**options: Any) -> int:
    from asyncup.console.summary import json_summary
    from asyncup.console.text import Redactor, error_lines

    redact = Redactor(sync.secrets(options["dsn"]))
    found = _look(options, redact)
    for line in [] if found.error is None else error_lines(found.error):
        print(redact(line), file=sys.stderr)
    if options["output"] == "json":
        print(json_summary(found, redact), flush=True)
    elif not options["quiet"]:
        from asyncup.console.status import overview_lines

        for line in overview_lines(found):
            print(redact(line), flush=True)
    return found.exit_code


def _look(options: dict[str, Any], redact: Redactor) -> Overview:
    from asyncup.overview import Overview, overview
    from asyncup.state import Access

    state = options["state"] or str(next(entry.default for entry in fields(Config) if entry.name == "state"))
    given = {name: options[name] for name in _ACCESS if options[name] is not None}

    def waiting(error: AsyncupError, _: int, seconds: float) -> None:
        if not options["quiet"]:
            print(redact(f"waiting {seconds:.1f}s: {error}"), file=sys.stderr)

    try:
        if options["output"] not in ("text", "json"):
            raise UsageError("read flags", "--output", f"{options['output']!r} is none of text, json")
        # validated as those of a job are, of which a table and a destination are the least
        config = Config.of(table="any", to="null:", state=state, **given)
        return asyncio.run(overview(config.state, Access.of(config), waiting))
    except AsyncupError as exc:
        return Overview(state, error=exc)
