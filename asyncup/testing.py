"""Sources and sinks in memory, with gates and faults, for tests: ours and those of anyone who builds on asyncup.

They keep the same promises as the real ones; the contract suites run on both. `publish` has the real pipeline send rows
to a sink of yours, with no server at all:

    async def test_what_is_too_large_fails() -> None:
        published = await publish([b"small", bytes(10_000)], put)
        assert published.counts.put == 1
        assert "too large" in published.letters[0].message
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from asyncup.errors import AsyncupError, RowGone
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier, RetryPolicy
from asyncup.flow.tally import Tally
from asyncup.model import (
    ROW_OVERHEAD,
    SLICE_BYTES,
    UNTOLD,
    WHOLE,
    Checkpoint,
    Column,
    Counts,
    DeadLetter,
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
from asyncup.pipeline import Parts, Pipeline
from asyncup.protocols import Silence, Sink
from asyncup.render.renderer import Renderer
from asyncup.render.template import parse_template
from asyncup.sinks.executor import ExecutorSink, Target


class MemorySource:
    """Rows from a list of bodies, keyed by their position from 1, written with twelve digits.

    Attributes:
        read: how many rows were handed out.
        pages_read: how many pages were.
        error: raised instead of the page that begins with row `error_at`.
        opened: how many streamed bodies are being read.
        fault: asked before each slice of a streamed body, with the row's number and the slice's, both from 1; what it
            gives is raised.
    """

    def __init__(
        self,
        bodies: Iterable[bytes | None],
        *,
        page_rows: int = 100,
        page_bytes: int = 1 << 20,
        error: Exception | None = None,
        error_at: int = 0,
        slice_bytes: int = SLICE_BYTES,
    ) -> None:
        self._bodies = list(bodies)
        self._slice_bytes = slice_bytes
        self.opened = 0
        self.fault: Callable[[int, int], BaseException | None] = lambda *_: None
        self._page_rows = page_rows
        self.page_bytes = page_bytes
        self.shape = RowShape(1, (Column("id", "text", "text", not_null=True),))
        self.error = error
        self.error_at = error_at
        self.read = 0
        self.pages_read = 0
        self.closed = False

    async def pages(self, after: Key | None, part: Range = WHOLE) -> AsyncGenerator[Page, None]:
        """See `Source.pages`. Bounds are keys such as those of the rows."""
        lower, upper = (None if bound is None else int(bound[0] or 0) - 1 for bound in (part.lower, part.upper))
        position = (lower or 0) if after is None else int(after[0] or 0)
        end = len(self._bodies) if upper is None else min(upper, len(self._bodies))
        while position < end:
            await asyncio.sleep(0)
            if self.error is not None and position >= self.error_at:
                raise self.error
            numbers = range(position, min(position + self._page_rows, end))
            self.read += len(numbers)
            self.pages_read += 1
            position = numbers.stop
            yield Page([self._row(number) for number in numbers])

    async def body(self, row: Row) -> bytes | None:
        """See `Source.body`."""
        await asyncio.sleep(0)
        return self._bodies[int(row[0]) - 1]

    def stream(self, row: Row, window: int) -> Streamed:
        """See `Source.stream`."""
        return Streamed(row[-2], window, lambda: self._open(int(row[0])))

    @asynccontextmanager
    async def _open(self, number: int) -> AsyncGenerator[Slices]:
        await asyncio.sleep(0)
        body = self._bodies[number - 1]
        if body is None:
            raise RowGone("read", "memory", "the row has gone")
        self.opened += 1
        try:
            async with aclosing(self._slices(number, body)) as slices:
                yield Slices(len(body), slices)
        finally:
            self.opened -= 1

    async def _slices(self, number: int, body: bytes) -> AsyncGenerator[bytes]:
        for position, start in enumerate(range(0, len(body), self._slice_bytes), 1):
            await asyncio.sleep(0)
            error = self.fault(number, position)
            if error is not None:
                raise error
            yield body[start : start + self._slice_bytes]

    async def close(self) -> None:
        """See `Source.close`."""
        self.closed = True

    def _row(self, number: int) -> Row:
        body = self._bodies[number]
        key = f"{number + 1:012d}"
        size = None if body is None else len(body)
        inline = body if body is not None and len(body) <= self.page_bytes // self._page_rows else None
        return (key, key, size, inline)


class MemorySink:
    """Keeps objects in a dictionary, in the order in which they were acknowledged."""

    def __init__(self) -> None:
        self.objects: dict[str, Upload] = {}
        self.attempts = 0
        self.in_flight = 0
        self.peak = 0
        self.bytes_in_flight = 0
        self.closed = False
        self.unreachable: AsyncupError | None = None

    async def check(self) -> None:
        """See `Sink.check`; raises `unreachable` when it is set."""
        await asyncio.sleep(0)
        if self.unreachable is not None:
            raise self.unreachable

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        held = ROW_OVERHEAD + (upload.body.window if isinstance(upload.body, Streamed) else len(upload.body))
        self.attempts += 1
        self.in_flight += 1
        self.bytes_in_flight += held
        self.peak = max(self.peak, self.in_flight)
        try:
            await self._before(upload)
            if isinstance(upload.body, Streamed):
                upload = upload._replace(body=await _read(upload.body))
            self.objects[upload.key] = upload
            return Receipt(upload.key, len(upload.body))
        finally:
            self.in_flight -= 1
            self.bytes_in_flight -= held

    async def close(self) -> None:
        """See `Sink.close`."""
        self.closed = True

    async def _before(self, upload: Upload) -> None:  # noqa: ARG002 - its heirs look at it
        await asyncio.sleep(0)


async def _read(body: Streamed) -> bytes:
    async with body.open() as (size, slices):
        pieces = [piece async for piece in slices]
    if size != UNTOLD and sum(map(len, pieces)) != size:
        raise AssertionError("a streamed body has another size than it said")
    return b"".join(pieces)


class GatedSink(MemorySink):
    """Holds every upload until it is let through, so that a test can look at a run standing still."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[str, asyncio.Event] = {}
        self._open = False

    def release(self, *keys: str) -> None:
        """Let these uploads finish, now or when they come."""
        for key in keys:
            self.waiting.setdefault(key, asyncio.Event()).set()

    def open(self) -> None:
        """Hold nothing any more."""
        self._open = True
        for gate in self.waiting.values():
            gate.set()

    async def _before(self, upload: Upload) -> None:
        if not self._open:
            await self.waiting.setdefault(upload.key, asyncio.Event()).wait()


