"""`asyncup config`: what a configuration file comes to, and what may stand in one."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncup.cli import sync
from asyncup.cli.options import check_output, misspelt, parameters, shares
from asyncup.config import Config
from asyncup.errors import AsyncupError

if TYPE_CHECKING:
    from asyncup.cli.resolving import Shown

HELP = """asyncup config show says what a job comes to, and where each value was written; asyncup config schema what may \
stand in a file, for editors."""

#: The commands of this command, each with its help.
COMMANDS = {
    "show": """Show what jobs come to, and where each value was written, as TOML.

Takes the flags of the sync, and the names of jobs; without any of them it shows every job of the file. Passwords, and \
values of variables whose names say that they are secret, are hidden. No server is asked.

Exit codes: 0 every job that is shown could be planned; 2 something in one of them is wrong, which is said.""",
    "schema": """Print the JSON Schema of asyncup.toml, for editors that complete and check it.

asyncup config schema > asyncup.schema.json; the first line of asyncup.toml is then: #:schema ./asyncup.schema.json""",
}
#: The flags that say which jobs, what they are, and how that is shown.
_FLAGS = tuple(
    name
    for name in parameters(sync.sync)
    if name in ("job", "every", "config", "output", "quiet", *(entry.name for entry in fields(Config)))
)


@shares(sync.sync, _FLAGS)
def show(
    ctx: typer.Context,
    defaults: Annotated[
        bool,
        typer.Option(
            "--defaults",
            help="Show as comments too what nobody gave, with the built-in defaults.",
            rich_help_panel=sync.RUN,
            metavar="",
            show_default=False,
        ),
    ] = False,
    **options: Any,
) -> int:
    from asyncup.cli.jobs import Stage
    from asyncup.cli.resolving import Shown, resolve
    from asyncup.cli.running import name_variable

    json, stage = options["output"] == "json", Stage()
    for line in [] if options["quiet"] else misspelt(options):
        print(line, file=sys.stderr)
    sources = {name: getattr(ctx.get_parameter_source(name), "name", "") for name in options}
    typed = {name for name, source in sources.items() if source == "COMMANDLINE"}
    try:
        check_output(options["output"])
        found = resolve(options, sync.given(options), typed, stage)
    except AsyncupError as exc:
        found = Shown(error=exc)
    for error in found.errors:
        name_variable(error)
    return _close(found, stage.secrets, options["dsn"], json=json, quiet=options["quiet"], defaults=defaults)


def schema() -> int:
    import json

    from asyncup.cli.schema import schema_of_files

    print(json.dumps(schema_of_files(), indent=2))
    return 0


def close_early(error: AsyncupError | None, signum: int | None, *, json: bool) -> int:
    """Say how the command ended that never began; returns the exit code."""
    from asyncup.cli.resolving import Shown

    return _close(Shown(error=error, signal=signum), [], None, json=json)


def _close(
    found: Shown, hidden: list[str], dsn: str | None, *, json: bool, quiet: bool = False, defaults: bool = False
) -> int:
    """Print what was found; returns the exit code."""
    from asyncup.cli.running import secrets
    from asyncup.console.summary import json_summary
    from asyncup.console.terminal import complain
    from asyncup.console.text import Redactor, error_lines

    redact = Redactor((*secrets(dsn), *hidden))
    if json:
        print(json_summary(found, redact), flush=True)
    elif not quiet:
        for line in found.toml(redact, defaults=defaults):
            print(line, flush=True)
    for error in found.errors:
        for line in error_lines(error):
            complain(redact(line))
    return found.exit_code
