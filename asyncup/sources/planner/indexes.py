"""What the catalogue says of the indexes of a table that could give its rows in the order of a key, and why some do not.

Source: https://www.postgresql.org/docs/current/catalog-pg-index.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from asyncup.sources.keyset import Keyset

#: Bits of `indoption`.
_DESC, _NULLS_FIRST = 1, 2

_INDEXES = """
SELECT format('%I.%I', n.nspname, x.relname) AS name, m.amname AS method, i.indisvalid AND i.indisready AS valid,
       pg_get_expr(i.indpred, i.indrelid) AS predicate, i.indoption::text AS options,
       array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns,
       array(SELECT coalesce(a.attcollation = l.oid, true)
             FROM unnest(i.indkey::int2[], i.indcollation::oid[]) WITH ORDINALITY k(number, oid, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             LEFT JOIN pg_collation l ON l.oid = k.oid WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS collated,
       array(SELECT o.opcdefault FROM unnest(i.indclass::oid[]) WITH ORDINALITY k(oid, place)
             JOIN pg_opclass o ON o.oid = k.oid ORDER BY k.place) AS usual
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_namespace n ON n.oid = x.relnamespace
JOIN pg_am m ON m.oid = x.relam
WHERE i.indrelid = to_regclass($1) ORDER BY i.indexrelid
"""

_MEND = """
SELECT format('CREATE INDEX %sON %s (%s);', CASE WHEN c.relkind = 'p' THEN '' ELSE 'CONCURRENTLY ' END, $1::text,
              (SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
               FROM unnest($2::text[]) WITH ORDINALITY k(name, place)))
FROM pg_class c WHERE c.oid = to_regclass($1::text) AND c.relkind IN ('r', 'p', 'm')
"""


class Connection(Protocol):
    """The part of a connection that is used here."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class Indexes:
    """The indexes of one table, as far as a key is concerned.

    Attributes:
        null_orders: where NULLs stand in indexes that have the key's columns in one direction, and elsewhere than
            `ORDER BY a, b` has them: True for a column with NULLs first.
        near_miss: an index over the key's columns that does not serve, and why; the end of a sentence, or empty.
        mend: the `CREATE INDEX` that would serve; None for a view, which has none.
    """

    null_orders: tuple[tuple[bool, ...], ...]
    near_miss: str
    mend: str | None


async def look_up(connection: Connection, keyset: Keyset) -> Indexes:
    """The indexes of a table that begin with the columns of its key."""
    names = [column.name for column in keyset.key.columns]
    orders: dict[tuple[bool, ...], None] = {}
    near_miss = ""
    for index in await connection.fetch(_INDEXES, keyset.relation.sql):
        if index["columns"][: len(names)] != names:
            continue
        options = [int(option) for option in index["options"].split()][: len(names)]
        why = _why_not(index, options, len(names))
        if why is None or index["predicate"] is not None:
            backward = bool(options[0] & _DESC)
            orders[tuple(bool(option & _NULLS_FIRST) != backward for option in options)] = None
        if why is not None:
            near_miss = near_miss or f"; index {index['name']} does not, since {why}"
    ((mend,),) = await connection.fetch(_MEND, keyset.relation.sql, names) or ((None,),)
    orders.pop((False,) * len(names), None)
    return Indexes(tuple(orders), near_miss, mend)


def _why_not(index: Any, options: Sequence[int], columns: int) -> str | None:
    """Why an index over the key's columns does not give rows in the key's order; None where it should."""
    if index["method"] != "btree":
        return f"an index of type {index['method']} has no order"
    if not index["valid"]:
        return f"it is not valid: making it has failed or has not ended (REINDEX INDEX CONCURRENTLY {index['name']};)"
    if len({option & _DESC for option in options}) > 1:
        return "some of its columns are ascending and others descending"
    if not all(index["collated"][:columns]):
        return "it has another collation than the column"
    if not all(index["usual"][:columns]):
        return "it has another operator class than the type's own"
    if index["predicate"] is not None:
        return f"it has only the rows WHERE {index['predicate']}"
    return None
