"""What of a row is its body, as SQL: on a page, by itself, and slice by slice. Pure text building.

Bodies are bytes, so that the client never decodes and encodes text. On a page each is made once, in the subquery that
finds its rows, and cut off outside of it; a `bytea`, or a text of a database in UTF-8, that is cut off is never fetched
from TOAST.
"""

from __future__ import annotations

from dataclasses import dataclass

from asyncup.model import Column

#: The size that is given for a body that the server could not make with its page: as much as any value may have. Whoever
#: asks for it hears why.
UNREAD = 1 << 30

#: `INV_READ`. Source: https://www.postgresql.org/docs/current/lo-interfaces.html
_LARGE_OBJECT_SIZE = "lo_lseek64(lo_open({}, 262144), 0, 2)"


@dataclass(frozen=True, slots=True)
class Body:
    """The bodies of a relation whose rows SQL calls `alias`.

    `column` is None for the row as JSON. With `is_large_object` the column holds the oid of one
    (https://www.postgresql.org/docs/current/largeobjects.html). `is_utf8` is whether the database's texts are.
    """

    alias: str
    column: Column | None
    sql: str
    is_large_object: bool = False
    is_utf8: bool = False

    def selected(self, *, unread: bool, where: str | None = None) -> str:
        """What a page's subquery selects for `cut`; `$1` is how many bytes may come with the page.

        Only bodies of rows that meet `where` are made, if there is such a condition.
        A large object is read one byte further than that: only one that turns out to be larger is opened for its size.
        """
        if unread:  # not even for whether it is NULL: one that is computed would have to be computed
            return "NULL::bytea AS body"

        def limited(value: str) -> str:
            return value if where is None else f"CASE WHEN {where} THEN {value} END"

        if self.is_large_object:
            return f"{limited(f'lo_get({self.sql}, 0, $1::int + 1)')} AS body, {limited(self.sql)} AS large_object"
        return f"{limited(self.sql if self._is_plain_text else self.whole)} AS body"

    def cut(self, *, unread: bool) -> str:
        """The size and the body, NULL where it is too large, from what the subquery `p` selects."""
        if unread:
            return f"greatest({UNREAD}, $1::int), p.body"
        size = "octet_length(p.body)"
        fits = f"{size} <= $1::int"
        if self.is_large_object:
            size = f"CASE WHEN {fits} THEN {size} ELSE {_LARGE_OBJECT_SIZE.format('p.large_object')} END"
        return f"{size}, CASE WHEN {fits} THEN {_bytes('p.body') if self._is_plain_text else 'p.body'} END"

    @property
    def _is_plain_text(self) -> bool:
        """Whether the stored value is the body, so that its size tells that of the body without a look at the value."""
        return self.is_utf8 and self.column is not None and self.column.base in ("text", "varchar")

    @property
    def whole(self) -> str:
        """All of it."""
        if self.column is None:
            return _bytes(f"row_to_json({self.alias}.*)::text")
        if self.is_large_object:
            return f"lo_get({self.sql})"
        if self.column.base == "bytea":
            return self.sql
        return _bytes(f"{self.sql}::text")

    def slices(self, source: str, length: int) -> str:
        """The size and a slice of `length` bytes in each row, in order; `source` is what stands behind FROM for the one row.

        OFFSET 0 keeps the subquery apart, so that what it makes is made once: a text, a row as JSON, and by `substring` a
        value that is compressed or computed. One that lies in TOAST as it is stays there, and its slices are read from
        there; its stored size is that of its bytes, while any value in memory has a header too.
        """
        if self.is_large_object:
            size, piece = "v.size", f"lo_get(v.body, s.n * {length}, {length})"
            made = f"{self.sql} AS body, {_LARGE_OBJECT_SIZE.format(self.sql)} AS size"
        else:
            size, piece = "octet_length(v.body)", f"substring(v.body FROM 1 + s.n * {length} FOR {length})"
            made = f"{self.whole} AS body"
            if self.whole == self.sql:
                is_stored = f"pg_column_size({self.sql}) = octet_length({self.sql})"
                made = f"CASE WHEN {is_stored} THEN {self.sql} ELSE substring({self.sql} FROM 1) END AS body"
        return (
            f"SELECT {size}, {piece}\nFROM (SELECT {made}\nFROM {source}\nOFFSET 0) AS v, "
            f"LATERAL generate_series(0, ({size} - 1) / {length}) AS s(n)"
        )


def _bytes(text: str) -> str:
    return f"convert_to({text}, 'UTF8')"
