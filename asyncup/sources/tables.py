"""Which tables a database has, and what an object could be made of in each.

Sizes and rows are what the catalogue has noted; nothing is counted. Sources:
https://www.postgresql.org/docs/current/catalog-pg-class.html (`reltuples`, -1 for never analysed),
https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-DBSIZE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from asyncup.errors import SourceRefused
from asyncup.model import Column
from asyncup.names import quote, written
from asyncup.sources.catalog import resolve_table
from asyncup.sources.connection.session import Session
from asyncup.sources.keyset import Relation, choose_key

#: Types whose values may be an object by themselves.
BODIES = ("bytea", "text", "varchar", "json", "jsonb", "xml")
#: Rows that are looked at for the sizes of such values; their bytes are not read.
_SAMPLE = 50

# a table that is locked, or about to be, is let be: its size waits for the lock, and so does pg_partition_tree;
# of what an extension brought along nobody wants objects; a partition is read through its parent
_TABLES = """
WITH RECURSIVE locked(oid) AS (
    SELECT relation FROM pg_locks WHERE relation IS NOT NULL AND mode = 'AccessExclusiveLock'),
part(root, oid) AS (
    SELECT oid, oid FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition AND relpersistence <> 't'
    UNION ALL SELECT part.root, i.inhrelid
    FROM part JOIN pg_class p ON p.oid = part.oid AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = p.oid),
noted AS (
    SELECT part.root,
           CASE WHEN bool_and(l.reltuples >= 0) FILTER (WHERE l.relkind <> 'p')
                THEN (sum(l.reltuples) FILTER (WHERE l.relkind <> 'p'))::int8 END AS rows,
           sum(CASE WHEN l.oid NOT IN (SELECT oid FROM locked) THEN pg_table_size(l.oid) END)::int8 AS bytes,
           bool_or(l.oid IN (SELECT oid FROM locked)) AS locked
    FROM part JOIN pg_class l ON l.oid = part.oid
    WHERE l.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) GROUP BY part.root)
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       pg_table_is_visible(c.oid) AS visible, format('%I.%I', n.nspname, c.relname) AS sql,
       has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS readable,
       noted.rows, noted.bytes, noted.locked
FROM noted JOIN pg_class c ON c.oid = noted.root JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname <> 'pg_toast'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY noted.bytes DESC NULLS LAST, n.nspname, c.relname
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view. `name` is as SQL writes it, with its schema where that is needed; `rows` None: never analysed."""

    name: str
    schema: str
    bare: str
    sql: str
    kind: str
    readable: bool
    rows: int | None
    bytes: int
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows of a table lie: its key, its columns, and how long values are which may be objects, in bytes on average."""

    key: tuple[str, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    columns: tuple[Column, ...]
    lengths: dict[str, float]


async def list_tables(session: Session) -> list[Table]:
    """Every table and view that is somebody's own, the largest first.

    Raises:
        AsyncupError: no answer.
    """

    async def look(connection: Any) -> list[Table]:
        return [
            Table(
                written(row["name"]) if row["visible"] else f"{written(row['schema'])}.{written(row['name'])}",
                row["schema"],
                row["name"],
                row["sql"],
                row["kind"],
                row["readable"],
                row["rows"],
                row["bytes"] or 0,
                row["locked"],
            )
            for row in await connection.fetch(_TABLES)
        ]

    return await session.run(look, "list", "tables")


async def look_at_table(session: Session, table: Table) -> Layout:
    """How the rows of a table lie.

    Raises:
        SourceRefused: it cannot be read, or nothing tells its rows apart.
        AsyncupError: no answer.
    """
    if not table.readable:
        raise SourceRefused(
            "look at",
            table.name,
            "the role may not read it",
            f"GRANT SELECT ON {table.sql} TO it, and USAGE on its schema",
        )
    if table.locked:
        raise SourceRefused("look at", table.name, "another session has it locked", "look again when that has ended")

    async def look(connection: Any) -> Layout:
        relation = await resolve_table(connection, table.sql)
        if relation.is_query:
            raise SourceRefused(
                "choose key",
                table.name,
                "a view or a foreign table has no primary key",
                "name the columns that tell its rows apart as its key",
            )
        key = choose_key(relation, None)
        names = tuple(column.name for column in key.columns)
        lengths = await _lengths(connection, relation, names)
        return Layout(names, relation.unique_keys, relation.columns, lengths)

    return await session.run(look, "look at", table.name)


async def _lengths(connection: Any, relation: Relation, key: tuple[str, ...]) -> dict[str, float]:
    names = [column.name for column in relation.columns if column.base in BODIES and column.name not in key]
    if not names:
        return {}
    # neither function fetches a value that is stored beside its row
    texts = {column.name for column in relation.columns if column.base in ("bytea", "text", "varchar")}
    wanted = ", ".join(
        f"avg({'octet_length' if name in texts else 'pg_column_size'}({quote(name)}))::float8" for name in names
    )
    (row,) = await connection.fetch(f"SELECT {wanted} FROM (SELECT * FROM {relation.sql} LIMIT {_SAMPLE}) AS sampled")
    return {name: length or 0.0 for name, length in zip(names, tuple(row), strict=True)}
