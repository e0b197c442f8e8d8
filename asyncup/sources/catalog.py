"""What the catalogue says of a table or a query: its columns, their types, its unique keys.

Names are resolved by the server to an oid and everything after that goes by the oid, so that no name is taken for
another (`to_regclass`: https://www.postgresql.org/docs/current/functions-info.html).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Protocol

from asyncup.errors import SourceRefused
from asyncup.model import Column
from asyncup.names import written
from asyncup.sources.keyset import Relation
from asyncup.sources.usersql import embeddable

_KINDS = {
    "i": "an index",
    "I": "an index",
    "S": "a sequence",
    "t": "a TOAST table",
    "c": "a composite type",
}

_RELATION = """
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       format('%I.%I', n.nspname, c.relname) AS sql,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) AS has_children
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1)
"""

# Types are those beneath domains: a row's key must be taken back even where the domain has come to refuse it, and a
# domain's own collation must not meet the column's. A NOT NULL constraint that was never validated (PostgreSQL 18)
# sets attnotnull while NULLs may be there.
_COLUMNS = """
WITH RECURSIVE types(oid, base, modifier) AS (
    SELECT oid, oid, NULL::int FROM pg_type WHERE typtype <> 'd'
    UNION ALL SELECT t.oid, types.base, coalesce(types.modifier, t.typtypmod)
    FROM pg_type t JOIN types ON t.typbasetype = types.oid WHERE t.typtype = 'd')
SELECT a.attnum AS number, a.attname AS name, format_type(b.oid, -1) AS type, b.typname AS base,
       coalesce(types.modifier, a.atttypmod) AS modifier,
       a.attcollation AS collation, coalesce(l.collisdeterministic, true) AS deterministic,
       a.attnotnull AND NOT EXISTS (
           SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'n'
           AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated) AS not_null
FROM pg_attribute a JOIN types ON types.oid = a.atttypid JOIN pg_type b ON b.oid = types.base
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_UNIQUE = """
SELECT indkey::text AS columns, indcollation::text AS collations, indnkeyatts AS count
FROM pg_index WHERE indrelid = $1 AND indisunique AND indisvalid AND indpred IS NULL
ORDER BY indisprimary DESC, indnkeyatts, indexrelid
"""

# A partition stands for itself where the role may read it, where row security would say no other thing than the parent's,
# and where its columns lie as the parent's do and are not computed in a way of its own, so that a row is the same text.
_LEAVES = """
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS sql,
       c.relkind IN ('r', 'f') AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
       AND NOT c.relrowsecurity
       AND (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
         = (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated <> 'v') AS readable
FROM pg_partition_tree($1::text::regclass) t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.isleaf ORDER BY c.relname, c.oid
"""

_TYPES = """
WITH RECURSIVE types(oid, base) AS (
    SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
    UNION ALL SELECT t.oid, types.base FROM pg_type t JOIN types ON t.typbasetype = types.oid WHERE t.typtype = 'd')
SELECT types.oid, format_type(b.oid, -1) AS type, b.typname AS base
FROM types JOIN pg_type b ON b.oid = types.base WHERE types.oid = ANY($1::oid[])
"""

_TABLES = """
SELECT c.relname AS name, n.nspname AS schema, pg_table_is_visible(c.oid) AS visible
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY visible, schema DESC, name DESC
"""

_STALE_DATABASE = """
SELECT datcollversion AS recorded, pg_database_collation_actual_version(oid) AS actual
FROM pg_database WHERE datname = current_database() AND datcollversion <> pg_database_collation_actual_version(oid)
"""

_COLLATIONS = """
SELECT a.attname AS name, l.oid = 'pg_catalog."default"'::regcollation AS is_database, l.collname AS collation,
       l.collversion AS recorded, pg_collation_actual_version(l.oid) AS actual
FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = to_regclass($1) AND a.attname = ANY($2::text[])
"""


