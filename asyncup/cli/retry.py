"""`asyncup retry`: send the rows of a dead-letter file again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncup.cli import sync
from asyncup.cli.completing import complete_jobs
from asyncup.cli.following import Following
from asyncup.cli.jobs import CONNECTIONS, Stage, options_of
from asyncup.cli.options import shares
from asyncup.cli.running import PRESENTATION, Run, present
from asyncup.values import OBJECT_OPTIONS

if TYPE_CHECKING:
    from asyncup.cli.presentation import Outcome, View
    from asyncup.flow.interrupt import Interrupt

HELP = """The file holds the job: what to read, where to write, what an object is; where that has a --transform, its module is imported \
here and the function run. Only what the environment or flags say of \
connections is needed here; a flag that is given wins over the job's own.

FILE is left as it is. Rows that fail again go to a file of their own, which can be retried too; rows that are not in \
the database any more are skipped, and counted. After an interruption the same command sends every row of FILE again.

Exit codes: 0 every row is settled; 1 aborted, or a server cannot be reached; 2 only another configuration mends it, \
and nothing was sent; 3 complete, but rows failed again; 130 and 143 interrupted."""

#: What the file says, so that no flag or variable makes other objects of its rows; and what is for a sync alone.
_OF_THE_JOB = frozenset(
    (
        *("table", "query", "where", "key", "to", "body", "on_null", "allow_collisions", "if_exists", *OBJECT_OPTIONS),
        *("name", "limit", "restart", "dead_letters", "allow_sort", "incremental", "lag"),
    )
)
OPTIONS = tuple(name for name in sync.OF_JOBS if name not in _OF_THE_JOB | {"job", "every"})


@shares(sync.sync, OPTIONS)
def retry(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="The file that a run with failed rows names in its summary.", show_default=False
        ),
    ],
    dead_letters: Annotated[
        str | None,
        typer.Option(
            "--dead-letters",
            help="File for rows that fail again. Default: FILE.retry-N.jsonl, beside it.",
            rich_help_panel=sync.STATE,
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            autocompletion=complete_jobs,
            help="Take the connections of this job of the configuration file. Default: those of its \\[defaults].",
            rich_help_panel=sync.JOBS,
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    **options: Any,
) -> int:
    given = {
        name: value
        for name, value in options.items()
        if name not in (*PRESENTATION, "config") and value not in (None, False)
    }
    if dead_letters is not None:
        given["dead_letters"] = dead_letters

    def prepare(stage: Stage) -> Run:
        from asyncup import redelivery

        known = options_of({**options, "job": job}, given, stage, CONNECTIONS)

        async def run(view: View, interrupt: Interrupt) -> Outcome:
            report = await redelivery.retry(file, known, view, interrupt)
            return replace(report, **Following(options, given).of_retry(file, job))

        return run

    return present(prepare, {**options, "job": job})
