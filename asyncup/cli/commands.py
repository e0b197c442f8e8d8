"""The commands by name. One is imported and built when it is asked for: a start pays for no option of the others.

The command NAME is the function NAME of the module `asyncup.cli.NAME`, whose HELP follows the line that stands here and whose
EXAMPLES, if it has some, follow the options; or it has the commands in that module's COMMANDS.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Mapping
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from asyncup.cli.completing import begin as begin_completion
from asyncup.cli.completing import install_completion, show_completion
from asyncup.version import __version__

#: The variable by which a shell's completion asks.
COMPLETES = "_ASYNCUP_COMPLETE"
COMMANDS: Mapping[str, str] = {
    "sync": "Copy the rows of a Postgres table or query to objects: one row one object, or many in a pack.",
    "plan": "Show what a sync would do, and whether it would run: nothing is sent, and nothing is written.",
    "bench": "Measure how fast a sync would be, and what bounds it: its knee, its time, its price. Nothing is written anywhere.",
    "retry": "Send the rows of a dead-letter file again, as the database has them now.",
    "verify": "Compare the rows of a Postgres table or query with the objects that sync has made of them.",
    "status": "Show every checkpoint of a state: how far its job is, who runs it, what is left, and the command that goes on.",
    "init": "Write a first asyncup.toml for the tables of a database and a bucket: asks on a terminal, takes flags elsewhere.",
    "config": "Show what a configuration file comes to, and what may stand in one.",
    "demo": "Try everything on this machine: a real PostgreSQL, a real S3 server, real files, and a check of every byte.",
}


class _Program(typer.core.TyperGroup):
    """Lists commands that have a name and a line of help; resolves to one that has its options too."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else build(name), rest

    def invoke(self, ctx: Any) -> Any:
        from asyncup.cli.main import Interrupted

        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as exc:  # typer would make an exit of it, of which nothing is said
            raise Interrupted(signal.SIGINT) from exc


def build(name: str) -> Any:
    """A command with all of its options."""
    module = importlib.import_module(f"asyncup.cli.{name}")
    text = f"{COMMANDS[name]}\n\n{module.HELP}"
    if not hasattr(module, "COMMANDS"):
        alone = _typer()
        alone.command(name, help=text, epilog=getattr(module, "EXAMPLES", None))(getattr(module, name))
        return typer.main.get_command(alone)
    group = _typer(name=name, help=text, no_args_is_help=True)
    group.callback()(_listed)
    for part, line in module.COMMANDS.items():
        group.command(part, help=line)(getattr(module, part))
    return typer.main.get_command(group)


def program() -> Any:
    """The whole program, as typer runs it."""
    app = _typer(
        name="asyncup",
        cls=_Program,
        help="Publish the rows of a Postgres table or query as objects in S3.",
        epilog="New here? asyncup demo shows all of it on this machine, asyncup init writes a first asyncup.toml for your tables, "
        "and asyncup help COMMAND tells of one.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    app.callback()(_root)
    for name, line in COMMANDS.items():
        app.command(name, help=line)(_listed)
    if COMPLETES in os.environ:
        begin_completion()
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
    install: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            callback=install_completion,
            is_eager=True,
            expose_value=False,
            help="Install completion for the shell that this runs in: bash, zsh, fish or PowerShell.",
            metavar="",
            show_default=False,
        ),
    ] = False,
    show: Annotated[
        bool,
        typer.Option(
            "--show-completion",
            callback=show_completion,
            is_eager=True,
            expose_value=False,
            help="Print the completion of that shell, to install it elsewhere.",
            metavar="",
            show_default=False,
        ),
    ] = False,
) -> None:
    pass
