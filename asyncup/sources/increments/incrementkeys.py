"""By which key an incremental run pages through what is new: along its column where an index serves that.

So an index that comes or goes gives another key, and a job that has left something by the former one goes on by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from asyncup.errors import SourceRefused
from asyncup.sources.increments.horizons import Connection, is_of_sequence
from asyncup.sources.keyset import KeyChoice, Keyset, Relation, choose_key
from asyncup.sources.planner.access import Access
from asyncup.sources.planner.explain import judge

_NUMBERS = ("int2", "int4", "int8")
_BEGINS_WITH = """
SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = to_regclass($1) AND a.attname = $2 AND m.amname = 'btree' AND i.indisvalid AND i.indpred IS NULL LIMIT 1
"""


async def by_column(
    connection: Connection, keyset: Keyset, access: Access, column: str, rows: int | None
) -> tuple[Keyset, Access, tuple[str, ...]]:
    """The keyset that reads along the column where an index serves that, else the one that is given, and a notice."""
    if keyset.relation.is_query:
        return keyset, access, ()
    along, better = await judge(connection, _keyed(keyset, column, (column,)), rows)
    if better.paged:
        return along, better, ()
    if await is_indexed(connection, keyset.relation, column):
        return keyset, access, ()  # the planner finds the rows by it, and sorts those few
    if keyset.relation.column(column).base in _NUMBERS and not await is_of_sequence(
        connection, keyset.relation, column
    ):
        return keyset, access, ()  # they are looked through whatever indexes there are, as the bounds say
    advice = f": {better.mend}" if better.mend else ""
    return (
        keyset,
        access,
        (f"each run looks through all rows for what is new by {column}; an index would spare it{advice}",),
    )


async def is_indexed(connection: Connection, relation: Relation, column: str) -> bool:
    """Whether a table has an index by which rows with some values of the column are found."""
    return bool(await connection.fetch(_BEGINS_WITH, relation.sql, column))


async def by_former_key(
    connection: Connection, keyset: Keyset, column: str, names: Sequence[str], rows: int | None, *, allow_sort: bool
) -> tuple[Keyset, Access]:
    """The keyset of a table that reads by the key of the runs before.

    Raises:
        SourceRefused: rows cannot be read by it any more.
    """
    relation, label = keyset.relation, ", ".join(names)
    if not set(names) <= set(relation.names):
        raise SourceRefused(
            "choose key",
            relation.label,
            f"the checkpoint is of runs by the key ({label}), and not all of these columns are there any more",
            "start over with --restart",
        )
    former, access = await judge(connection, _keyed(keyset, column, names), rows)
    if [one.name for one in former.key.columns] != list(names):
        raise SourceRefused(
            "choose key",
            relation.label,
            f"the checkpoint is of runs by the key ({label}), and no unique index tells rows apart by it any more",
            "make that index again, or start over with --restart",
        )
    if not access.paged and not allow_sort:
        raise SourceRefused(
            "choose key",
            relation.label,
            f"{access.reason}, by which earlier runs have left dead letters",
            f"{access.mend or ''} or add --allow-sort: each page sorts what is new; or start over with --restart".strip(),
        )
    return former, access


def _keyed(keyset: Keyset, column: str, names: Sequence[str]) -> Keyset:
    """A table's keyset with another key; the bounds of `column` leave NULL out."""
    bounded = replace(keyset.relation.column(column), not_null=True)
    chosen = choose_key(keyset.relation, names)
    key = KeyChoice(tuple(bounded if one.name == column else one for one in chosen.columns), proven=True)
    return replace(keyset, key=key, nulls_first=(), alone=0)


def check_paged(relation: Relation, access: Access) -> None:
    """Refuse what does not come page by page: it would keep no checkpoint, and so no bound to go on from.

    Raises:
        SourceRefused: with the reason.
    """
    if not access.paged:
        raise SourceRefused(
            "choose key",
            relation.label,
            f"{access.reason}, so its pages come from no index, and an incremental run is read page by page",
            "give --allow-sort: each page reads or sorts all rows behind it then; or a --key that an index serves",
        )
