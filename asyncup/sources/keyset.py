"""Keyset pagination as SQL: pure text building, no connection.

A key never becomes a Python value. Columns are selected as `k::text`, the text is what a checkpoint keeps, and it
comes back as `$1::text::type`, so only the server ever compares keys, in the column's own collation, and the index
condition survives. Composite keys use row comparison
(https://www.postgresql.org/docs/current/functions-comparisons.html#ROW-WISE-COMPARISON).

A nullable key column is never compared with NULL: the rows are read in phases, one for each combination of columns
that are NULL, each phase paged by the columns that are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from asyncup.errors import SourceRefused
from asyncup.model import Column, Key
from asyncup.names import quote

#: More nullable key columns than this would make too many phases.
MAX_NULLABLE = 3

#: The row at the cursor, read once more; a row with the same key as the one before it.
AGAIN, TWICE = 1, 2


@dataclass(frozen=True, slots=True)
class Relation:
    """What can be read: a table, a view or a query, as the catalogue describes it.

    Attributes:
        label: its name for people, and for the job.
        sql: what stands behind FROM.
        alias: the name by which `--where` may call it.
        columns: all columns, in order.
        unique_keys: column names of each unique, complete, NOT NULL index; the primary key first.
        is_query: True when its uniqueness cannot be looked up.
        database: the database it lives in, and the identifier of its cluster where the role may see that.
    """

    label: str
    sql: str
    alias: str
    columns: tuple[Column, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    is_query: bool
    database: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """The pagination key: `columns` in order; `proven` when an index guarantees that no two rows share one."""

    columns: tuple[Column, ...]
    proven: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL and its arguments, all of them text; a tuple is an array."""

    sql: str
    arguments: tuple[str | int | Key, ...] = ()


def choose_key(relation: Relation, requested: Sequence[str] | None) -> KeyChoice:
    """The pagination key: the primary key, or the requested one, made unique.

    A requested key that no unique index covers gets the columns of one that does behind it, so that ties are never
    lost at the border of a page.

    Raises:
        SourceRefused: there is no key, or none that makes rows distinct.
    """
    if requested is None:
        if not relation.unique_keys:
            raise SourceRefused(
                "choose key",
                relation.label,
                "it has no primary key and no unique index over NOT NULL columns, so its rows cannot be told apart",
                f"add one (ALTER TABLE {relation.sql} ADD PRIMARY KEY …), or use --query with --key",
            )
        return KeyChoice(tuple(relation.column(name) for name in relation.unique_keys[0]), proven=True)
    names = list(dict.fromkeys(requested))
    if relation.is_query:
        return KeyChoice(tuple(relation.column(name) for name in names), proven=False)
    if not any(set(unique) <= set(names) for unique in relation.unique_keys):
        if not relation.unique_keys:
            raise SourceRefused(
                "choose key",
                relation.label,
                f"nothing tells rows with the same {', '.join(names)} apart: there is no primary key and no unique "
                "index over NOT NULL columns",
                f"add one (ALTER TABLE {relation.sql} ADD PRIMARY KEY …)",
            )
        names += [name for name in relation.unique_keys[0] if name not in names]
    columns = tuple(relation.column(name) for name in names)
    nullable = [column.name for column in columns if not column.not_null]
    if len(nullable) > MAX_NULLABLE:
        raise SourceRefused(
            "choose key",
            relation.label,
            f"{len(nullable)} of its key columns may be NULL ({', '.join(nullable)}); at most {MAX_NULLABLE} can",
            "give a --key of NOT NULL columns",
        )
    return KeyChoice(columns, proven=True)


