"""Sources, renderers and sinks that leave one stage of a run, or all but one, out of it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager

from asyncup.model import (
    ROW_OVERHEAD,
    WHOLE,
    Column,
    Key,
    Page,
    Range,
    Receipt,
    Row,
    RowShape,
    Slices,
    Streamed,
    Upload,
)
from asyncup.protocols import Sink, Source

#: What is kept of rows, and of what they come to: so many bytes, and so many of them.
KEPT_BYTES, KEPT = 64 << 20, 20_000
_PAGE_BYTES, _PAGE_ROWS = 1 << 20, 100


class Again:
    """A source that begins anew at its end, for as long as it is read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.shape = source.shape
        self.page_bytes = source.page_bytes
        self.body, self.stream, self.close = source.body, source.stream, source.close
        #: How often the end was reached.
        self.rounds = 0

    async def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:
        """See `Source.pages`."""
        while True:
            any_rows = False
            async with aclosing(self._source.pages(after, part)) as pages:
                async for page in pages:
                    any_rows = any_rows or bool(page.rows)
                    yield page
            self.rounds += 1
            if not any_rows:
                return


class Kept:
    """A source that keeps what is read through it, up to a bound; `on_full` is called there."""

    def __init__(self, source: Source, on_full: Callable[[], object]) -> None:
        self._source = source
        self._on_full = on_full
        self.shape = source.shape
        self.page_bytes = source.page_bytes
        self.stream, self.close = source.stream, source.close
        self.kept: list[Page] = []
        self.bodies: dict[Key, bytes | None] = {}
        self.bytes = self.rows = 0

    async def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:
        """See `Source.pages`."""
        async with aclosing(self._source.pages(after, part)) as pages:
            async for page in pages:
                if self._has_room():
                    self.kept.append(page)
                    self.rows += len(page)
                    self.bytes += sum(ROW_OVERHEAD + len(row[-1] or b"") for row in page.rows)
                yield page
                if not self._has_room():
                    self._on_full()

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`."""
        body = await self._source.body(row)
        if self._has_room():
            self.bodies[self.shape.key(row)] = body
            self.bytes += len(body or b"")
        return body

    def _has_room(self) -> bool:
        return self.bytes < KEPT_BYTES and self.rows < KEPT

    def played(self) -> Remembered:
        """A source of what was kept, without the rows whose bodies are not there."""
        return Remembered(self)


class Remembered:
    """What was kept of another source, from memory."""

    def __init__(self, kept: Kept) -> None:
        self._bodies = kept.bodies
        self.shape = shape = kept.shape
        self.page_bytes = kept.page_bytes
        self.rows = [
            row
            for page in kept.kept
            for row in page.rows
            if row[-1] is not None or row[-2] is None or shape.key(row) in kept.bodies
        ]

    async def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:  # noqa: ARG002 - it has one
        """See `Source.pages`: from its beginning, whatever it is asked for."""
        for rows in _cut(self.rows, lambda row: row[-2] or 0):
            yield Page(rows)

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`."""
        return self._bodies.get(self.shape.key(row))

    def stream(self, row: Row, window: int) -> Streamed:
        """See `Source.stream`; for rows whose bodies are held anyway."""
        return streamed(self._bodies.get(self.shape.key(row)) or b"", window)

    async def close(self) -> None:
        """Nothing to give back."""


class Ready:
    """A source of rows that are uploads already; `renderer` gives those, one after another."""

    def __init__(self, uploads: Sequence[Upload]) -> None:
        self.shape = RowShape(1, (Column("id", "text", "text", not_null=True),))
        self.page_bytes = _PAGE_BYTES
        self.renderer = Rendered(uploads)
        rows: list[Row] = [
            (f"{number:012d}", "", len(upload.body), upload.body) for number, upload in enumerate(uploads)
        ]
        self._pages = [Page(rows) for rows in _cut(rows, lambda row: row[-2])]

    async def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:  # noqa: ARG002
        """See `Source.pages`."""
        for page in self._pages:
            yield page

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`."""
        return bytes(row[-1])

    def stream(self, row: Row, window: int) -> Streamed:
        """See `Source.stream`."""
        return streamed(row[-1], window)

    async def close(self) -> None:
        """Nothing to give back."""


class Rendered:
    """A renderer that has its uploads, and gives the next one, whatever the row is."""

    def __init__(self, uploads: Sequence[Upload]) -> None:
        self._uploads: Iterator[Upload] = itertools.cycle(uploads)

    def render(self, row: Row) -> Upload:  # noqa: ARG002
        """See `Renderer.render`."""
        return next(self._uploads)

    def body(self, row: Row) -> bytes | None:
        """See `Renderer.body`."""
        return bytes(row[-1])

    def finish(self, row: Row, product: bytes | Streamed | Upload) -> Upload:  # noqa: ARG002
        """See `Renderer.finish`."""
        return next(self._uploads)

    def key_of(self, row: Row) -> str:
        """See `Renderer.key_of`."""
        return str(row[0])


class Unrendered:
    """A renderer that skips every row, and counts the bytes of its body: what is left is reading."""

    def __init__(self) -> None:
        self.bytes = 0

    def render(self, row: Row) -> None:
        """See `Renderer.render`."""
        self.bytes += row[-2] or 0

    def body(self, row: Row) -> None:
        """See `Renderer.body`."""
        self.render(row)

    def finish(self, row: Row, product: bytes | Streamed | Upload) -> Upload:  # noqa: ARG002
        """See `Renderer.finish`."""
        raise AssertionError("nothing was rendered")

    def key_of(self, row: Row) -> str | None:  # noqa: ARG002
        """See `Renderer.key_of`."""
        return None


class Collected:
    """A sink that keeps what it is given, up to a bound."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []
        self.objects = self.bytes = self._held = 0

    async def check(self) -> None:
        """Always there."""

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        if isinstance(upload.body, Streamed):
            async with upload.body.open() as (_, slices):
                upload = upload._replace(body=b"".join([piece async for piece in slices]))
        size = len(upload.body)
        self.objects += 1
        self.bytes += size
        if not self.uploads or (self._held + size <= KEPT_BYTES and len(self.uploads) < KEPT):
            self.uploads.append(upload)
            self._held += size
        return Receipt(upload.key, size)

    async def close(self) -> None:
        """Nothing to give back."""


class Scratch:
    """A sink around another: every object goes below `prefix`, under a key that no other has. It remembers them all."""

    def __init__(self, sink: Sink, prefix: str) -> None:
        self._sink = sink
        self._prefix = prefix
        self.check, self.close = sink.check, sink.close
        self.keys: list[str] = []

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        key = f"{self._prefix}{upload.key}.{len(self.keys):x}"
        self.keys.append(key)  # before it is sent: what is cut off may be there all the same
        return await self._sink.put(upload._replace(key=key))


def streamed(body: bytes, window: int) -> Streamed:
    """A body that is read slice by slice, from memory."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator[Slices]:
        async def slices() -> AsyncGenerator[bytes]:
            for start in range(0, len(body), _PAGE_BYTES):
                yield body[start : start + _PAGE_BYTES]

        yield Slices(len(body), slices())

    return Streamed(len(body), window, opened)


def _cut(rows: Sequence[Row], size: Callable[[Row], int]) -> Iterator[Sequence[Row]]:
    """Pages of a few rows each, so that a slow run reads few of them."""
    page: list[Row] = []
    held = 0
    for row in rows:
        page.append(row)
        held += size(row)
        if len(page) >= _PAGE_ROWS or held >= _PAGE_BYTES:
            yield page
            page, held = [], 0
    if page:
        yield page
