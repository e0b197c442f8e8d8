"""What an incremental run reads: what is new or changed since the last one, and late commits never skipped.

Neither sequences nor timestamps follow the order of commits: a transaction may commit now what has a lower value than a
row that was read before. So a run pins its bounds before it reads (`horizons`), keeps them in its checkpoint (`mark`), and
the next one begins where everything below was settled. What holds, by the column's type:

- `xid8`, set to `pg_current_xact_id()` by inserts and updates: exact. Each version of a row is read once.
- `timestamptz`, `timestamp`, `date`, set to `now()` by inserts and updates: the same, as long as the clock is the server's;
  for one that is not, and for transactions that nobody can see, there is `--lag`. Without a time zone rows wait until no
  zone can still write a lower value, or `--lag` vouches for the zone. Where the server does not say when a
  transaction began, rows are read again until it has ended.
- `smallint`, `integer`, `bigint` from a sequence: rows whose version the last run may not have seen, by their `xmin`. What
  was written while a transaction of then was still open may be read twice. Only inserts are promised.

A table that was emptied or made anew may have rows of any age: it is read again whole, or looked through (`origins`).
What is read twice is sent twice, to the same object with the same bytes. The lower bound is closed but for a sequence, the
upper one open. NULL has no place in any order: such rows are never read, and a notice says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from asyncup.errors import ReadingBroken, ServerFault, SourceRefused
from asyncup.model import Column
from asyncup.names import quote
from asyncup.sources.increments.horizons import Connection, Server, look_at, pin_sequence, pin_time, pin_xid
from asyncup.sources.increments.incrementkeys import is_indexed
from asyncup.sources.increments.mark import SEQUENCE, TIME, XID, Mark
from asyncup.sources.increments.origins import look_up_origin
from asyncup.sources.keyset import Keyset, Relation

_RULES = {
    "xid8": XID,
    **dict.fromkeys(("timestamptz", "timestamp", "date"), TIME),
    **dict.fromkeys(("int2", "int4", "int8"), SEQUENCE),
}
#: Rows that are counted at most, and of how many rows at most where no index helps.
_COUNTED, _SCANNED = 10_000, 100_000

_REACHED = """
SELECT pg_is_in_recovery() AS standby,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END
           >= $1::text::pg_lsn AS reached,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END AS timeline
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """An incremental run that may begin.

    Attributes:
        mark: its bounds.
        goes_on: whether it goes on behind the watermark of the run that has pinned them.
        notices: what people should know.
        remarks: what they may like to know, though it is as it should be.
    """

    mark: Mark
    goes_on: bool
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def rule_of(relation: Relation, name: str) -> str:
    """The rule for a column.

    Raises:
        SourceRefused: there is none for its type.
    """
    column = relation.column(name)
    rule = _RULES.get(column.base)
    if rule is None:
        raise SourceRefused(
            "choose bounds",
            "--incremental",
            f"{name} is of type {column.type}, which does not tell what is new",
            "give a column that holds when the row was written (timestamptz or timestamp), the transaction that wrote it "
            "(xid8), or a number from a sequence",
        )
    if rule == SEQUENCE and relation.is_query:
        raise SourceRefused(
            "choose bounds",
            "--incremental",
            f"{name} is a number, and what is new by it can only be told of the rows of a table",
            "give the table with --table and --where, or a column that holds when the row was written",
        )
    return rule


async def begin(
    connection: Connection, keyset: Keyset, name: str, kept: Mapping[str, Any], lag: float | None, *, goes_on: bool
) -> Begun:
    """Pin the bounds of a run, or take those of the one that it goes on from.

    `kept` is the mark of the last checkpoint: of a run that is to be gone on with (`goes_on`), or of one that is finished.

    Raises:
        SourceRefused: what the server shows is not enough for bounds that miss nothing.
        StateRefused: the mark is of no use.
    """
    relation, former = keyset.relation, Mark.of(kept)
    column, rule = relation.column(name), rule_of(relation, name)
    server = await look_at(connection)
    notices: list[str] = []
    if former is not None and (lost := _lost(former, server)) is not None:
        notices.append(f"{lost}, and rows that were read may be lost there: all rows are read again")
        former = None
    if former is not None:
        _check_former(relation, column, rule, former, server)
    if lag is not None and rule != TIME:
        raise SourceRefused(
            "choose bounds",
            "--lag",
            f"{name} is of type {column.type}, and a lag is a time",
            "leave it out: what may still be committed is told without it",
        )
    origin = await look_up_origin(connection, keyset, column, rule, lag)
    changed = None if former is None else origin.changed(former.storage)
    if changed is not None and rule != SEQUENCE:
        notices.append(f"{changed} was emptied, rewritten or made anew since the last run: all rows are read again")
        former = None
    if goes_on and former is not None:
        if former.since is not None and server.upcoming - int(former.since) > 1 << 30:
            former = replace(former, since=None)
        return Begun(former, goes_on=True)
    if rule == TIME:
        pinned = await pin_time(connection, relation, column, former, server, lag)
    elif rule == XID:
        pinned = await pin_xid(connection, column, former, server)
    else:
        pinned = await pin_sequence(
            connection, relation, column, former, server, is_local=origin.is_local, is_same=changed is None
        )
    mark = replace(pinned.mark, storage=origin.storage)
    notices += [*pinned.notices, *await _never_read(connection, keyset, column, rule, is_first=former is None)]
    return Begun(mark, goes_on=False, notices=tuple(notices), remarks=(*_remarks(mark), *pinned.remarks))


