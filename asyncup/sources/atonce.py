"""All rows of a query through one cursor, in one transaction: for what no index gives page by page.

The server sorts once, for the whole run, and reads as of one instant; nothing is asked twice, so what a volatile function
says is said once. The price: such a run cannot go on where it stopped, and it holds back vacuum while it lasts
(https://www.postgresql.org/docs/current/sql-declare.html).

A row comes in pieces of a bounded size, and pieces are fetched in a bounded number, so that no page is larger than a page
may be, whatever the rows are: that could not be known before they come. The last row of a page may be one whose pieces
are not all there; then it is deferred, and its body has to be asked for before the next page is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncup.errors import AsyncupError, InternalError, ReadingBroken, ServerFault, Unreachable
from asyncup.model import ROW_OVERHEAD, WHOLE, Key, Page, Range, Row, RowShape, Streamed
from asyncup.sources.connection.session import NO_TIMEOUTS, Held, Session
from asyncup.sources.keyset import TWICE, Keyset, null_in_key, several

_OP = "read"
_CURSOR = "asyncup_rows"
#: Pieces in a page, and the bytes of a piece where pages are small.
_PIECES, _PIECE_BYTES = 256, 16 << 10


@dataclass(slots=True)
class _Cursor:
    """Where a reading stands. `rest` are pieces that were fetched and not given away; `missing` bytes of the last row
    given are still to come, behind `begun`.
    """

    held: Held
    rest: Sequence[Row] = ()
    begun: list[bytes] = field(default_factory=list)
    missing: int = 0


class RowsAtOnce:
    """The rows of one query, each once, in key order. A `Source`, but for bodies: they come in the order of their rows.

    `limit` is how many rows are read at most, `page_rows` how many make a page at most. One reading at a time.
    """

    def __init__(
        self,
        session: Session,
        keyset: Keyset,
        *,
        limit: int | None,
        page_rows: int | None,
        page_bytes: int,
    ) -> None:
        self._session = session
        self._keyset = keyset
        self._limit = limit
        self._label = keyset.relation.label
        self._piece = max(_PIECE_BYTES, page_bytes // _PIECES)
        self._pieces = max(1, min(page_rows or _PIECES, page_bytes // max(self._piece, ROW_OVERHEAD)))
        self._cursor: _Cursor | None = None
        self.page_bytes = page_bytes
        self.shape = RowShape(len(keyset.key.columns), keyset.columns)

    async def pages(
        self,
        after: Key | None,  # noqa: ARG002 - there is no checkpoint to go on from
        part: Range = WHOLE,  # noqa: ARG002 - and there are no parts
    ) -> AsyncGenerator[Page, None]:
        """See `Source.pages`; always all rows.

        Raises:
            SourceRefused: the key is not unique, or NULL in some row.
            ReadingBroken: the transaction was lost.
        """
        async with self._session.held(_OP, self._label) as held:
            cursor = self._cursor = _Cursor(held)
            await self._run(held, NO_TIMEOUTS)
            statement = self._keyset.at_once(self._limit, self._piece)
            await self._run(held, f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR {statement.sql}")
            is_first = True
            while True:
                while cursor.missing:  # nobody wants the rest of that body
                    await self._next_piece(cursor)
                    cursor.begun.clear()
                pieces, cursor.rest = cursor.rest or await self._fetch(held), ()
                if not pieces:
                    return
                if is_first and None in self.shape.key(pieces[0]):
                    raise null_in_key(self._keyset.relation, self._keyset.key)
                is_first = False
                page = [Page(self._rows(cursor, pieces))]
                del pieces
                yield page.pop()  # whoever takes it holds it alone: its memory ends with its last row

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`; for the last row of the page that was given last."""
        cursor = self._cursor
        if cursor is None or sum(map(len, cursor.begun)) + cursor.missing != row[-2]:
            raise InternalError(
                _OP, self._label, "a body was asked for out of turn", "this is a defect of asyncup: report it"
            )
        while cursor.missing:
            await self._next_piece(cursor)
        body = b"".join(cursor.begun)
        cursor.begun.clear()
        return body

    def stream(self, row: Row, window: int) -> Streamed:  # noqa: ARG002 - it has none
        """Not to be asked for: what is sent may have to be read again, and a cursor does not go back."""
        raise InternalError(_OP, self._label, "a query that is read at once cannot be streamed")

    async def close(self) -> None:
        """See `Source.close`."""
        await self._session.close()

    def _rows(self, cursor: _Cursor, pieces: Sequence[Row]) -> Sequence[Row]:
        """The rows of some pieces, of which the first begins a row; the last one deferred where some of it is missing.

        Raises:
            SourceRefused: two rows have the same key.
        """
        size = self._piece
        twice = next((piece for piece in pieces if piece[-3] == TWICE), None)
        if twice is not None:
            raise several(self._label, self.shape.key(twice))
        if all(piece[-2] is None or piece[-2] <= size for piece in pieces):
            return pieces
        rows: list[Row] = []
        position = 0
        while position < len(pieces):
            first = pieces[position]
            count = -(-(first[-2] or 1) // size) or 1
            bodies = [piece[-1] for piece in pieces[position : position + count]]
            position += count
            if count == 1:
                rows.append(first)
            elif position <= len(pieces):
                rows.append((*first[:-1], b"".join(bodies)))
            else:
                rows.append((*first[:-1], None))
                cursor.begun, cursor.missing = bodies, first[-2] - sum(map(len, bodies))
        return rows

    async def _next_piece(self, cursor: _Cursor) -> None:
        """Add what has been fetched, or is fetched now, to the body that is begun."""
        pieces = cursor.rest or await self._fetch(cursor.held)
        count = -(-cursor.missing // self._piece)
        bodies, cursor.rest = [piece[-1] for piece in pieces[:count]], pieces[count:]
        if not bodies:
            raise ReadingBroken(_OP, self._label, f"{cursor.missing:,} bytes of the last row did not come")
        cursor.begun += bodies
        cursor.missing -= sum(map(len, bodies))

    async def _fetch(self, held: Held) -> Sequence[Row]:
        return await self._run(held, f"FETCH FORWARD {self._pieces} FROM {_CURSOR}")

    async def _run(self, held: Held, sql: str) -> Sequence[Any]:
        """The rows of a statement.

        Raises:
            ReadingBroken: it could be done on another connection only, where the rows are others.
            AsyncupError: whatever else the server says.
        """

        async def work(connection: Any) -> Sequence[Any]:
            rows: Sequence[Any] = await connection.fetch(sql)
            return rows

        try:
            return await held.run(work, _OP, self._label)
        except (Unreachable, ServerFault) as error:
            raise self._broken(error) from error

    def _broken(self, error: AsyncupError) -> ReadingBroken:
        advice = f"{error.hint}; " if error.hint else ""
        return ReadingBroken(
            _OP,
            self._label,
            f"{error.message}; what is read through one cursor cannot go on after that",
            f"{advice}run it again: it begins anew; with --allow-sort it is read page by page, and resumes",
        )
