"""The seams of asyncup, each as narrow as it can be. `tests/contracts/` holds one suite for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from asyncup.errors import RowRefused
from asyncup.events import Event
from asyncup.model import (
    WHOLE,
    Checkpoint,
    DeadLetter,
    Headers,
    Key,
    Likeness,
    Listed,
    Page,
    Products,
    Range,
    Receipt,
    Row,
    RowShape,
    Streamed,
    Upload,
)


class Source(Protocol):
    """Rows in the order of an immutable pagination key."""

    @property
    def shape(self) -> RowShape:
        """How the rows of this source are laid out."""
        ...

    @property
    def page_bytes(self) -> int:
        """No page holds more bytes of bodies than this; larger bodies are deferred."""
        ...

    def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:
        """Yield every row of a part whose key is greater than `after` (all rows for None), page by page, in key order.

        A page is read only when the next one is asked for. A row whose body would make its page too large comes
        without it (`is_deferred`).

        Raises:
            Unreachable: the server did not come back in time.
            ReadingBroken: rows would be lost or repeated.
        """
        ...

    async def body(self, row: Row) -> bytes | None:
        """Read the body of a deferred row; None when the row or the body has gone since.

        Raises:
            RowRefused: this body cannot be read; others can.
        """
        ...

    def stream(self, row: Row, window: int) -> Streamed:
        """The body of a deferred row, to be read slice by slice when it is sent; nothing is read yet."""
        ...

    async def close(self) -> None:
        """Give back what the source holds. Never raises."""
        ...


class Renderer(Protocol):
    """Turns a row into an upload. Pure and synchronous."""

    def render(self, row: Row) -> Upload | None:
        """The row's upload, or None when it is to be skipped.

        Raises:
            RowRefused: this row cannot become an object.
        """
        ...

    def body(self, row: Row) -> bytes | Streamed | None:
        """What the row has to be made an object of, or None when it is to be skipped.

        Raises:
            RowRefused: a row without a body fails.
        """
        ...

    def finish(self, row: Row, product: bytes | Streamed | Upload) -> Upload:
        """The upload of what the row came to: a body, or all that a transform says of it itself.

        Raises:
            RowRefused: it cannot become an object.
        """
        ...

    def key_of(self, row: Row) -> str | None:
        """The row's object key for a message, None when it has none."""
        ...


class Transform(Protocol):
    """A user's function, and where it runs: on the event loop, in threads or in processes of its own."""

    @property
    def places(self) -> int:
        """How many portions may be in work at a time. May change from one look to the next."""
        ...

    @property
    def portion(self) -> tuple[int, int]:
        """How many rows, and how many bytes of bodies, make a good portion now; one row is always one."""
        ...

    async def apply(self, rows: Sequence[Row]) -> Sequence[Products | RowRefused]:
        """What becomes of each row, in their order: its products, none for a row that is to be skipped, or why it fails.

        Raises:
            AsyncupError: the function can be called for no row at all; the run ends.
        """
        ...

    async def close(self) -> None:
        """End what runs. Never raises, and leaves no thread or process behind that it can end."""
        ...


class Compression(Protocol):
    """How bodies are made smaller. The same bytes always come out the same."""

    @property
    def encoding(self) -> str:
        """The Content-Encoding: gzip, zstd."""
        ...

    def applies(self, key: str, content_type: str | None, headers: Headers) -> bool:
        """Whether an object is worth it; one that is compressed already is not."""
        ...

    def is_heavy(self, size: int) -> bool:
        """Whether so many bytes take too long for the event loop."""
        ...

    def compress(self, body: bytes) -> bytes:
        """All of a body."""
        ...

    def stream(self) -> CompressedStream:
        """For a body that comes piece by piece."""
        ...


class CompressedStream(Protocol):
    """One body that is being compressed."""

    def add(self, piece: bytes) -> bytes:
        """Take a piece in; what comes out by now."""
        ...

    def finish(self) -> bytes:
        """What is left."""
        ...


