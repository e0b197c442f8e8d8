"""How far everything is settled that a column can have: asked of the server before an incremental run reads.

- `xid8`: below `pg_snapshot_xmin` every transaction has ended
  (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT). Right on a standby too.
- A timestamp is not older than the transaction that writes it, so the bound is the oldest `xact_start`
  (https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW). Of a prepared transaction
  nobody knows it: the run reads on, and the next one begins where nothing of that transaction can be missed.
- A sequence hands out numbers in order, each to a transaction that is open then (`pg_locks`, which every role may read).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from asyncup.errors import SourceRefused
from asyncup.model import Column
from asyncup.names import quote, written
from asyncup.sources.increments.mark import Mark
from asyncup.sources.keyset import Relation

#: Seconds from reading the clock to looking who is open: a transaction has its time a moment before it shows.
SETTLE = 0.2
#: Seconds for which a transaction holds the bound back before somebody is told.
_LONG = 10.0
#: Beyond so many transactions since the last run, the ids of rows are not compared any more; half of what is safe.
_FAR = 1 << 30

_SERVER = """
SELECT pg_is_in_recovery() AS standby, current_user::text AS role, pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
       pg_snapshot_xmax(pg_current_snapshot())::text AS upcoming
"""
_PRIMARY = """
SELECT ('x' || substr(pg_walfile_name(place), 1, 8))::bit(32)::int AS timeline, place::text AS lsn
FROM pg_current_wal_insert_lsn() AS place
"""
_STANDBY = """
SELECT greatest(c.timeline_id, r.min_recovery_end_timeline) AS timeline, pg_last_wal_replay_lsn()::text AS lsn
FROM pg_control_checkpoint() c, pg_control_recovery() r
"""

# What changes no rows of a user's: https://www.postgresql.org/docs/current/monitoring-stats.html, backend_type
_WRITERS = """
a.datname = current_database() AND a.pid <> pg_backend_pid()
AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'walsender', 'walsummarizer', 'slotsync worker')
"""
_CLOCK = "SELECT (clock_timestamp() - make_interval(secs => $1::text::float8))::text AS instant"
# A standby that has nothing more to replay is as far as its primary was a moment ago; another one, as its last commit.
_STANDBY_CLOCK = """
SELECT (least(clock_timestamp(),
              CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver)
                   THEN NULL ELSE coalesce(pg_last_xact_replay_timestamp(), '-infinity') END)
        - make_interval(secs => $1::text::float8))::text AS instant
"""
_OLDEST = f"""
SELECT a.pid, a.usename::text AS role, a.xact_start::text AS began,
       least(a.xact_start, $1::text::timestamptz)::text AS instant,
       extract(epoch FROM $1::text::timestamptz - a.xact_start)::float8 AS seconds
FROM pg_stat_activity a WHERE a.xact_start IS NOT NULL AND {_WRITERS} ORDER BY a.xact_start LIMIT 1
"""
# A session that does not track its activity shows no start of its transaction.
_UNTRACKED = f"""
SELECT 'v' || l.virtualtransaction AS id FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND a.xact_start IS NULL AND {_WRITERS}
"""
_OPEN = """
SELECT 'v' || l.virtualtransaction AS id FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.granted AND l.pid <> pg_backend_pid()
AND (a.datname IS NULL OR a.datname = current_database())
"""
_PREPARED = """
SELECT 'p' || transaction::text || ' ' || prepared::text AS id FROM pg_prepared_xacts WHERE database = current_database()
"""
_UNIT = """
SELECT coalesce(nullif(a.atttypmod, -1), t.typtypmod) AS digits FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped
"""
# Each session has a time zone of its own, and west of this one is none
# (https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-TIMEZONE).
_ANYWHERE = "SELECT ($1::text::timestamptz AT TIME ZONE interval '-12:00')::{type}::text AS bound"
# Where clocks are put back an hour comes twice: the local time is the lowest that can still come.
_LOCAL = """
SELECT min(least(at AT TIME ZONE zone, at AT TIME ZONE 'UTC'))::{type}::text AS bound, min(zone) AS zone
FROM (SELECT reset_val AS zone FROM pg_settings WHERE name = 'TimeZone') z,
     (SELECT $1::text::timestamptz AS at UNION ALL
      SELECT date_trunc('hour', $1::text::timestamptz) + n * interval '15 minutes' FROM generate_series(1, 104) n) t