class FaultySink(MemorySink):
    """Asks `fault(upload, attempt)` before each attempt of an object, and raises what it gives."""

    def __init__(self, fault: Callable[[Upload, int], BaseException | None]) -> None:
        super().__init__()
        self._fault = fault
        self._tries: dict[str, int] = {}

    async def _before(self, upload: Upload) -> None:
        await asyncio.sleep(0)
        attempt = self._tries[upload.key] = self._tries.get(upload.key, 0) + 1
        error = self._fault(upload, attempt)
        if error is not None:
            raise error


class MemoryCheckpoints:
    """Keeps every checkpoint that was saved, the last one last."""

    location = "memory"

    def __init__(self, saved: Sequence[Checkpoint] = ()) -> None:
        self.saved = list(saved)
        self.error: AsyncupError | None = None

    async def load(self) -> Checkpoint | None:
        """See `CheckpointStore.load`."""
        return self.saved[-1] if self.saved else None

    async def save(self, checkpoint: Checkpoint) -> None:
        """See `CheckpointStore.save`; raises `error` when it is set."""
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.saved.append(checkpoint)


class MemoryDeadLetters:
    """Keeps dead letters in a list."""

    location = "memory"

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.error: AsyncupError | None = None

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterStore.append`; raises `error` when it is set."""
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.letters += letters


@dataclass(frozen=True, slots=True)
class Published:
    """What came of rows: how many were put, skipped (those that are None) and failed, why, and in how many attempts."""

    counts: Counts
    letters: tuple[DeadLetter, ...]
    attempts: int


async def publish(
    bodies: Iterable[bytes | None],
    to: Sink | Target | Callable[[Upload], Any],
    *,
    template: str = "{id}",
    concurrency: int = 8,
    max_attempts: int = 3,
) -> Published:
    """Send rows through the real pipeline, to a sink or to what an `ExecutorSink` calls; no attempt waits for another.

    `id` is the number of a row with twelve digits, from 1, and all that a template can name. The sink stays open, but
    for an `ExecutorSink` that is made here.

    Raises:
        AsyncupError: what ends a run.
        TypeError: a row is no bytes.
    """
    bodies = list(bodies)
    for body in bodies:
        if body is not None and not isinstance(body, bytes):
            raise TypeError(f"a row is bytes, or None for a NULL body; here is {body!r:.40}")
    is_sink = inspect.iscoroutinefunction(getattr(to, "put", None))
    sink: Any = to if is_sink else ExecutorSink(to, threads=concurrency)  # type: ignore[arg-type]
    source, interrupt, tally, letters = MemorySource(bodies), Interrupt(), Tally(), MemoryDeadLetters()
    policy = RetryPolicy(max_attempts=max_attempts, base=0.0, throttled_base=0.0)
    pipeline = Pipeline(
        Parts(
            source=source,
            renderer=Renderer(source.shape, parse_template(template)),
            sink=sink,
            sending=Retrier(policy, interrupt.sleep, lambda error, *_: tally.retry(error)),
            dead_letters=letters,
            checkpoints=None,
            checkpoint=Checkpoint("test", {}, None, Counts(), finished=False, started="", saved=""),
            observer=Silence(),
            tally=tally,
            interrupt=interrupt,
        ),
        concurrency=concurrency,
        memory=64 << 20,
        drain_timeout=0.0,
        max_failures=None,
    )
    try:
        await pipeline.run()
    finally:
        if not is_sink:
            await sink.close()
    return Published(pipeline.watermark.settled(), tuple(letters.letters), tally.attempts)
