"""The seams of asyncup, each as narrow as it can be. `tests/contracts/` holds one suite for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from asyncup.events import Event
from asyncup.model import Checkpoint, DeadLetter, Key, Page, Receipt, Row, RowShape, Upload


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

    def pages(self, after: Key | None) -> AsyncGenerator[Page, None]:
        """Yield every row whose key is greater than `after` (all rows for None), page by page, in key order.

        A page is read only when the next one is asked for. A row whose body would make its page too large comes
        without it (`is_deferred`).

        Raises:
            Unreachable: the server did not come back in time.
            ReadingBroken: rows would be lost or repeated.
        """
        ...

    async def body(self, row: Row) -> bytes | None:
        """Read the body of a deferred row; None when the row or the body has gone since."""
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

    def key_of(self, row: Row) -> str | None:
        """The row's object key for a message, None when it has none."""
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

        Raises:
            AsyncupError: with the disposition that fits.
            Interrupted: a drain began while a sink that retries parts of an object waited to do so.
        """
        ...

    async def close(self) -> None:
        """Give back connections and threads. Never raises."""
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


class Observer(Protocol):
    """Someone who watches a run. Called on the event loop, so it must not block."""

    def on_event(self, event: Event) -> None: ...


class Silence:
    """An observer that looks away."""

    def on_event(self, event: Event) -> None:
        """Nothing to do."""
