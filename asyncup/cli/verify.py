"""`asyncup verify`: compare rows with objects."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncup.cli import sync
from asyncup.cli.options import shares
from asyncup.config import Config, environment
from asyncup.errors import AsyncupError, UsageError

if TYPE_CHECKING:
    from asyncup.report import Verdict

HELP = """Compare the rows of a Postgres table or query with the objects that sync has made of them.

Takes the flags of the sync that it checks. Reads the rows again and lists what is below the literal beginning of the \
template, both page by page, and names rows without an object, objects that differ from their row in size or in ETag, \
and objects of no row. Nothing is changed; flags about state have no meaning.

Exit codes: 0 all the same; 1 aborted, or a server cannot be reached; 2 only another configuration mends it; 4 there \
are differences; 130 and 143 interrupted."""


@shares(sync.sync, tuple(signature(sync.sync).parameters))
def verify(
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            envvar=environment("deep"),
            show_envvar=False,
            help="Download every object and compare its bytes.",
            rich_help_panel="How to compare",
            metavar="",
            show_default=False,
        ),
    ] = False,
    **options: Any,
) -> int:
    def prepare() -> sync.Run:
        config = Config.of(**sync.given(options))
        if config.limit == 0:
            raise UsageError("read flags", "--limit", "must be at least 1: nothing would be compared")
        from asyncup import verification

        return lambda view, interrupt: verification.verify(config, view, interrupt, deep=deep)

    def failed(error: AsyncupError) -> Verdict:
        from asyncup.report import Verdict

        return Verdict(error=error)

    return sync.present(
        prepare,
        options["dsn"],
        output=options["output"],
        progress=options["progress"],
        verbosity=options["verbose"],
        quiet=options["quiet"],
        failed=failed,
    )