def _remarks(mark: Mark) -> tuple[str, ...]:
    """What there is to say of a run that begins, where all is well."""
    name, since = mark.column, mark.lo is not None or mark.since is not None
    if since:
        return (f"reads what is new since the last run{f', from {name} = {mark.lo}' if mark.lo is not None else ''}",)
    if mark.rule == SEQUENCE:
        return (f"by {name} only new rows are found: for changed ones give a column that each update sets",)
    return ()


def guard(mark: Mark, label: str) -> Callable[[Connection], Awaitable[None]] | None:
    """What looks, before each page, whether the server that answers has all rows below the bounds; None if it cannot tell.

    A connection that was lost may come back to another server, a standby that is behind among them.
    """
    if mark.lsn is None:
        return None

    async def check(connection: Connection) -> None:
        (row,) = await connection.fetch(_REACHED, mark.lsn)
        if row["standby"] and not row["reached"]:
            raise ServerFault("read", label, "this standby does not have all rows yet that the run is to read")
        if not row["standby"] and (not row["reached"] or row["timeline"] != mark.timeline):
            raise ReadingBroken(
                "go on",
                label,
                "another server has taken over, and may have lost rows of those that the run is to read",
                "run the same command again: it begins its bounds anew",
            )

    return check


def _lost(former: Mark, server: Server) -> str | None:
    """Why the server may have lost what the last run met; None where it has not, or does not say."""
    if None not in (former.timeline, server.timeline) and former.timeline != server.timeline:
        return f"another server has taken over since the last run (timeline {former.timeline} became {server.timeline})"
    if not server.standby and former.lsn and server.lsn and _place(server.lsn) < _place(former.lsn):
        return f"the server's log ends at {server.lsn}, before {former.lsn}, where it was at the last run"
    return None


def _place(lsn: str) -> int:
    """A place in the log as a number (https://www.postgresql.org/docs/current/datatype-pg-lsn.html)."""
    high, _, low = lsn.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def _check_former(relation: Relation, column: Column, rule: str, former: Mark, server: Server) -> None:
    reason = None
    latest = former.hi if former.rule == XID else former.xmin
    if (former.column, former.rule) != (column.name, rule):
        reason = f"the last run read by {former.column} as {former.rule}, and this one by {column.name} as {rule}"
    elif latest is not None and not server.standby and server.upcoming < int(latest):
        reason = (
            f"the server's next transaction is {server.upcoming}, and the last run met {latest}: it is another cluster"
        )
    if reason is not None:
        raise SourceRefused("go on", relation.label, reason, "read all rows anew with --restart")


async def _never_read(
    connection: Connection, keyset: Keyset, column: Column, rule: str, *, is_first: bool
) -> tuple[str, ...]:
    """What there is to say of rows that have no place in the column's order, or one that never comes.

    Where it takes long to find out whether there are any, that is said by the first run alone.
    """
    nullable = not column.not_null and all(column.name not in key for key in keyset.relation.unique_keys)
    if not nullable and rule != TIME:
        return ()
    values = [value for value, there in (("NULL", nullable), ("infinity", rule == TIME)) if there]
    if not await _is_quick(connection, keyset, column):
        return (
            (f"rows that have NULL in {column.name}, if there are any, are never read",)
            if nullable and is_first
            else ()
        )
    name, notices = f"{quote(keyset.relation.alias)}.{quote(column.name)}", []
    for value in values:
        condition = f"{name} IS NULL" if value == "NULL" else f"{name} = 'infinity'"
        missing = replace(keyset, conditions=(*keyset.conditions, condition)).everything().sql
        ((number,),) = await connection.fetch(f"SELECT count(*) FROM ({missing} LIMIT {_COUNTED}) AS q")
        if number:
            least = "at least " if number == _COUNTED else ""
            notices.append(f"{least}{number:,} row{'s' * (number != 1)} with {value} in {column.name}: never read")
    return tuple(notices)


async def _is_quick(connection: Connection, keyset: Keyset, column: Column) -> bool:
    """Whether rows with one value of the column are found without reading many others."""
    if keyset.relation.is_query:
        return False
    if keyset.key.columns[0].name == column.name or await is_indexed(connection, keyset.relation, column.name):
        return True
    rows = await connection.fetch(
        "SELECT reltuples::float8 FROM pg_class WHERE oid = to_regclass($1)", keyset.relation.sql
    )
    return bool(rows) and 0 < rows[0][0] <= _SCANNED
