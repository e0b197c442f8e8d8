"""Where one pack ends and the next begins.

That depends on nothing but the rows as they are read, in the order of their keys: so a run that goes on, which begins
with the first row of a pack, cuts the same packs as one that was never interrupted. Every pack is one ticket, and so the
watermark moves from pack to pack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from asyncup.flow.loads import Load
from asyncup.flow.watermark import Ticket, Track
from asyncup.making.recipe import Packs
from asyncup.model import Row, RowShape, is_deferred


class Cutter:
    """Cuts one range, whose rows come in order."""

    def __init__(self, packs: Packs, shape: RowShape, track: Track) -> None:
        self._most_rows = packs.rows
        self._most_bytes = packs.size
        self._by = packs.by
        self._shape = shape
        self._track = track
        self._ticket: Ticket | None = None
        self._group: tuple[object, ...] = ()
        self._rows = self._bytes = 0

    def cut(self, rows: Sequence[Row]) -> Load:
        """The rows under their packs' tickets, in order; one whose body is still to be fetched stands by itself."""
        load: Load = []
        ticket, piece = self._ticket, deque[Row]()

        def put_aside() -> None:
            nonlocal piece
            if piece and ticket is not None:
                ticket.extend(len(piece), self._shape.key(piece[-1]))
                load.append((ticket, piece))
                piece = deque()

        for row in rows:
            size = row[-2] or 0
            group = tuple([row[place] for place in self._by])
            if ticket is None or self._is_full(size) or group != self._group:
                put_aside()
                load += self.end()
                self._ticket = ticket = self._track.track(1, self._shape.key(row))  # held open until its end is known
                self._group, self._rows, self._bytes = group, 0, 0
            self._rows += 1
            self._bytes += size
            if is_deferred(row):
                put_aside()
                piece.append(row)
                put_aside()
            else:
                piece.append(row)
        put_aside()
        return load

    def end(self) -> Load:
        """No more rows come to the last pack, if there is one."""
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            return []
        return [(ticket, deque())]

    def _is_full(self, size: int) -> bool:
        if self._most_rows is not None and self._rows >= self._most_rows:
            return True
        return self._most_bytes is not None and self._rows > 0 and self._bytes + size > self._most_bytes
