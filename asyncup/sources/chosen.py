"""Chosen rows of a table or a query, read again by their pagination keys.

Keys come a page at a time from whoever keeps them, so that neither they nor the rows are ever all in memory. Every key
is one row of this source, in the order in which keys come, and as often as it comes: a row that has gone, or that the
job's `where` no longer selects, is a deferred one whose body is not there when it is asked for (`Source.body`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol

from asyncup.model import WHOLE, Key, Page, Range, Row, RowShape, Streamed

#: The place of a row that was not found; those that were have theirs from 1.
_GONE = 0


class Rows(Protocol):
    """The part of a source that is used here."""

    shape: RowShape
    page_bytes: int

    @property
    def page_rows(self) -> int: ...

    async def chosen(self, keys: Sequence[Key]) -> Sequence[Row]: ...

    async def body(self, row: Row) -> bytes | None: ...

    def stream(self, row: Row, window: int) -> Streamed: ...

    async def close(self) -> None: ...


class ChosenRows:
    """The rows of `source` that have the keys that `take` gives.

    `take(n)` gives the next keys, n of them at most, and none at the end. `gone` counts the rows that were not there.
    """

    def __init__(self, source: Rows, take: Callable[[int], Awaitable[Sequence[Key]]]) -> None:
        self._source = source
        self._take = take
        self.shape = source.shape
        self.page_bytes = source.page_bytes
        self.gone = 0

    async def pages(
        self,
        after: Key | None,  # noqa: ARG002 - the keys know no order
        part: Range = WHOLE,  # noqa: ARG002 - and no bounds
    ) -> AsyncGenerator[Page, None]:
        """See `Source.pages`; all rows, once: there is no checkpoint to go on from."""
        while keys := await self._take(self._source.page_rows):
            page = [Page(self._placed(keys, await self._source.chosen(keys)))]
            yield page.pop()  # whoever takes it holds it alone: its memory ends with its last row

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`."""
        body = None if row[-3] == _GONE else await self._source.body(row)
        if body is None:
            self.gone += 1
        return body

    def stream(self, row: Row, window: int) -> Streamed:
        """See `Source.stream`. A row that was not there has no size, and so is none of these."""
        return self._source.stream(row, window)

    async def close(self) -> None:
        """See `Source.close`."""
        await self._source.close()

    def _placed(self, keys: Sequence[Key], found: Sequence[Row]) -> Sequence[Row]:
        """One row for each key, in the order of the keys."""
        if len(found) == len(keys):
            return found
        blank = (None,) * len(self.shape.columns)
        rows: list[Row] = [(*key, *blank, _GONE, 0, None) for key in keys]
        for row in found:
            rows[row[-3] - 1] = row
        return rows
