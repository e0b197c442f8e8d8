"""Asks the server how it would read a page, and judges: does a page cost what a page costs, or what all rows do?

The planner alone knows what serves: validity of an index, its predicate, collation, operator class and direction, and
what of a query a condition reaches. It is asked for the first page and for one behind a key that it does not know, with
sorts and scans made expensive, so that it uses an index wherever one serves; on a small table it would not. Those settings
end with a savepoint, before anything else is read
(https://www.postgresql.org/docs/current/runtime-config-query.html#RUNTIME-CONFIG-QUERY-ENABLE).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from asyncup.errors import SourceRefused
from asyncup.model import Key
from asyncup.names import written
from asyncup.sources.keyset import Keyset, Relation
from asyncup.sources.planner.access import Access
from asyncup.sources.planner.indexes import Indexes, look_up
from asyncup.sources.planner.plannodes import Node, of_pages, reading

#: A relation of at most so many bytes may be read whole for each page, beside the one that is paged.
SMALL = 1 << 20

_DISCOURAGED = "; ".join(
    f"SET LOCAL enable_{kind} = off"
    for kind in ("seqscan", "bitmapscan", "sort", "incremental_sort", "hashjoin", "mergejoin", "hashagg")
)
#: Rows of the page that the planner is asked for.
_ROWS = 1000
#: A key as an argument; one that comes out of a subselect is not known to the planner.
_KNOWN = re.compile(r"(\$\d+)::text::")

_LARGE = """
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN unnest($1::text[], $2::text[]) AS t(schema, name) ON n.nspname = t.schema AND c.relname = t.name
WHERE pg_relation_size(c.oid) > $3::int ORDER BY c.oid
"""


class Connection(Protocol):
    """The part of a connection that is used here."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...

    async def execute(self, query: str) -> Any: ...


async def judge(connection: Connection, keyset: Keyset, rows: int | None) -> tuple[Keyset, Access]:
    """How the pages of a relation are read, and its keyset as an index serves it: in its order of NULLs, or by its columns.

    `rows` is the planner's estimate of all rows. Nothing is read but the catalogue.

    Raises:
        Exception: whatever the driver raises for SQL that the server refuses.
    """
    is_named = not keyset.relation.sql.startswith("(")
    indexes = await look_up(connection, keyset) if is_named else None
    access = await _judged(connection, keyset, indexes)
    others = (
        []
        if indexes is None or keyset.relation.is_query
        else [replace(keyset, nulls_first=order) for order in indexes.null_orders]
    )
    others += [replace(keyset, alone=keyset.by_itself)] if keyset.by_itself else []
    for other in others if not access.paged else ():
        better = await _judged(connection, other, indexes)
        if better.paged:
            keyset, access = other, better
            break
    return keyset, replace(access, rows=rows)


def refusal(relation: Relation, key: Sequence[str], access: Access) -> SourceRefused:
    """The refusal of a table whose pages no index gives."""
    other = next(
        (
            f"--key {','.join(written(name) for name in key[:length])}, which tells the rows apart by itself"
            for length in range(1, len(key))
            if any(set(unique) == set(key[:length]) for unique in relation.unique_keys)
        ),
        "another --key",
    )
    first = access.mend or "see to it that an index serves what --where looks up, or leave it out;"
    return SourceRefused(
        "choose key",
        relation.label,
        f"{access.reason}, so each page would {'sort' if access.sorts else 'read'} all rows behind it anew",
        f"{first} or give {other}; or, where it is small, add --allow-sort",
    )


async def _judged(connection: Connection, keyset: Keyset, indexes: Indexes | None) -> Access:
    phases = []
    for phase, nulls in enumerate(keyset.phases):
        some = tuple(None if null else "" for null in nulls)
        first = await _plan(connection, keyset, phase, None)
        phases.append(of_pages(reading(first), reading(await _plan(connection, keyset, phase, some))))
    served = tuple(dict.fromkeys(name for page in phases for name in page.indexes))
    beside = await _large(connection, [place for page in phases for place in page.beside])
    if not beside and not any(page.is_whole for page in phases):
        return Access(indexes=served)
    sorts = any(page.sorts for page in phases)
    shapes = [shape for page in phases for shape in page.shapes]
    if keyset.relation.is_query and shapes:
        reason = shapes[0]
    elif any(page.is_whole for page in phases):
        order = ", ".join(written(column.name) for column in keyset.key.columns)
        reason = f"no index gives its rows in the order of the key ({order})"
        if keyset.relation.is_query:
            found = [cause for page in phases for cause in page.causes]
            reason = found[0] if found else f"the server finds no index to read it in the order of the key ({order})"
            indexes = None if found else indexes
        reason += indexes.near_miss if indexes is not None else ""
    else:
        reason, indexes = f"all of {beside[0]} is read for each page", None
    return Access(
        indexes=() if sorts else served,
        sorts=sorts,
        scans=bool(shapes or beside) or any(page.scans for page in phases),
        reason=reason,
        mend=indexes.mend if indexes is not None else None,
    )


async def _plan(connection: Connection, keyset: Keyset, phase: int, after: Key | None) -> Node:
    statement = keyset.page(phase, after, _ROWS, 0)
    sql = _KNOWN.sub(r"(SELECT \1::text)::", statement.sql)
    await connection.execute(f"SAVEPOINT asyncup; {_DISCOURAGED}; SET LOCAL max_parallel_workers_per_gather = 0")
    rows = await connection.fetch(f"EXPLAIN (VERBOSE, FORMAT JSON) {sql}", *statement.arguments)
    await connection.execute("ROLLBACK TO SAVEPOINT asyncup; RELEASE SAVEPOINT asyncup")
    plan: Node = json.loads(rows[0][0])[0]["Plan"]
    return plan


async def _large(connection: Connection, relations: Sequence[tuple[str, str]]) -> list[str]:
    """Those relations that are too large to be read whole for each page."""
    if not relations:
        return []
    schemas, names = zip(*dict.fromkeys(relations), strict=True)
    found = await connection.fetch(_LARGE, schemas, names, SMALL)
    return [f"{written(row['schema'])}.{written(row['name'])}" for row in found]
