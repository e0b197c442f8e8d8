"""asyncup publishes the rows of a Postgres table or query as objects in S3.

report = await asyncup.sync(table="documents", to="s3://bucket/{id}.pdf", body="content")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncup.version import __version__

if TYPE_CHECKING:
    from asyncup.preflight import Preflight
    from asyncup.report import Report

__all__ = ["__version__", "plan", "sync"]


async def sync(**options: Any) -> Report:
    """Copy rows to objects. Options are those of `asyncup sync`, with underscores: `endpoint_url="http://…"`.

    Sizes may be numbers of bytes or texts such as `"64MiB"`, durations seconds or texts such as `"1m30s"`. Cancelling
    the call ends the run at once; what is settled is saved, and the next call resumes.

    Returns:
        Report: `report.status` is `complete`, or `partial` when rows failed.

    Raises:
        AsyncupError: the run could not begin, or could not go on.
    """
    from asyncup.app import execute
    from asyncup.config import Config
    from asyncup.flow.interrupt import Interrupt
    from asyncup.protocols import Silence

    report = await execute(Config.of(**options), Silence(), Interrupt())
    if report.error is not None:
        raise report.error
    return report


async def plan(**options: Any) -> Preflight:
    """Find out what `sync` of the same options would do; nothing is sent, and nothing is written.

    Returns:
        Preflight: `status` is `ready`, or `refused` or `aborted` for `reasons`, all that could be found. Numbers of rows
        and bytes are estimates.

    Raises:
        UsageError: the options are wrong.
    """
    from asyncup.config import Config
    from asyncup.flow.interrupt import Interrupt
    from asyncup.planning import planning
    from asyncup.protocols import Silence

    return await planning.plan(Config.of(**options), Silence(), Interrupt())
