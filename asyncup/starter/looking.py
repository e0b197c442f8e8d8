"""What there is to start with: the tables of a database, and a bucket. Nothing is changed, and no value of a row is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asyncup.checkpoints.files import unwritable
from asyncup.config import Config
from asyncup.destinations import parse_destination
from asyncup.errors import AsyncupError, DestinationRefused, SourceRefused, UsageError
from asyncup.flow.retry import Retrier, RetryPolicy, sleep_on
from asyncup.names import nearest
from asyncup.sources.connection.login import Login
from asyncup.sources.connection.session import Session
from asyncup.sources.planner.survey import Server, look_at_server
from asyncup.sources.tables import Table, list_tables, look_at_table
from asyncup.starter.proposing import Proposal, job_name, propose
from asyncup.state import Access

#: The tables that are looked at, the largest first; of those behind them only the names are told.
MOST_TABLES = 100


@dataclass(frozen=True, slots=True)
class Source:
    """A database: who it is, its tables as they could be jobs, and the names of those that nobody looked at."""

    server: Server
    proposals: Sequence[Proposal]
    others: Sequence[str] = ()

    def named(self, names: Sequence[str]) -> list[Proposal]:
        """The tables of these names, each once.

        Raises:
            SourceRefused: there is no such table.
        """
        known = {name: one for one in self.proposals for name in (one.table.sql, one.table.name)}
        for name in names:
            if name not in known:
                raise SourceRefused("choose tables", name, f"there is no table {name}", nearest(name, _names(self)))
        return list({known[name].job: known[name] for name in names}.values())


def _names(source: Source) -> list[str]:
    return [one.table.name for one in source.proposals]


Waiting = Callable[[AsyncupError, int, float], None]


async def look_at_source(config: Config, wanted: Sequence[str], on_waiting: Waiting) -> Source:
    """The tables of the database; those that are `wanted` are looked at however many there are.

    Raises:
        AsyncupError: it cannot be reached, or refuses to list them.
    """
    session = Session(
        Login.of(config.dsn, config.password, config.password_command), Retrier(RetryPolicy(), sleep_on, on_waiting)
    )
    try:
        server = await look_at_server(session)
        tables = await list_tables(session)
        chosen = [table for table in tables if {table.name, table.sql} & set(wanted)]
        looked = [*chosen, *(table for table in tables if table not in chosen)][: max(MOST_TABLES, len(chosen))]
        proposals: list[Proposal] = []
        for table in looked:
            proposals.append(await _proposal(session, table, [one.job for one in proposals]))
        return Source(server, proposals, [table.name for table in tables if table not in looked])
    finally:
        await session.close()


async def _proposal(session: Session, table: Table, taken: Sequence[str]) -> Proposal:
    name = job_name(table, taken)
    try:
        return propose(table, name, await look_at_table(session, table))
    except SourceRefused as refused:
        return Proposal(table, name, reason=refused)


async def look_at_prefix(config: Config, prefix: str, on_waiting: Waiting) -> bool | None:
    """Whether what lies below a prefix may be listed; None where there is nothing to list.

    Raises:
        UsageError: it is no prefix.
        DestinationRefused: there is no such bucket, or the credentials are of no use there.
        AsyncupError: no answer.
    """
    try:
        destination = parse_destination(prefix.rstrip("/") + "/object")
    except AsyncupError as exc:
        raise UsageError(
            "read flags", "--to-prefix", exc.message.replace("/object'", "'"), "write it as s3://bucket/prefix"
        ) from exc
    if destination.kind not in ("s3", "file") or destination.template.names:
        raise UsageError(
            "read flags", "--to-prefix", f"{prefix!r} is no prefix", "write s3://bucket/prefix, or file:///folder"
        )
    if destination.kind == "file":
        fault = await asyncio.to_thread(unwritable, Path(destination.place))
        if fault is not None:
            raise DestinationRefused("open directory", destination.place, fault, "give a folder that can be written to")
        return None
    return await _look_at_bucket(config, destination.place, destination.template.literals[0], on_waiting)


async def _look_at_bucket(config: Config, bucket: str, prefix: str, on_waiting: Waiting) -> bool:
    from asyncup.sinks.s3 import S3Sink

    retrier = Retrier(RetryPolicy(), sleep_on, on_waiting)
    sink = await S3Sink.open(Access.of(config).settings(bucket, connections=1))
    try:
        try:
            await retrier.run(lambda _: sink.check(), None)
        except DestinationRefused as refused:
            if refused.hint is not None:
                refused.hint = refused.hint.replace("--to,", "--to-prefix,")
            raise
        return await sink.objects(retrier).first(prefix.removesuffix("object")) is not None
    finally:
        await sink.close()
