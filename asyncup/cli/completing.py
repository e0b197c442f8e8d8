"""Shell completion, as typer has it: its two options, and names of jobs. A start that does not complete pays for none of it."""

from __future__ import annotations

import typer


def complete_jobs(ctx: typer.Context, incomplete: str) -> list[str]:
    """The jobs of the configuration file that a command line names, or that is found; none where it cannot be read."""
    from asyncup.cli.jobs import settings_of
    from asyncup.errors import AsyncupError

    try:
        names = settings_of({"config": ctx.params.get("config")}).jobs
    except (AsyncupError, OSError):
        return []  # the command will say why; nothing may be written between two keys
    given = ctx.params.get("job") or ()
    return [name for name in names if name.startswith(incomplete) and name not in given]


def install_completion(ctx: typer.Context, param: typer.CallbackParam, value: bool) -> None:
    """Write the completion script where the shell that this runs in finds it, and say where that is."""
    from typer.completion import install_callback

    begin()
    install_callback(ctx, param, value)


def show_completion(ctx: typer.Context, param: typer.CallbackParam, value: bool) -> None:
    """Print that script."""
    from typer.completion import show_callback

    begin()
    show_callback(ctx, param, value)


def begin() -> None:
    """Make typer's shells known, to a start that a shell's completion has asked for."""
    from typer.completion import get_completion_inspect_parameters

    get_completion_inspect_parameters()  # the one public way to them
