"""`asyncup verify`: compare rows with objects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncup.cli import sync
from asyncup.cli.following import Following
from asyncup.cli.jobs import ChosenJob, Stage, choose, in_turn
from asyncup.cli.options import shares
from asyncup.cli.running import Run, present
from asyncup.errors import AsyncupError, UsageError
from asyncup.values import environment

if TYPE_CHECKING:
    from asyncup.cli.presentation import View
    from asyncup.flow.interrupt import Interrupt
    from asyncup.report import Verdict

HELP = """Takes the flags of the sync that it checks, and the names of jobs. Reads the rows again and lists what is below the literal beginning of the \
template, both page by page, and names rows without an object, objects that differ from their row in size or in ETag, \
and objects of no row. Nothing is changed. Of the flags about state only --state \
has a meaning: what it names, and lies below that beginning, is no extra object.

Exit codes: 0 all the same; 1 aborted, or a server cannot be reached; 2 only another configuration mends it; 4 there \
are differences; 130 and 143 interrupted."""


@shares(sync.sync, sync.OF_JOBS)
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
    junit: Annotated[
        str | None,
        typer.Option(
            "--junit",
            envvar=environment("junit"),
            show_envvar=False,
            help="Write what was compared as JUnit XML too, for the test reports of GitLab, Jenkins and others.",
            rich_help_panel=sync.RUN,
            metavar="FILE.xml",
            show_default=False,
        ),
    ] = None,
    **options: Any,
) -> int:
    def prepare(stage: Stage) -> Run:
        given = sync.given(options)
        chosen = choose(options, given, stage)
        if any(job.config.limit == 0 for job in chosen.jobs):
            raise UsageError("read flags", "--limit", "must be at least 1: nothing would be compared")
        from asyncup import verification
        from asyncup.report import Several, Verdict

        async def one(job: ChosenJob, view: View, interrupt: Interrupt) -> Verdict:
            verdict = await verification.verify(job.config, view, interrupt, deep=deep)
            job.explain(verdict.error)
            return replace(verdict, **Following(options, given, [job.name]).of_verdict(verdict, deep=deep))

        if (only := chosen.only) is not None:
            return lambda view, interrupt: one(only, view, interrupt)

        async def every(view: View, interrupt: Interrupt) -> Several[Verdict]:
            found = await in_turn(chosen, one, lambda signum: Verdict(signal=signum), view, interrupt)
            return Several(tuple(found), worst=(1, 2, 4), sums=("rows", "objects", "missing", "different", "extra"))

        return every

    def failed(error: AsyncupError) -> Verdict:
        from asyncup.report import Verdict

        return Verdict(error=error)

    return present(prepare, {**options, "junit": junit}, failed)
