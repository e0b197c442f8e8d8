"""asyncup publishes the rows of a Postgres table or query as objects in S3.

report = await asyncup.sync(table="documents", to="s3://bucket/{id}.pdf", body="content")
async for outcome in asyncup.map(upload, rows, concurrency=150): ...
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from asyncup.version import __version__

if TYPE_CHECKING:
    from asyncup.mapping import Mapped, map  # noqa: A004 - asyncup.map is its name
    from asyncup.model import Upload
    from asyncup.preflight import Preflight
    from asyncup.report import Report
    from asyncup.sinks.executor import ExecutorSink
    from asyncup.transforms.record import Record

__all__ = ["ExecutorSink", "Mapped", "Record", "Upload", "__version__", "map", "plan", "sync", "sync_all"]

#: Names that are imported when they are first asked for, and where they are.
_ELSEWHERE = {
    "ExecutorSink": "asyncup.sinks.executor",
    "Mapped": "asyncup.mapping",
    "Record": "asyncup.transforms.record",
    "Upload": "asyncup.model",
    "map": "asyncup.mapping",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module 'asyncup' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_ELSEWHERE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


async def sync(**options: Any) -> Report:
    """Copy rows to objects. Options are those of `asyncup sync`, with underscores: `endpoint_url="http://…"`.

    Sizes may be numbers of bytes or texts such as `"64MiB"`, durations seconds or texts such as `"1m30s"`. Cancelling
    the call ends the run at once; what is settled is saved, and the next call resumes.

    Returns:
        Report: `report.status` is `complete`, or `partial` when rows failed.

    Raises:
        AsyncupError: the run could not begin, or could not go on; GateMissed, when it is complete and not as it was to be.
    """
    from asyncup.app import execute
    from asyncup.config import Config
    from asyncup.flow.interrupt import Interrupt
    from asyncup.protocols import Silence

    report = await execute(Config.of(**options), Silence(), Interrupt())
    if report.error is not None:
        raise report.error
    return report


async def sync_all(
    jobs: Iterable[Mapping[str, Any]], *, at_a_time: int = 8, fail_fast: bool = False, **shared: Any
) -> Report:
    """Run several jobs together: each is a mapping of options as `sync` takes them, with a `name` unless it has a table.

    Args:
        jobs: the jobs; each has a checkpoint of its own, under its name.
        at_a_time: how many run at a time.
        fail_fast: whether one that cannot begin or go on ends the others; they can be resumed.
        shared: `memory`, `concurrency`, `max_concurrency`, `max_rate`, `max_bandwidth` and `timeout` for all of them
            together.

    Returns:
        Report: `report.jobs` has each job in this order, with its `status` and its `error`; `report.job` is their sum. An
        error of a job is not raised.

    Raises:
        UsageError: there are no jobs, the options of one are wrong, or two have one name.
    """
    from asyncup.config import Config
    from asyncup.errors import UsageError
    from asyncup.flow.interrupt import Interrupt
    from asyncup.protocols import Silence
    from asyncup.together import Together, sync_together, whole_of

    if isinstance(jobs, Mapping):
        raise UsageError(
            "read jobs", "jobs", "they are one mapping", "give a list of mappings, each with the options of a job"
        )
    how = Together(whole_of(shared), at_a_time, fail_fast)
    configs = [Config.of(**{**shared, **job}) for job in jobs]
    if not configs:
        raise UsageError("read jobs", "jobs", "there are none", "give a mapping of options for each job")
    return await sync_together(configs, how, Silence(), Interrupt())


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
