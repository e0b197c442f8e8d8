"""`asyncup plan`: resolve, check and show; send nothing."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from asyncup.cli import sync
from asyncup.cli.options import shares
from asyncup.config import Config
from asyncup.errors import AsyncupError

if TYPE_CHECKING:
    from asyncup.preflight import Preflight

HELP = """Show what a sync would do, and whether it would run: nothing is sent, and nothing is written.

Takes the flags of the sync. Resolves the source, the key and the index that serves it, reads a few rows and renders \
them, asks for permissions on both sides, looks for a checkpoint to go on from, and reckons requests, price and time. \
Numbers of rows and bytes are estimates.

Exit codes: 0 it would run; 1 a server cannot be reached; 2 it would be refused, with every reason that can be found; \
130 and 143 interrupted."""


@shares(sync.sync, tuple(signature(sync.sync).parameters))
def plan(**options: Any) -> int:
    def prepare() -> sync.Run:
        config = Config.of(**sync.given(options))
        from asyncup.planning import planning

        return lambda view, interrupt: planning.plan(config, view, interrupt)

    def failed(error: AsyncupError) -> Preflight:
        from asyncup.preflight import Preflight

        return Preflight(reasons=(error,))

    return sync.present(
        prepare,
        options["dsn"],
        output=options["output"],
        progress=options["progress"],
        verbosity=options["verbose"],
        quiet=options["quiet"],
        failed=failed,
    )
