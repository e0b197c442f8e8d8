"""Splitting a table: into ranges that readers take side by side, and into shards for several machines.

Ranges are half-open, the first and the last without a bound, so that together they hold every key there is or will be;
that a bound is badly chosen only makes one of them longer. Bounds are texts of keys, as the server gave them: from the
planner's histogram where the key is one column (https://www.postgresql.org/docs/current/view-pg-stats.html), else from a
sample of the table's blocks (https://www.postgresql.org/docs/current/sql-select.html, TABLESAMPLE).

A shard is a hash of the key's text modulo the number of shards. Nothing has to be agreed upon for that: every machine
that is given the same key and number comes to the same answer, whatever is written to the table meanwhile. The price is
that every shard's server walks along the whole index, and gives each row to one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

from asyncup.model import Column, Key, Range, Reach
from asyncup.names import quote
from asyncup.sources.keyset import Keyset

#: Ranges for each reader: who is done takes another one, so that long ones hold up the end by little.
RANGES_PER_READER = 8
#: A range is worth its statements from about so many rows on.
LEAST_ROWS = 1000
#: Rows of a sample for each range.
_SAMPLED = 200
#: Classes of errors after which one range is better than none: data that do not fit, statements that do not, a timeout.
_CANNOT = ("22", "42", "0A", "57014")

#: More partitions than this are read through their parent: a checkpoint holds a line for each.
MOST_LEAVES = 1000

# reltuples is as old as the last ANALYZE; the pages are counted now
_SIZE = """
SELECT c.relkind::text AS kind, c.relpages AS pages_then, c.reltuples::float8 AS rows_then,
       CASE WHEN c.relkind = 'p' THEN 0 ELSE pg_relation_size(c.oid) / current_setting('block_size')::int END AS pages
FROM pg_class c WHERE c.oid = to_regclass($1)
"""

_HISTOGRAM = """
SELECT s.histogram_bounds::text::{type}[]::text[] AS bounds
FROM pg_stats s JOIN pg_namespace n ON n.nspname = s.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
WHERE c.oid = to_regclass($1) AND s.attname = $2 AND NOT s.inherited AND s.histogram_bounds IS NOT NULL
"""


class Connection(Protocol):
    """The part of a connection that is used here."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...

    async def execute(self, query: str) -> Any: ...


async def divide(connection: Connection, keyset: Keyset, readers: int, rows: int | None) -> tuple[Reach, ...]:
    """The ranges of a table for so many readers; none where it is better read as a whole.

    A partitioned table is divided by its partitions, and those further. `rows` is the estimate of all rows.
    """
    leaves: Sequence[int | None] = (None,)
    if readers > 1 and len(keyset.relation.leaves) <= MOST_LEAVES and all(keyset.relation.leaves.values()):
        leaves = tuple(keyset.relation.leaves) or (None,)
    wanted = -(-RANGES_PER_READER * readers // len(leaves)) if readers > 1 else 1
    if rows is not None:
        wanted = min(wanted, max(1, rows // len(leaves) // LEAST_ROWS))
    if wanted == 1 and leaves == (None,):
        return ()
    found: list[Range] = []
    for leaf in leaves:
        bounds = await _bounds(connection, keyset.within(leaf), wanted) if wanted > 1 else []
        nulls = False if bounds else None
        found += [Range(lower, upper, nulls, leaf) for lower, upper in itertools.pairwise([None, *bounds, None])]
        if bounds and len(keyset.phases) > 1:
            found.append(Range(nulls=True, leaf=leaf))
    return tuple(map(Reach, found)) if len(found) > 1 else ()


async def _bounds(connection: Connection, keyset: Keyset, wanted: int) -> list[Key]:
    """Keys that cut a table or a partition into `wanted` ranges of about the same length, or into fewer."""
    sql, columns = keyset.relation.sql, keyset.key.columns
    (size,) = await connection.fetch(_SIZE, sql)
    if size["kind"] not in ("r", "m"):
        return []
    if len(columns) == 1:
        for row in await _tried(connection, _HISTOGRAM.format(type=columns[0].type), sql, columns[0].name):
            texts = row["bounds"]
            places = sorted({len(texts) * number // wanted for number in range(1, wanted)} - {0})
            return [(texts[place],) for place in places]
    if not size["pages"]:
        return []
    a_page = size["rows_then"] / size["pages_then"] if size["pages_then"] and size["rows_then"] > 0 else 10
    percent = min(100.0, 100 * wanted * _SAMPLED / (a_page * size["pages"]))
    return [tuple(row) for row in await _tried(connection, _sample(keyset, percent, wanted))]


async def _tried(connection: Connection, statement: str, *arguments: Any) -> Sequence[Any]:
    """What a statement gives; nothing where the server cannot make it: without bounds there are fewer ranges."""
    await connection.execute("SAVEPOINT bounds")
    try:
        found = await connection.fetch(statement, *arguments)
    except Exception as exc:
        if not str(getattr(exc, "sqlstate", None)).startswith(_CANNOT):
            raise
        await connection.execute("ROLLBACK TO SAVEPOINT bounds")
        return []
    await connection.execute("RELEASE SAVEPOINT bounds")
    return found


def _sample(keyset: Keyset, percent: float, wanted: int) -> str:
    """Keys at equal distances in a sample of the blocks."""
    alias = quote(keyset.relation.alias)
    columns = [f"{alias}.{quote(column.name)}" for column in keyset.key.columns]
    names = [f"k{number}" for number in range(len(columns))]
    return (
        f"SELECT {', '.join(f'{name}::text' for name in names)} FROM (\n"
        f"SELECT {', '.join(names)}, row_number() OVER (ORDER BY {', '.join(names)}) AS n, count(*) OVER () AS c FROM (\n"
        f"SELECT {', '.join(f'{column} AS {name}' for column, name in zip(columns, names, strict=True))}\n"
        f"FROM {keyset.relation.sql} AS {alias} TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE (1)\n"
        f"WHERE {' AND '.join(f'{column} IS NOT NULL' for column in columns)}) AS s) AS t\n"
        f"WHERE c >= {wanted} AND n > 1 AND (n - 1) * {wanted} / c > (n - 2) * {wanted} / c ORDER BY n"
    )


def shard_condition(alias: str, key: Sequence[Column], shard: tuple[int, int]) -> str:
    """The condition that a row is in a shard, `(number, of how many)`, numbers from 0.

    It stands in a CASE, of which the planner expects every second row: of a bare comparison it expects one in two hundred,
    and would rather sort the whole table for each page than walk so far along the index.
    """
    number, count = shard
    hashed = "0"
    for column in key:
        # names of objects depend on who looks: https://www.postgresql.org/docs/current/datatype-oid.html
        cast = "::oid::text" if column.base.startswith("reg") else "::text"
        text = f"coalesce({quote(alias)}.{quote(column.name)}{cast}, '') COLLATE \"C\""
        hashed = f"hashtextextended({text}, {hashed})"
    return f"CASE WHEN ({hashed} & {(1 << 63) - 1}) % {count} = {number} THEN true ELSE false END"
