"""`asyncup plan`: resolve, check and show; send nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asyncup.cli import sync
from asyncup.cli.jobs import ChosenJob, Stage, choose, in_turn, typed
from asyncup.cli.options import shares
from asyncup.cli.running import Run, present
from asyncup.commandline import command_line
from asyncup.errors import AsyncupError

if TYPE_CHECKING:
    from asyncup.cli.presentation import View
    from asyncup.flow.interrupt import Interrupt
    from asyncup.preflight import Preflight

HELP = """Takes the flags of the sync, and the names of jobs. Resolves the source, the key and the index that serves it, reads a few rows and renders \
them, asks for permissions on both sides, looks for a checkpoint to go on from, and reckons requests, price and time. \
Numbers of rows and bytes are estimates.

Exit codes: 0 it would run; 1 a server cannot be reached; 2 it would be refused, with every reason that can be found; \
130 and 143 interrupted."""


@shares(sync.sync, tuple(name for name in sync.OF_JOBS if name not in ("report", "metrics")))
def plan(**options: Any) -> int:
    def prepare(stage: Stage) -> Run:
        given = sync.given(options)
        chosen = choose(options, given, stage)
        from asyncup.planning import planning
        from asyncup.preflight import Preflight
        from asyncup.report import Several

        async def one(job: ChosenJob, view: View, interrupt: Interrupt) -> Preflight:
            known = () if job.name is None and options["config"] else job.settings.keys()
            found = await planning.plan(job.config, view, interrupt, known)
            for reason in found.reasons:
                job.explain(reason)
            if job.name is None or found.command is None:
                return found
            return replace(found, command=command_line("sync", typed(given, options["config"], anew=True), (job.name,)))

        if (only := chosen.only) is not None:
            return lambda view, interrupt: one(only, view, interrupt)

        async def every(view: View, interrupt: Interrupt) -> Several[Preflight]:
            found = await in_turn(chosen, one, lambda signum: Preflight(signal=signum), view, interrupt)
            return Several(tuple(found), worst=(2, 1))

        return every

    def failed(error: AsyncupError) -> Preflight:
        from asyncup.preflight import Preflight

        return Preflight(reasons=(error,))

    return present(prepare, options, failed)