class Packing(Protocol):
    """How many rows become one object."""

    def begin(self) -> Pack:
        """A pack that is still empty."""
        ...


class Pack(Protocol):
    """One object of many rows while it is made; bytes come out of it as soon as they are final.

    The same rows in the same order come out as the same bytes, always.
    """

    def add(self, row: Row) -> bytes:
        """Take a row in; what is final now, often nothing. `row[-1]` is its record.

        Raises:
            RowRefused: this row cannot be in such a pack, and nothing of it is.
        """
        ...

    def finish(self) -> bytes:
        """What is left, once no more rows come."""
        ...

    def index(self) -> bytes:
        """Where each row lies in the finished pack; empty where nobody asked for that."""
        ...


class Sink(Protocol):
    """A place that keeps objects. One call is one attempt: retrying is the pipeline's."""

    async def check(self) -> None:
        """Ask, without writing anything, whether the destination can be reached and is there.

        Raises:
            DestinationRefused: it is not there, or refuses.
            Unreachable, ConnectionLost, ServerFault, Throttled: no clear answer now.
        """
        ...

    async def put(self, upload: Upload) -> Receipt:
        """Store one object, whole or not at all. Returns only when the destination has acknowledged it.

        A `Streamed` body is read within the call, `window` bytes of it held at a time. What its reading raises goes
        out as it is, and no object, nor any part of one, stays behind.

        Raises:
            AsyncupError: with the disposition that fits.
            Interrupted: a drain began while a sink that retries parts of an object waited to do so.
        """
        ...

    async def close(self) -> None:
        """Give back connections and threads. Never raises."""
        ...


class Objects(Protocol):
    """What a destination holds: the reading half of a place that a `Sink` writes to. Nothing here changes anything."""

    def pages(self, prefix: str) -> AsyncGenerator[Sequence[Listed], None]:
        """Yield every object whose key begins with `prefix`, page by page; in the order that the destination has.

        Raises:
            DestinationRefused: it cannot be listed.
            Unreachable, ConnectionLost, ServerFault, Throttled: all attempts were in vain.
        """
        ...

    async def look(self, key: str) -> Listed | None:
        """One object, or None when there is none. One call is one attempt.

        Raises:
            AsyncupError: with the disposition that fits.
        """
        ...

    async def compare(self, upload: Upload, listed: Listed, *, deep: bool = False) -> Likeness | str:
        """Compare an upload with the object of its key: what agrees, or in what they differ, as a sentence's end.

        `deep` reads the whole object. One call is one attempt.

        Raises:
            ObjectMissing: it has gone since it was listed.
            AsyncupError: with the disposition that fits.
        """
        ...


class CheckpointStore(Protocol):
    """Where one job's checkpoint lives. One run at a time holds it."""

    @property
    def location(self) -> str:
        """Where the checkpoint is, as a person would look for it."""
        ...

    async def load(self) -> Checkpoint | None:
        """The last checkpoint that was saved, or None."""
        ...

    async def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint, durably and atomically.

        Raises:
            StateLost: it could not be written.
        """
        ...


class Lease(Protocol):
    """The right of one run to be the only one of its job, for a time."""

    async def keep(self) -> None:
        """Renew it where that is due. To be called every few seconds.

        Raises:
            StateLost: another run has it, or nobody has answered for minutes.
        """
        ...


class DeadLetterStore(Protocol):
    """Where rows go that could not be published."""

    @property
    def location(self) -> str: ...

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """Add letters; they are durable when this returns.

        Raises:
            StateLost: they could not be written.
        """
        ...


class KeptLetters(DeadLetterStore, Protocol):
    """Dead letters of this run and of those before it."""

    @property
    def letters(self) -> int:
        """How many there are."""
        ...


class Observer(Protocol):
    """Someone who watches a run. Called on the event loop, so it must not block."""

    def on_event(self, event: Event) -> None: ...


class Silence:
    """An observer that looks away."""

    def on_event(self, event: Event) -> None:
        """Nothing to do."""