class Connection(Protocol):
    """The part of a connection that is used here."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...

    async def prepare(self, query: str) -> Any: ...


async def resolve_table(connection: Connection, name: str) -> Relation:
    """Look a table or view up by its name as SQL writes it.

    Raises:
        SourceRefused: there is none of that name, or it is nothing that can be read row by row.
    """
    found = await connection.fetch(_RELATION, name)
    if not found:
        hint = await _nearest_table(connection, name)
        raise SourceRefused("resolve table", name, f"there is no table {name}", hint)
    (table,) = found
    label = f"{written(table['schema'])}.{written(table['name'])}"
    if table["kind"] in _KINDS:
        hint = await _nearest_table(connection, name)
        raise SourceRefused("resolve table", label, f"it is {_KINDS[table['kind']]}, not a table", hint)
    if table["has_children"]:
        raise SourceRefused(
            "resolve table",
            label,
            "other tables inherit from it, so its primary key does not tell all its rows apart",
            "copy it and its children one by one: --query 'select * from only …' with --key",
        )
    columns = await connection.fetch(_COLUMNS, table["oid"])
    is_table = table["kind"] in ("r", "p")
    unique_keys, nullable_keys = await _unique_keys(connection, table["oid"], columns) if is_table else ((), ())
    return Relation(
        label=label,
        sql=table["sql"],
        alias=table["name"],
        columns=tuple(
            Column(row["name"], row["type"], row["base"], is_table and row["not_null"], row["modifier"])
            for row in columns
        ),
        unique_keys=unique_keys,
        is_query=not is_table,
        database=await _database(connection),
        leaves=await leaves_of(connection, table["sql"]) if table["kind"] == "p" else {},
        nullable_keys=nullable_keys,
    )


async def leaves_of(connection: Connection, sql: str) -> dict[int, str | None]:
    """The partitions of a partitioned table: see `Relation.leaves`."""
    found = await connection.fetch(_LEAVES, sql)
    return {leaf["oid"]: leaf["sql"] if leaf["readable"] else None for leaf in found}


async def _nearest_table(connection: Connection, name: str) -> str:
    """A hint: the table or view that was probably meant, or those that there are, as SQL writes them."""
    shown: dict[str, str] = {}
    for row in await connection.fetch(_TABLES):
        bare, whole = written(row["name"]), f"{written(row['schema'])}.{written(row['name'])}"
        shown[whole.lower()] = shown[bare.lower()] = bare if row["visible"] else whole
    near = difflib.get_close_matches(name.lower(), shown, n=1, cutoff=0.5)
    if near:
        return f"did you mean {shown[near[0]]}?"
    names = sorted(set(shown.values()))
    return f"there are: {', '.join(names[:20])}{', …' if len(names) > 20 else ''}" if names else "there are none"


async def _unique_keys(
    connection: Connection, oid: int, columns: Sequence[Any]
) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """The unique indexes whose columns are plain, and unique in the columns' own collations: those NOT NULL, and others."""
    by_number = {row["number"]: row for row in columns}
    keys: tuple[list[tuple[str, ...]], list[tuple[str, ...]]] = ([], [])
    for index in await connection.fetch(_UNIQUE, oid):
        numbers = [int(number) for number in index["columns"].split()][: index["count"]]
        collations = [int(collation) for collation in index["collations"].split()]
        members = [by_number.get(number) for number in numbers]
        if all(
            member is not None and (member["deterministic"] or member["collation"] == collation)
            for member, collation in zip(members, collations, strict=False)
        ):
            found = [member for member in members if member is not None]
            is_nullable = not all(member["not_null"] for member in found)
            keys[is_nullable].append(tuple(member["name"] for member in found))
    return tuple(keys[False]), tuple(keys[True])


async def resolve_query(connection: Connection, query: str, label: str) -> Relation:
    """Find out the columns of a query by preparing it; nothing is read.

    Raises:
        SourceRefused: it would not stay within brackets, or is no SELECT.
        Exception: whatever the driver raises for SQL that the server refuses.
    """
    query = embeddable(query, "--query")
    sql = f"(\n{query}\n)"
    await connection.prepare(query)  # by itself first, so that the server points at the mistake and not at our brackets
    try:
        statement = await connection.prepare(f"SELECT * FROM {sql} AS q")
    except Exception as exc:
        if getattr(exc, "sqlstate", None) != "42601":  # syntax error
            raise
        raise SourceRefused(
            "resolve query", label, "it gives no rows that can be read in pages", "--query takes one SELECT"
        ) from exc
    attributes = statement.get_attributes()
    types = {
        row["oid"]: row for row in await connection.fetch(_TYPES, [attribute.type.oid for attribute in attributes])
    }
    return Relation(
        label=label,
        sql=sql,
        alias="q",
        columns=tuple(
            Column(attribute.name, types[attribute.type.oid]["type"], types[attribute.type.oid]["base"])
            for attribute in attributes
        ),
        unique_keys=(),
        is_query=True,
        database=await _database(connection),
    )


async def _database(connection: Connection) -> str:
    """The database's name, and what tells its cluster and the replicas of it from any other where the role may ask.

    Source: https://www.postgresql.org/docs/current/functions-info.html, `pg_control_system`.
    """
    (row,) = await connection.fetch(
        "SELECT current_database() AS name, has_function_privilege('pg_control_system()', 'EXECUTE') AS allowed"
    )
    if not row["allowed"]:
        return str(row["name"])
    (cluster,) = await connection.fetch("SELECT system_identifier::text AS identity FROM pg_control_system()")
    return f"{row['name']} of cluster {cluster['identity']}"


async def stale_collations(
    connection: Connection, version: int, relation: Relation, key: Sequence[Column]
) -> list[str]:
    """Warnings for collations whose library has changed under the indexes that were built with it.

    Such an index may not find all rows (https://www.postgresql.org/docs/current/sql-altercollation.html).
    """
    texts = [column.name for column in key if column.base in ("text", "varchar", "bpchar", "citext", "name")]
    if not texts:
        return []
    collations = [] if relation.is_query else await connection.fetch(_COLLATIONS, relation.sql, texts)
    stale = []
    if version >= 15 and (relation.is_query or any(row["is_database"] for row in collations)):
        stale += [
            f"the database's collation was {row['recorded']} when its indexes were built and is {row['actual']} now"
            for row in await connection.fetch(_STALE_DATABASE)
        ]
    stale += [
        f"collation {row['collation']} of column {row['name']} was {row['recorded']} when its index was built and "
        f"is {row['actual']} now"
        for row in collations
        if None not in (row["recorded"], row["actual"]) and row["recorded"] != row["actual"]
    ]
    return [f"{reason}; an index may not find every row until it is rebuilt (REINDEX)" for reason in stale]
