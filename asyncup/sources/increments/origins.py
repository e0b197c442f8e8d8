"""Where rows come from: what bounds of this server's transactions say nothing of.

Rows may come from elsewhere, later than their column says: a foreign table has the transactions of another server, a
materialized view shows rows when it is refreshed, and a table that is replicated logically gets them when they arrive
(https://www.postgresql.org/docs/current/catalog-pg-subscription-rel.html). And a table that was emptied or made anew may
have other rows, of any age. It has another file then, as it has when it was only rewritten
(https://www.postgresql.org/docs/current/storage-file-layout.html).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from asyncup.errors import SourceRefused
from asyncup.model import Column
from asyncup.names import quote, written
from asyncup.sources.increments.horizons import SEQUENCES, Connection
from asyncup.sources.increments.mark import SEQUENCE, TIME, XID
from asyncup.sources.keyset import Keyset

_ORIGINS = """
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       CASE c.relkind WHEN 'f' THEN 'is on another server' WHEN 'm' THEN 'gets its rows when it is refreshed'
            ELSE 'gets its rows by logical replication' END AS origin, c.relkind = 'm' AS refreshed
FROM unnest($1::text[], $2::text[]) AS t(schema, name) JOIN pg_namespace n ON n.nspname = t.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
WHERE c.relkind IN ('f', 'm') OR EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid) LIMIT 1
"""


# A refresh gives a materialized view another file each time, and its rows with it.
_FILES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.oid::text || '/' || coalesce(pg_relation_filenode(c.oid), 0) AS file
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S')
"""
_TABLE_FILES = f"""
WITH RECURSIVE tables(id) AS (
    SELECT to_regclass($1)::oid UNION SELECT i.inhrelid FROM pg_inherits i JOIN tables t ON i.inhparent = t.id)
{_FILES} AND c.oid IN (SELECT id FROM tables)
"""
_SEQUENCE_FILES = f"{_FILES} AND c.oid IN ({SEQUENCES})"
_QUERY_FILES = f"{_FILES} AND (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from.

    Attributes:
        is_local: whether all are written by transactions of this server; else they may come at any time.
        storage: see `Mark`.
    """

    is_local: bool
    storage: dict[str, str]

    def changed(self, former: Mapping[str, str]) -> str | None:
        """A table that has another file than it had; None where all that were there have theirs.

        A partition that is new has rows that are new.
        """
        return next((name for name, file in former.items() if self.storage.get(name, file) != file), None)


async def look_up_origin(
    connection: Connection, keyset: Keyset, column: Column, rule: str, lag: float | None
) -> Origin:
    """Where the rows come from. It is asked for before bounds are pinned: what changes later is seen by the next run.

    Raises:
        SourceRefused: bounds by this column would miss rows.
    """
    relation = keyset.relation
    plan = await connection.fetch(f"EXPLAIN (VERBOSE, FORMAT JSON) {keyset.everything().sql}")
    places = dict.fromkeys(_relations(json.loads(plan[0][0])[0]["Plan"]))
    schemas, names = zip(*places, strict=True) if places else ((), ())
    rows = await connection.fetch(_ORIGINS, schemas, names)
    for row in rows:
        if rule == XID or (rule == TIME and lag is None):
            way = "give a column that holds when the row was written, and --lag: longer than rows may take to come"
            if row["refreshed"]:
                way = "read with --query what it is made of"
                way += "" if rule == XID else "; or give --lag: longer than from one refresh to the end of the next"
            raise SourceRefused(
                "choose bounds",
                relation.label,
                f"{row['name']} {row['origin']}, so rows may come later than {column.name} says",
                way,
            )
    if rule == XID:
        await _check_ids(connection, keyset, column)
    if relation.is_query:
        files = await connection.fetch(_QUERY_FILES, schemas, names)
    else:
        files = await connection.fetch(_TABLE_FILES, relation.sql)
    storage = {row["name"]: row["file"] for row in files}
    if rule == SEQUENCE:  # one by another name is another one
        numbers = await connection.fetch(_SEQUENCE_FILES, relation.sql, column.name)
        storage["sequence"] = " ".join(sorted(row["file"] for row in numbers))
    return Origin(not rows, storage)


async def _check_ids(connection: Connection, keyset: Keyset, column: Column) -> None:
    """Refuse ids that this server has not given to any transaction: those of a cluster that a dump was taken of."""
    name = f"{quote(keyset.relation.alias)}.{quote(column.name)}"
    conditions = (*keyset.conditions, f"{name} >= (SELECT pg_snapshot_xmax(pg_current_snapshot()))")
    if await connection.fetch(replace(keyset, conditions=conditions).everything().sql + "\nLIMIT 1"):
        plain = written(column.name)
        raise SourceRefused(
            "choose bounds",
            keyset.relation.label,
            f"some rows have ids in {column.name} that no transaction of this server has had, so they would not be read",
            f"they are from another cluster: UPDATE {keyset.relation.sql} SET {plain} = pg_current_xact_id() "
            f"WHERE {plain} >= pg_snapshot_xmax(pg_current_snapshot());",
        )


def _relations(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The relations that a plan reads, by schema and name."""
    if "Relation Name" in node:
        yield node.get("Schema", ""), node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from _relations(child)