WHERE at >= $1::text::timestamptz
"""
# The sequences that are owned by a column, or that its default names.
SEQUENCES = """
SELECT d.objid AS sequence FROM pg_depend d, pg_attribute a
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
AND a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped
UNION
SELECT d.refobjid FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped
"""
# Numbers that a session or a program keeps for later, several at once, are in no order of transactions.
_TRUSTED = f"""
SELECT coalesce(bool_and(s.seqcache = 1 AND s.seqincrement = 1 AND NOT s.seqcycle), false) AS trusted
FROM pg_sequence s WHERE s.seqrelid IN ({SEQUENCES})
"""


class Connection(Protocol):
    """The part of a connection that is used here."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...

    async def execute(self, query: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Server:
    """The server that answers. `upcoming` is the next transaction id, of 64 bits; the rest is as in `Mark`."""

    standby: bool
    role: str
    sees_all: bool
    upcoming: int
    timeline: int | None
    lsn: str | None


@dataclass(frozen=True, slots=True)
class Pinned:
    """The bounds of a run, and what people should know of them; `remarks` are of what is as it should be."""

    mark: Mark
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


async def look_at(connection: Connection) -> Server:
    """Which server this is, and where it is in its history, as far as it says so to this role."""
    (row,) = await connection.fetch(_SERVER)
    timeline, lsn = None, None
    await connection.execute("SAVEPOINT asyncup")
    try:
        ((timeline, lsn),) = await connection.fetch(_STANDBY if row["standby"] else _PRIMARY)
    except Exception:  # noqa: BLE001 - refused, or not there: some clouds have neither; a lost connection fails below too
        timeline, lsn = None, None
    await connection.execute("ROLLBACK TO SAVEPOINT asyncup")
    return Server(row["standby"], row["role"], row["sees_all"], int(row["upcoming"]), timeline, lsn)


async def pin_xid(connection: Connection, column: Column, former: Mark | None, server: Server) -> Pinned:
    """Bounds for an `xid8` column: up to the oldest transaction that has not ended."""
    ((oldest,),) = await connection.fetch("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    lo = None if former is None else former.next
    hi = str(max(int(oldest), int(lo or 0)))  # a standby may be behind the one that was asked before
    return Pinned(_placed(Mark(column.name, "xid8", lo, hi, hi), server))


async def pin_time(
    connection: Connection, relation: Relation, column: Column, former: Mark | None, server: Server, lag: float | None
) -> Pinned:
    """Bounds for a timestamp: up to the beginning of the oldest transaction, and `lag` seconds ago.

    Raises:
        SourceRefused: the server does not show when transactions began, and there is no lag.
    """
    _check_sight(relation, column, server, lag)
    ((instant,),) = await connection.fetch(_STANDBY_CLOCK if server.standby else _CLOCK, str(lag or 0))
    notices, untracked = [], []
    if server.sees_all and not server.standby:
        await asyncio.sleep(max(0.0, SETTLE - (lag or 0)))
        for row in await connection.fetch(_OLDEST, instant):
            instant = row["instant"]
            if row["seconds"] > _LONG:
                notices.append(
                    f"a transaction of role {row['role']} (process {row['pid']}) is open since {row['began']}: rows of "
                    f"later times wait for the next run"
                )
        untracked = [row["id"] for row in await connection.fetch(_UNTRACKED)]
    bound, said, remarks = await _as_column(connection, relation, column, instant, zoned=lag is not None)
    lo = None if former is None else former.next
    ((hi,),) = await connection.fetch(
        f"SELECT greatest($1::text::{column.type}, $2::text::{column.type})::text", bound, lo
    )
    unknown = [] if server.standby else untracked + await _prepared(connection)
    known = {} if former is None else former.open
    unended = {transaction: known.get(transaction, lo) for transaction in unknown}
    if unended:
        notices.append(_held_back(unended))
    upcoming = hi
    if None in unended.values():
        upcoming = None
    elif unended:
        ((upcoming,),) = await connection.fetch(
            f"SELECT min(v::{column.type})::text FROM unnest($1::text[]) v", [hi, *unended.values()]
        )
    mark = Mark(column.name, "time", lo, hi, upcoming, unended)
    return Pinned(_placed(mark, server), (*notices, *said), remarks)


async def is_of_sequence(connection: Connection, relation: Relation, column: str) -> bool:
    """Whether a table's numbers come from a sequence that gives one at a time."""
    return bool((await connection.fetch(_TRUSTED, relation.sql, column))[0][0])


async def pin_sequence(
    connection: Connection,
    relation: Relation,
    column: Column,
    former: Mark | None,
    server: Server,
    *,
    is_local: bool,
    is_same: bool,
) -> Pinned:
    """Bounds for numbers of a sequence: up to the highest that can be seen, without what the last run could see.

    The snapshot is taken first and the open transactions are looked up behind it: whoever is not among them draws numbers
    above the highest, or has ended, and what it wrote is read by this run or told from its xmin by the next. Numbers up
    to the highest of the run before need not be looked at again once all have ended that were open then; unless numbers come
    otherwise than from such a sequence, as those do that are kept for later or (`is_local`) come from elsewhere, or begin
    anew: then (`is_same`) table and sequence are not those of the last run.
    """
    name = f"{quote(relation.alias)}.{quote(column.name)}"
    ((xmin, highest),) = await connection.fetch(
        f"SELECT pg_snapshot_xmin(pg_current_snapshot())::text, (SELECT max({name})::text "
        f"FROM {relation.sql} AS {quote(relation.alias)})"
    )
    trusted = is_local and await is_of_sequence(connection, relation, column.name)
    notices: list[str] = []
    lo = since = None
    if former is not None:
        since = former.xmin if server.upcoming - int(former.xmin or 0) < _FAR else None
        went_back = highest is not None and former.hi is not None and int(highest) < int(former.hi)
        is_same = is_same and not went_back
        lo = former.next if trusted and is_same else None
        highest = highest or former.hi
        if trusted and not is_same:
            notices.append(
                f"{relation.label} was emptied, rewritten or made anew since the last run, or its numbers begin anew, so "
                "this run looks through the whole table for rows that are new"
            )
    if not trusted:
        notices.append(
            f"{column.name} is not from a sequence that gives one number at a time, so each run looks through the whole "
            "table for rows that are new since the last one"
        )
    mark = Mark(column.name, "sequence", lo, highest, lo, {}, since, xmin, blind=server.standby)
    if not server.standby:
        running = [row["id"] for row in await connection.fetch(_OPEN)]
        before = None if former is None or not is_same else lo if former.blind else former.hi
        known = former.open if former is not None and is_same else {}
        unended = {transaction: known.get(transaction, before) for transaction in running}
        unended |= {transaction: known.get(transaction, lo) for transaction in await _prepared(connection)}
        settled = [highest if former is None else before, *unended.values()]
        upcoming = None
        if trusted and None not in settled:
            upcoming = str(min(int(value) for value in settled if value is not None))
        mark = replace(mark, next=upcoming, open=unended)
    return Pinned(_placed(mark, server), tuple(notices))


def _check_sight(relation: Relation, column: Column, server: Server, lag: float | None) -> None:
    if lag is not None or (server.sees_all and not server.standby):
        return
    if server.standby:
        raise SourceRefused(
            "pin the upper bound",
            relation.label,
            f"the server is a standby, which does not show the transactions that write {column.name}",
            "give --lag: longer than the longest transaction that writes, and than replication takes",
        )
    raise SourceRefused(
        "pin the upper bound",
        relation.label,
        f"role {server.role} does not see when the transactions of other roles began, so rows of {column.name} that are "
        "committed late would be missed",
        f"GRANT pg_read_all_stats TO {written(server.role)}; or give --lag: longer than the longest transaction that writes",
    )


async def _as_column(
    connection: Connection, relation: Relation, column: Column, instant: str, *, zoned: bool
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The instant as the column would have it, or less: nothing below it may still come. And the notices and remarks on it.

    `zoned`: somebody vouches that local times are in the server's time zone, or in UTC.
    """
    digits = None
    if not relation.sql.startswith("("):  # a name, not a query
        rows = await connection.fetch(_UNIT, relation.sql, column.name)
        digits = rows[0]["digits"] if rows else None
    unit = 10.0**-digits if digits is not None and 0 <= digits < 6 and column.base != "date" else 0.0
    if unit:  # values are rounded, and so may be below the beginning of their transaction
        ((instant,),) = await connection.fetch(
            "SELECT ($1::text::timestamptz - make_interval(secs => $2::text::float8))::text", instant, str(unit)
        )
    if column.base == "timestamptz":
        return instant, (), ()
    if zoned:
        ((bound, zone),) = await connection.fetch(_LOCAL.format(type=column.type), instant)
        zones = zone if zone in ("UTC", "Etc/UTC", "GMT") else f"{zone} or UTC"
        remark = f"{column.name} has no time zone: with --lag its values are taken for {zones}"
    else:
        ((bound,),) = await connection.fetch(_ANYWHERE.format(type=column.type), instant)
        remark = f"{column.name} has no time zone: its values are taken for any, down to UTC-12"
    if column.base == "date":
        return bound, (), (f"{remark}; rows of today wait until the day is over",)
    if zoned:
        return bound, (), (remark,)
    notice = (
        f"{remark}, so rows of the last hours wait; a timestamptz column does away with it, or --lag, by which you say that "
        "all writers have the server's time zone or UTC"
    )
    return bound, (notice,), ()


async def _prepared(connection: Connection) -> list[str]:
    return [row["id"] for row in await connection.fetch(_PREPARED)]


def _held_back(unended: dict[str, str | None]) -> str:
    number = len(unended)
    return (
        f"of {number} open transaction{'s' * (number != 1)} the server does not say when it began (prepared, or not tracked): "
        "the next run reads again what this one reads"
    )


def _placed(mark: Mark, server: Server) -> Mark:
    return replace(mark, timeline=server.timeline, lsn=server.lsn)