@dataclass(frozen=True, slots=True)
class Keyset:
    """The statements that page through one relation.

    `columns` are the columns that templates need, `body` is the body's column, None for the whole row as JSON.
    `conditions` are SQL that every row has to meet, each fit to stand in brackets (`embeddable`).
    """

    relation: Relation
    key: KeyChoice
    columns: tuple[Column, ...]
    body: str | None
    conditions: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[tuple[bool, ...], ...]:
        """The NULL patterns of the key in reading order: True where the column is NULL."""
        return tuple(
            itertools.product(
                *((False, True) if self.key.proven and not column.not_null else (False,) for column in self.key.columns)
            )
        )

    def phase_of(self, key: Key) -> int:
        """The phase in which the row with that key is read."""
        return self.phases.index(tuple(part is None for part in key))

    def page(self, phase: int, after: Key | None, limit: int, inline: int) -> Statement:
        """The next `limit` rows of a phase behind `after`, with bodies of up to `inline` bytes.

        Each row is: the key's texts, the columns' texts, the body's size, the body. Where no index proves the key
        unique, the row at `after` is read once more, so that a second row with the same key does not fall between two
        pages, and a column before the size flags it (`AGAIN`), or a row whose key is that of the row before (`TWICE`).

        Bodies are cut off outside of the subquery, so that each is made once and a `bytea` that is too large is
        never fetched from TOAST; LIMIT is a literal, since a generic plan would guess it.
        """
        nulls = self.phases[phase]
        pairs = list(zip(self.key.columns, nulls, strict=True))
        present = [column for column, null in pairs if not null]
        arguments: list[str | int] = [inline]
        conditions = [f"{self._column(column.name)} IS NULL" for column, null in pairs if null]
        if self.key.proven:
            conditions += [f"{self._column(column.name)} IS NOT NULL" for column in present if not column.not_null]
        left, right = ", ".join(self._column(column.name) for column in present), ""
        if after is not None:
            right = ", ".join(f"${number}::text::{column.type}" for number, column in enumerate(present, 2))
            conditions.append(f"({left}) {'>' if self.key.proven else '>='} ({right})")
            arguments += [part for part in after if part is not None]
        conditions += self._conditions()
        inner = self._selected()
        outer, window = [f"p.{name.rpartition(' AS ')[2]}" for name in inner], ""
        if not self.key.proven:
            inner += [f"{self._column(column.name)} AS v{n}" for n, column in enumerate(present)]
            flag, window = _repeated(len(present), right)
            outer.append(flag)
        inner.append(f"{self._body()} AS body")
        return Statement(
            f"SELECT {', '.join(outer)}, octet_length(p.body), "
            "CASE WHEN octet_length(p.body) <= $1::int THEN p.body END\n"
            f"FROM (SELECT {', '.join(inner)}\nFROM {self.relation.sql} AS {quote(self.relation.alias)}"
            + (f"\nWHERE {' AND '.join(conditions)}" if conditions else "")
            + f"\nORDER BY {left}\nLIMIT {limit}) AS p{window}",
            tuple(arguments),
        )

    def chosen(self, keys: Sequence[Key], inline: int) -> Statement:
        """The rows that have one of those keys, in the order of `keys`, with bodies of up to `inline` bytes.

        Each row is as `page` gives it, but for the column before the size: the place of its key in `keys`, from 1.
        The keys come as one array for each column, so that any number of them is one statement. The relation and its
        condition stand by themselves in brackets, where no name of ours can be taken for one of theirs; what follows
        OFFSET 0 is done with the rows that were found, whichever way the planner joins.
        """
        alias = quote(self.relation.alias)
        given = "given" if self.relation.alias != "given" else "given_"
        places = range(len(self.key.columns))
        conditions = [
            f"{self._column(column.name)} {'=' if column.not_null or not self.key.proven else 'IS NOT DISTINCT FROM'} "
            f"{given}.k{n}::{column.type}"
            for n, column in enumerate(self.key.columns)
        ]
        keys_given = [f"{given}.k{n}" for n in places]
        columns = [f"{self._column(column.name)}::text AS c{n}" for n, column in enumerate(self.columns)]
        outer = [f"p.k{n}" for n in places] + [f"p.c{n}" for n in range(len(columns))]
        where = f"\nWHERE {' AND '.join(self._conditions())}" if self.conditions else ""
        return Statement(
            f"SELECT {', '.join(outer)}, p.place, octet_length(p.body), "
            "CASE WHEN octet_length(p.body) <= $1::int THEN p.body END\n"
            f"FROM (SELECT {', '.join([*keys_given, *columns])}, {given}.place, {self._body()} AS body\n"
            f"FROM unnest({', '.join(f'${n}::text[]' for n in range(2, len(places) + 2))}) WITH ORDINALITY "
            f"AS {given}({', '.join(f'k{n}' for n in places)}, place)\n"
            f"JOIN (SELECT * FROM {self.relation.sql} AS {alias}{where}) AS {alias} ON {' AND '.join(conditions)}\n"
            "OFFSET 0) AS p\nORDER BY p.place",
            (inline, *zip(*keys, strict=True)),
        )

    def one_body(self, key: Key) -> Statement:
        """The body of the row with that key."""
        conditions, arguments = [], []
        for column, part in zip(self.key.columns, key, strict=True):
            if part is None:
                conditions.append(f"{self._column(column.name)} IS NULL")
            else:
                arguments.append(part)
                conditions.append(f"{self._column(column.name)} = ${len(arguments)}::text::{column.type}")
        conditions += self._conditions()
        return Statement(
            f"SELECT {self._body()}\nFROM {self.relation.sql} AS {quote(self.relation.alias)}\n"
            f"WHERE {' AND '.join(conditions)}",
            tuple(arguments),
        )

    def null_keys(self) -> Statement:
        """One row if any key column of the relation is NULL; for relations whose key is not proven."""
        conditions = " OR ".join(f"{self._column(column.name)} IS NULL" for column in self.key.columns)
        return Statement(
            f"SELECT 1 FROM {self.relation.sql} AS {quote(self.relation.alias)}\n"
            f"WHERE {' AND '.join([f'({conditions})', *self._conditions()])}\nLIMIT 1"
        )

    def everything(self) -> Statement:
        """All rows without a limit, to ask the planner how many there are."""
        where = f"\nWHERE {' AND '.join(self._conditions())}" if self.conditions else ""
        return Statement(f"SELECT 1 FROM {self.relation.sql} AS {quote(self.relation.alias)}{where}")

    def behind(self, after: Key) -> Statement | None:
        """All rows behind a key, for the same purpose; None where the key is read in several phases."""
        if len(self.phases) > 1:
            return None
        everything = self.everything().sql
        left = ", ".join(self._column(column.name) for column in self.key.columns)
        right = ", ".join(f"${number}::text::{column.type}" for number, column in enumerate(self.key.columns, 1))
        joint = "AND" if self.conditions else "WHERE"
        return Statement(f"{everything}\n{joint} ({left}) > ({right})", tuple(part or "" for part in after))

    def _conditions(self) -> list[str]:
        return [f"(\n{condition}\n)" for condition in self.conditions]

    def _column(self, name: str) -> str:
        return f"{quote(self.relation.alias)}.{quote(name)}"

    def _selected(self) -> list[str]:
        keys = [f"{self._column(column.name)}::text AS k{n}" for n, column in enumerate(self.key.columns)]
        return keys + [f"{self._column(column.name)}::text AS c{n}" for n, column in enumerate(self.columns)]

    def _body(self) -> str:
        """The body as bytes, so that the client never decodes and encodes text."""
        if self.body is None:
            return f"convert_to(row_to_json({quote(self.relation.alias)}.*)::text, 'UTF8')"
        column = self.relation.column(self.body)
        if column.base == "bytea":
            return self._column(self.body)
        return f"convert_to({self._column(self.body)}::text, 'UTF8')"


def _repeated(columns: int, cursor: str) -> tuple[str, str]:
    """The flag of a row whose key was read before (0 for others), and the window that it looks through.

    The window stands outside of LIMIT, so that it sees one page and leaves the server its way of finding that page.
    """
    key = [f"p.v{n}" for n in range(columns)]
    before = ", ".join(f"lag({value}) OVER w" for value in key)
    again = f" WHEN ({', '.join(key)}) = ({cursor}) THEN {AGAIN}" if cursor else ""
    flag = f"CASE WHEN ({', '.join(key)}) = ({before}) THEN {TWICE}{again} ELSE 0 END"
    return flag, f"\nWINDOW w AS (ORDER BY {', '.join(key)})"
