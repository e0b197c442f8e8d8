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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from asyncup.errors import SourceRefused
from asyncup.model import WHOLE, Column, Key, Range
from asyncup.names import quote
from asyncup.sources.bodies import Body

#: More nullable key columns than this would make too many phases.
MAX_NULLABLE = 3

#: Of a composite value IS NULL and IS NOT NULL ask each field, so that one with some NULLs is neither; an index serves
#: these as well. Source: https://www.postgresql.org/docs/current/functions-comparison.html
_NULL, _SET = "IS NOT DISTINCT FROM NULL", "IS DISTINCT FROM NULL"

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
        nullable_keys: the same of unique indexes over columns that may be NULL: they tell apart rows without NULLs there.
        is_query: True when its uniqueness cannot be looked up.
        database: the database it lives in, and the identifier of its cluster where the role may see that.
        leaves: the partitions of a partitioned table by oid, with the name of each as SQL writes it; None where it cannot be
            read by itself.
    """

    label: str
    sql: str
    alias: str
    columns: tuple[Column, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    is_query: bool
    database: str
    leaves: Mapping[int, str | None] = field(default_factory=dict)
    nullable_keys: tuple[tuple[str, ...], ...] = ()

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


def several(label: str, key: Key) -> SourceRefused:
    """The refusal of a key that several rows have."""
    return SourceRefused(
        "read",
        label,
        f"several rows have the key ({', '.join(str(part) for part in key)}); one would overwrite or hide another",
        "give a --key whose columns together are different for every row",
    )


def null_in_key(relation: Relation, key: KeyChoice) -> SourceRefused:
    """The refusal of a key that is NULL in some rows, where no index says in which."""
    return SourceRefused(
        "choose key",
        relation.label,
        f"some rows have NULL in the key ({', '.join(column.name for column in key.columns)}); they would never be read",
        "give a --key that is never NULL, or leave those rows out with --where",
    )


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
    `conditions` are SQL that every row has to meet, each fit to stand in brackets (`embeddable`);
    `shard` is one more, of which the planner's estimates know nothing. `nulls_first` says for
    each key column whether the index that serves has NULLs first; no phase has both, so the order stays the same. Neither
    does `alone` change it: so many columns at the key's beginning have a unique index of their own, so the rows of a phase
    without NULLs there are paged by them, and those of others by their columns that are not NULL.
    `utf8` says that the database's texts are in UTF-8; `large_object` that the body is the large object whose oid its column holds; `unread`, that bodies are not looked
    at, and all deferred.
    """

    relation: Relation
    key: KeyChoice
    columns: tuple[Column, ...]
    body: str | None
    conditions: tuple[str, ...] = ()
    shard: str | None = None
    nulls_first: tuple[bool, ...] = ()
    large_object: bool = False
    unread: bool = False
    utf8: bool = False
    alone: int = 0

    @property
    def phases(self) -> tuple[tuple[bool, ...], ...]:
        """The NULL patterns of the key in reading order: True where the column is NULL."""
        return tuple(
            itertools.product(
                *((False, True) if self.key.proven and not column.not_null else (False,) for column in self.key.columns)
            )
        )

    @property
    def by_itself(self) -> int:
        """How many columns at the key's beginning have a unique index of their own, though they may be NULL; 0 where none."""
        names = [column.name for column in self.key.columns]
        unique = self.relation.nullable_keys
        return next((len(key) for key in unique if set(key) == set(names[: len(key)]) and len(key) < len(names)), 0)

    def phase_of(self, key: Key) -> int:
        """The phase in which the row with that key is read."""
        return self.phases.index(tuple(part is None for part in key))

    def within(self, leaf: int | None) -> Keyset:
        """The same for one partition, through its parent where it cannot be read by itself; None for all of the relation."""
        if leaf is None:
            return self
        sql = self.relation.leaves.get(leaf)
        if sql is None:
            return replace(self, conditions=(*self.conditions, f"{quote(self.relation.alias)}.tableoid = {leaf}"))
        return replace(self, relation=replace(self.relation, sql=sql))

    def page(self, phase: int, after: Key | None, limit: int, inline: int, part: Range = WHOLE) -> Statement:
        """The next `limit` rows of a phase behind `after` and within the bounds of `part`, bodies of `inline` bytes at most.

        Each row is: the key's texts, the columns' texts, the body's size, the body. Where no index proves the key
        unique, the row at `after` is read once more, so that a second row with the same key does not fall between two
        pages, and a column before the size flags it (`AGAIN`), or a row whose key is that of the row before (`TWICE`).

        Bodies are cut off outside of the subquery, so that each is made once and a `bytea` that is too large is
        never fetched from TOAST; LIMIT is a literal, since a generic plan would guess it.
        """
        nulls = self.phases[phase]
        pairs = list(zip(self.key.columns, nulls, strict=True))
        paged = self._paged(nulls)
        present = [column for column, is_paged in zip(self.key.columns, paged, strict=True) if is_paged]
        arguments: list[str | int] = [inline]

        def given(key: Key) -> str:
            """A key, given as arguments."""
            casts = []
            for column, text in zip(present, itertools.compress(key, paged), strict=True):
                assert text is not None  # noqa: S101 - such columns are of other phases
                arguments.append(text)
                casts.append(_given(len(arguments), column))
            return ", ".join(casts)

        conditions = [f"{self._column(column.name)} {_NULL}" for column, null in pairs if null]
        if self.key.proven:
            conditions += [
                f"{self._column(column.name)} {_SET}" for column, null in pairs if not (null or column.not_null)
            ]
        left, right = ", ".join(self._column(column.name) for column in present), ""
        if after is not None:
            right = given(after)
            conditions.append(f"({left}) {'>' if self.key.proven else '>='} ({right})")
        elif part.lower is not None:
            conditions.append(f"({left}) >= ({given(part.lower)})")
        if part.upper is not None:
            conditions.append(f"({left}) < ({given(part.upper)})")
        conditions += self._conditions()
        inner = self._selected()
        outer, window = [f"p.{name.rpartition(' AS ')[2]}" for name in inner], ""
        if not self.key.proven:
            inner += [f"{self._column(column.name)} AS v{n}" for n, column in enumerate(present)]
            flag, window = _repeated(len(present), right)
            outer.append(flag)
        # the row at the cursor may be one whose body cannot be made
        behind = f"({left}) > ({right})" if right and not self.key.proven else None
        inner.append(self._body.selected(unread=self.unread, where=behind))
        return Statement(
            f"SELECT {', '.join(outer)}, {self._body.cut(unread=self.unread)}\n"
            f"FROM (SELECT {', '.join(inner)}\nFROM {self.relation.sql} AS {quote(self.relation.alias)}"
            + (f"\nWHERE {' AND '.join(conditions)}" if conditions else "")
            + f"\nORDER BY {self._order(paged)}\nLIMIT {limit}) AS p{window}",
            tuple(arguments),
        )

    def at_once(self, limit: int | None, piece: int) -> Statement:
        """All rows in key order, for a relation whose key is not proven; each row as pieces of its body, from the first.

        Each piece is as a row of `page`, but for the column before the size: 0 or `TWICE` for the first piece of a body, and
        minus its number, from 1, for those behind it. `piece` is how many bytes each has at most. Rows with NULL in the
        key come before all others. What the relation gives is asked for once: it may be another thing each time. Only its
        own columns are sorted; bodies are made behind that, one at a time, whole in the server's memory, where a piece
        costs no more than its bytes.
        """
        alias, inner = quote(self.relation.alias), "whole" if self.relation.alias != "whole" else "whole_"
        flag = "asyncup_twice"
        while flag in self.relation.names:
            flag += "_"
        key = [self._column(column.name) for column in self.key.columns]
        order = f"({' OR '.join(f'{column} {_NULL}' for column in key)}) DESC, {', '.join(key)}"
        before = ", ".join(f"lag({column}) OVER w" for column in key)
        where = self._where()
        ordered = (
            f"SELECT {alias}.*, CASE WHEN ({', '.join(key)}) = ({before}) THEN {TWICE} ELSE 0 END AS {flag}\n"
            f"FROM {self.relation.sql} AS {alias}{where}\nWINDOW w AS (ORDER BY {order})\nORDER BY {order}\n"
            + (f"LIMIT {limit}" if limit is not None else "OFFSET 0")
        )
        texts, body, source = self._selected(), self._body.whole, f"({ordered}) AS {alias}"
        if self.body is None:
            names = ", ".join(self._column(name) for name in self.relation.names)
            source += f"\nCROSS JOIN LATERAL (SELECT {names}) AS {inner}"
            body = f"convert_to(row_to_json({inner}.*)::text, 'UTF8')"
        made = (
            f"SELECT {', '.join(texts)}, {alias}.{flag} AS twice, {body} || ''::bytea AS body\nFROM {source}\nOFFSET 0"
        )
        outer = ", ".join(f"p.{text.rpartition(' AS ')[2]}" for text in texts)
        return Statement(
            f"SELECT {outer}, CASE WHEN g.n = 0 THEN p.twice ELSE -g.n END, octet_length(p.body), "
            f"substring(p.body, g.n * {piece} + 1, {piece})\nFROM ({made}) AS p\n"
            f"CROSS JOIN LATERAL generate_series(0, coalesce((octet_length(p.body) - 1) / {piece}, 0)) AS g(n)"
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
        where = self._where()
        return Statement(
            f"SELECT {', '.join(outer)}, p.place, {self._body.cut(unread=self.unread)}\n"
            f"FROM (SELECT {', '.join([*keys_given, *columns])}, {given}.place, {self._body.selected(unread=self.unread)}\n"
            f"FROM unnest({', '.join(f'${n}::text[]' for n in range(2, len(places) + 2))}) WITH ORDINALITY "
            f"AS {given}({', '.join(f'k{n}' for n in places)}, place)\n"
            f"JOIN (SELECT * FROM {self.relation.sql} AS {alias}{where}) AS {alias} ON {' AND '.join(conditions)}\n"
            "OFFSET 0) AS p\nORDER BY p.place",
            (inline, *zip(*keys, strict=True)),
        )

    def sampled(self, share: float, most: int) -> Statement:
        """The keys of rows in a random `share` of a table's blocks (a percentage), in key order; the same ones every time.

        Source: https://www.postgresql.org/docs/current/sql-select.html, `TABLESAMPLE`.
        """
        where = self._where()
        columns = [self._column(column.name) for column in self.key.columns]
        return Statement(
            f"SELECT {', '.join(f'{column}::text' for column in columns)}\n"
            f"FROM {self.relation.sql} AS {quote(self.relation.alias)} TABLESAMPLE SYSTEM ({share:.10f}) REPEATABLE (0)"
            f"{where}\nORDER BY {', '.join(columns)}\nLIMIT {most}"
        )

    def one_body(self, key: Key) -> Statement:
        """The body of the row with that key."""
        source, arguments = self._one(key)
        return Statement(f"SELECT {self._body.whole}\nFROM {source}", arguments)

    def slices(self, key: Key, length: int) -> Statement:
        """The size of that body and a slice of it in each row, in order; no row where there is no body."""
        source, arguments = self._one(key)
        return Statement(self._body.slices(source, length), arguments)

    def without_bodies(self) -> Keyset:
        """The same, with pages on which every body is deferred, and none looked at."""
        return replace(self, unread=True)

    def _one(self, key: Key) -> tuple[str, tuple[str, ...]]:
        """What stands behind FROM for the row with that key, and the arguments."""
        conditions, arguments = [], []
        for column, part in zip(self.key.columns, key, strict=True):
            if part is None:
                conditions.append(f"{self._column(column.name)} {_NULL}")
            else:
                arguments.append(part)
                conditions.append(f"{self._column(column.name)} = {_given(len(arguments), column)}")
        conditions += self._conditions()
        alias = quote(self.relation.alias)
        return f"{self.relation.sql} AS {alias}\nWHERE {' AND '.join(conditions)}", tuple(arguments)

    def null_keys(self) -> Statement:
        """One row if any key column of the relation is NULL; for relations whose key is not proven."""
        conditions = " OR ".join(f"{self._column(column.name)} {_NULL}" for column in self.key.columns)
        return Statement(
            f"SELECT 1 FROM {self.relation.sql} AS {quote(self.relation.alias)}\n"
            f"WHERE {' AND '.join([f'({conditions})', *self._conditions()])}\nLIMIT 1"
        )

    def everything(self) -> Statement:
        """All rows of all shards without a limit, to ask the planner how many there are."""
        where = replace(self, shard=None)._where()  # noqa: SLF001 - of the same kind
        return Statement(f"SELECT 1 FROM {self.relation.sql} AS {quote(self.relation.alias)}{where}")

    def behind(self, after: Key) -> Statement | None:
        """All rows behind a key, for the same purpose; None where the key is read in several phases."""
        if len(self.phases) > 1:
            return None
        everything = self.everything().sql
        left = ", ".join(self._column(column.name) for column in self.key.columns)
        right = ", ".join(_given(number, column) for number, column in enumerate(self.key.columns, 1))
        joint = "AND" if self.conditions else "WHERE"
        return Statement(f"{everything}\n{joint} ({left}) > ({right})", tuple(part or "" for part in after))

    def _paged(self, nulls: Sequence[bool]) -> tuple[bool, ...]:
        """Which columns of the key tell the rows of a phase apart, and so are those by which it is paged."""
        if self.alone and not any(nulls[: self.alone]):
            return tuple(place < self.alone for place in range(len(nulls)))
        return tuple(not null for null in nulls)

    def _order(self, paged: Sequence[bool]) -> str:
        """All columns of the key, those too that are NULL in a phase: without them an index has another order.

        But for the indexes of `alone`: those have the order of what is `paged`.
        """
        first = self.nulls_first or (False,) * len(self.key.columns)
        return ", ".join(
            self._column(column.name) + " NULLS FIRST" * null
            for column, null, is_paged in zip(self.key.columns, first, paged, strict=True)
            if is_paged or not self.alone
        )

    def _conditions(self) -> list[str]:
        conditions = self.conditions if self.shard is None else (*self.conditions, self.shard)
        return [f"(\n{condition}\n)" for condition in conditions]

    def _where(self) -> str:
        conditions = self._conditions()
        return f"\nWHERE {' AND '.join(conditions)}" if conditions else ""

    def _column(self, name: str) -> str:
        return f"{quote(self.relation.alias)}.{quote(name)}"

    def _selected(self) -> list[str]:
        keys = [f"{self._column(column.name)}::text AS k{n}" for n, column in enumerate(self.key.columns)]
        return keys + [f"{self._column(column.name)}::text AS c{n}" for n, column in enumerate(self.columns)]

    @property
    def _body(self) -> Body:
        alias = quote(self.relation.alias)
        if self.body is None:
            return Body(alias, None, "")
        return Body(alias, self.relation.column(self.body), self._column(self.body), self.large_object, self.utf8)


def _given(number: int, column: Column) -> str:
    """The argument of that number as a value of the column's type.

    One of `"char"` is kept from the planner: where PostgreSQL 18 looks in statistics for one that it knows, it ends the
    statement with an error (cache lookup failed for collation 0).
    """
    value = f"${number}::text::{column.type}"
    return f"(SELECT {value})" if column.base == "char" else value


def _repeated(columns: int, cursor: str) -> tuple[str, str]:
    """The flag of a row whose key was read before (0 for others), and the window that it looks through.

    The window stands outside of LIMIT, so that it sees one page and leaves the server its way of finding that page.
    """
    key = [f"p.v{n}" for n in range(columns)]
    before = ", ".join(f"lag({value}) OVER w" for value in key)
    again = f" WHEN ({', '.join(key)}) = ({cursor}) THEN {AGAIN}" if cursor else ""
    flag = f"CASE WHEN ({', '.join(key)}) = ({before}) THEN {TWICE}{again} ELSE 0 END"
    return flag, f"\nWINDOW w AS (ORDER BY {', '.join(key)})"
