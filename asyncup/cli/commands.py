"""The commands by name. One is imported and built when it is asked for: a start pays for no option of the others.

The command NAME is the function NAME of the module `asyncup.cli.NAME`, whose HELP follows the line that stands here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from asyncup.version import __version__

COMMANDS: Mapping[str, str] = {
    "sync": "Copy the rows of a Postgres table or query to objects, one row one object.",
    "plan": "Show what a sync would do, and whether it would run: nothing is sent, and nothing is written.",
    "retry": "Send the rows of a dead-letter file again, as the database has them now.",
    "verify": "Compare the rows of a Postgres table or query with the objects that sync has made of them.",
    "status": "Show every checkpoint of a state: how far its job is, who runs it, what is left, and the command that goes on.",
    "demo": "Try everything on this machine: a real PostgreSQL, a real S3 server, real files, and a check of every byte.",
}


class _Program(typer.core.TyperGroup):
    """Lists commands that have a name and a line of help; resolves to one that has its options too."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else build(name), rest


def build(name: str) -> Any:
    """A command with all of its options."""
    module = importlib.import_module(f"asyncup.cli.{name}")
    alone = _typer()
    alone.command(name, help=f"{COMMANDS[name]}\n\n{module.HELP}")(getattr(module, name))
    return typer.main.get_command(alone)


def program() -> Any:
    """The whole program, as typer runs it."""
    app = _typer(
        name="asyncup",
        cls=_Program,
        help="Publish the rows of a Postgres table or query as objects in S3.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    app.callback()(_root)
    for name, line in COMMANDS.items():
        app.command(name, help=line)(_listed)
    return typer.main.get_command(app)


def _typer(**settings: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich", **settings)


def _listed() -> None:
    pass


def _version(wanted: bool) -> None:
    if wanted:
        print(f"asyncup {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.", metavar="")
    ] = False,
) -> None:
    pass
