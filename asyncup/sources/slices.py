"""Large bodies, read slice by slice: each over a connection of its own, in one transaction, every byte of one version.

One cursor gives all slices, so the row is looked up once, whatever the query costs. What cannot be sliced where it is
stored is made whole once, by the server: a compressed value, a text, the row as JSON. Without that each slice would cost
a decompression of all that stands before it. A `bytea` that was stored uncompressed stays where it is, in TOAST, and a
slice of it reads no more than its own bytes; the server tells it by its stored size, which then is that of its bytes
(https://www.postgresql.org/docs/current/storage-toast.html).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

from asyncup.errors import (
    AsyncupError,
    BodyRefused,
    Disposition,
    ReadingBroken,
    RowGone,
    SourceRefused,
    StatementTimedOut,
)
from asyncup.model import Slices
from asyncup.sources.connection.session import NO_TIMEOUTS, Held, Session
from asyncup.sources.keyset import Statement

_OP = "read"
_CURSOR = "asyncup_slices"


class Slicer:
    """Reads bodies of one source. `another` gives a session of its own for each one that is read at the same time.

    Where the server takes no further connection, `lend` gives one that reads pages, which wait meanwhile.
    """

    def __init__(
        self, another: Callable[[], Session], lend: Callable[[], AbstractAsyncContextManager[Session]], label: str
    ) -> None:
        self._another = another
        self._lend = lend
        self._label = label
        self._idle: list[Session] = []
        self._sessions: list[Session] = []

    @asynccontextmanager
    async def open(self, statement: Statement, *, is_suspect: bool) -> AsyncGenerator[Slices]:
        """See `Streamed.open`. Each row of the statement is the size of the body and one slice of it.

        `is_suspect`: what the server refuses is this body's fault.
        """
        is_open = is_done = False
        try:
            async with self._session() as session, session.held(_OP, self._label) as held:
                reading = _Reading(held, self._label, is_suspect=is_suspect)
                # who is slow to take the slices must not lose them to a limit for forgotten transactions
                await reading.run(NO_TIMEOUTS)
                await reading.run(f"DECLARE {_CURSOR} NO SCROLL CURSOR FOR {statement.sql}", *statement.arguments)
                first = await reading.fetch()
                if first is None:
                    raise RowGone(_OP, self._label, "the row, or its body, has gone since its page was read")
                size, pieces = first[0], [first[1]]
                del first  # whoever takes a slice holds it alone
                async with aclosing(reading.slices(size, pieces)) as slices:
                    is_open = True
                    yield Slices(size, slices)
                    is_done = True
        except AsyncupError as error:
            error.was_sent = error.was_sent and is_open
            if not is_done:
                raise  # else it came too late to matter

    async def close(self) -> None:
        """Close all connections. Never raises."""
        for session in self._sessions:
            await session.close()

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[Session]:
        """A session for one body."""
        if not self._idle:
            session = self._another()
            if await session.refused() is not None:
                async with self._lend() as lent:
                    yield lent
                return
            self._sessions.append(session)
            self._idle.append(session)
        session = self._idle.pop()
        try:
            yield session
        finally:
            self._idle.append(session)


class _Reading:
    """One body that is being read in a transaction."""

    def __init__(self, held: Held, label: str, *, is_suspect: bool) -> None:
        self._held = held
        self._label = label
        self._is_suspect = is_suspect

    async def slices(self, size: int, first: list[bytes]) -> AsyncGenerator[bytes]:
        """The first slice, which is here, and those behind it; nobody else holds one that was given away."""
        read = 0
        while read < size:
            row = (size, first.pop()) if first else await self.fetch()
            if row is None or not row[1]:
                break
            read += len(row[1])
            found, row = [row[1]], None
            yield found.pop()
        if read != size:
            raise BodyRefused(_OP, self._label, f"the body has {size:,} bytes, but {read:,} came")

    async def fetch(self) -> Sequence[Any] | None:
        """The size and the next slice; None behind the last one."""
        rows = await self.run(f"FETCH 1 FROM {_CURSOR}")
        return rows[0] if rows else None

    async def run(self, sql: str, *arguments: Any) -> Sequence[Any]:
        """The rows of a statement."""

        async def work(connection: Any) -> Sequence[Any]:
            rows: Sequence[Any] = await connection.fetch(sql, *arguments)
            return rows

        try:
            return await self._held.run(work, _OP, self._label)
        except AsyncupError as error:
            refused = of_body(error, is_suspect=self._is_suspect)
            try:
                if refused is error:
                    raise
                raise refused from error
            finally:
                del refused  # it knows this frame, and the frame it


def of_body(error: AsyncupError, *, is_suspect: bool) -> AsyncupError:
    """The error of a statement that reads one body: of that row alone, where others need not meet it.

    So it is with what the server cannot do, and with what takes it too long; with what it refuses only where that is known
    to be this body's fault (`is_suspect`). What comes before the statement, such as a snapshot that has gone, is of all rows.
    """
    if error.op == _OP and isinstance(error, (ReadingBroken, SourceRefused) if is_suspect else ReadingBroken):
        return BodyRefused(error.op, error.subject, error.message, error.hint)
    if isinstance(error, StatementTimedOut):
        if error.disposition is not Disposition.RETRY:
            return BodyRefused(error.op, error.subject, error.message, error.hint)
        error.exhausted = Disposition.DEAD_LETTER
    return error
