"""Packs that are being made, and sent when they are whole; a large one is sent while it is made.

Rows leave the memory budget when they are in a pack. What a pack holds is bounded by itself: up to `STREAM_BYTES` before
its upload begins, then a slice on its way and what the sink may hold of it (`held_by_packs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from asyncup.errors import AsyncupError, PackBroken, RowRefused
from asyncup.flow.channel import Channel, ChannelClosed
from asyncup.flow.loads import AnyTicket, Parcel
from asyncup.flow.retry import Interrupted
from asyncup.flow.watermark import StreamTicket, Ticket, Together
from asyncup.making.recipe import Packs
from asyncup.model import (
    ROW_OVERHEAD,
    SLICE_BYTES,
    STREAM_BYTES,
    UNTOLD,
    DeadLetter,
    Key,
    Outcome,
    Row,
    Slices,
    Streamed,
    Upload,
)
from asyncup.protocols import Pack, Renderer

#: The name of an index beside that of its pack, and its content type.
INDEX_SUFFIX, INDEX_TYPE = ".index.jsonl", "application/x-ndjson"
#: A pack of more rows than this is sent while it is made, however small it is: the keys of its rows are held until then.
MOST_KEYS = 100_000
_AGAIN = "run the same command again: it goes on with the first row of this pack"


def held_by_packs(window: int) -> int:
    """The most bytes that packs hold in memory at a time, beside those that are complete."""
    return STREAM_BYTES + 2 * SLICE_BYTES + window


@dataclass(frozen=True, slots=True)
class Aside:
    """A sender's place among those that may be in flight: how it is left, and taken again."""

    leave: Callable[[], None] = lambda: None
    come_back: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)


class PackStream:
    """The bytes of one pack on their way from whoever makes it to whoever sends it. They can be read once.

    Who waits for them stands `aside`: the rows may wait for memory that other packs hold, and those for a place.
    """

    def __init__(self, key: str, aside: Aside) -> None:
        self._key = key
        self._aside = aside
        self._pieces: Channel[bytes] = Channel(1)
        self._is_open = self._is_whole = self._is_interrupted = False

    async def send(self, piece: bytes) -> None:
        """Hand a piece on, waiting until the one before it was taken.

        Raises:
            ChannelClosed: nobody takes it any more.
        """
        await self._pieces.send(piece)

    def close(self) -> None:
        """That was all of it."""
        self._is_whole = True
        self._pieces.close()

    def interrupt(self) -> None:
        """The run is draining: no more comes, and what was sent is to be given up, unless it is all there."""
        if not self._is_whole:
            self._is_interrupted = True
            self._pieces.close(discard=True)

    @property
    def is_whole(self) -> bool:
        """Whether all of it has been handed on."""
        return self._is_whole

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Slices]:
        """See `Streamed.open`.

        Raises:
            PackBroken: it was opened before, or its upload failed; the rows are not there any more to send them again.
        """
        if self._is_open:
            raise PackBroken("put", self._key, "the upload of a pack broke off")
        self._is_open = True
        try:
            yield Slices(UNTOLD, self._slices())
        except AsyncupError as error:
            raise PackBroken(
                error.op,
                error.subject,
                f"the upload of a pack broke off: {error.message}",
                error.hint or _AGAIN,
            ) from error
        finally:
            self._pieces.close(discard=True)

    async def _slices(self) -> AsyncGenerator[bytes]:
        while True:
            piece = [found] if (found := self._pieces.take()) is not None else await self._awaited()
            del found
            if not piece:
                if self._is_interrupted:
                    raise Interrupted
                return
            yield piece.pop()  # whoever takes it holds it alone

    async def _awaited(self) -> list[bytes]:
        """The next piece, once there is one; none when no more come. Who is cancelled here has no use for a place."""
        self._aside.leave()
        try:
            piece = [await self._pieces.receive()]
        except ChannelClosed:
            piece = []
        await self._aside.come_back()
        return piece


class PackTicket(StreamTicket):
    """The ticket of a pack that is sent while it is made, or of its index.

    It cannot fail by itself: nobody has kept which rows are in it, and more may come. So the run ends, and the next one
    begins with them.
    """

    __slots__ = ("_key", "_stream")

    def __init__(self, together: Together, stream: PackStream, key: str, charge: Callable[[int], None]) -> None:
        super().__init__(together, charge)
        self._stream = stream
        self._key = key

    def fail(self, letter: DeadLetter) -> Sequence[DeadLetter]:
        """See `Ticket.fail`. Raises PackBroken."""
        raise PackBroken(letter.op, self._key, f"the upload of a pack broke off: {letter.message}", _AGAIN)

    def settle(self, outcome: Outcome, size: int = 0) -> None:
        """See `Ticket.settle`. Raises PackBroken where that is said of a pack of which more is to come."""
        if not self._stream.is_whole:
            raise PackBroken("put", self._key, "the upload of a pack ended before the pack did", _AGAIN)
        super().settle(outcome, size)


@dataclass(slots=True)
class _OpenPack:
    """A pack that rows still come to. `first` is the row that it is named by."""

    pack: Pack
    first: Row | None = None
    rows: int = 0
    keys: list[Key] = field(default_factory=list)
    keys_size: int = 0
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    stream: PackStream | None = None
    together: Together | None = None
    upload: Upload | None = None


class Packer:
    """Makes packs of rows that come in order. `send` hands a parcel to the senders, whose weight is taken from the budget.

    `window` is how much of a pack that is sent while it is made the sink may hold, whose sender stands `aside` while it waits;
    `charge` is told how many bytes an upload of unknown size had.
    """

    def __init__(
        self,
        packs: Packs,
        renderer: Renderer,
        key_of: Callable[[Row], Key],
        *,
        window: int,
        send: Callable[[Parcel], Awaitable[None]],
        charge: Callable[[int], None],
        aside: Aside,
    ) -> None:
        self._aside = aside
        self._packs = packs
        self._renderer = renderer
        self._key_of = key_of
        self._window = window
        self._send = send
        self._charge = charge
        self._open: dict[Ticket, _OpenPack] = {}
        self.put = 0  # packs that are at the destination

    def _count(self) -> None:
        self.put += 1

    def add(self, ticket: Ticket, rows: Sequence[Row]) -> list[RowRefused | None]:
        """Take rows in whose records are their bodies; for each of them why it cannot be in the pack, or None.

        It may take long: it is for a thread. Nothing else is done with the same pack meanwhile.
        """
        found = self._open.get(ticket)
        if found is None:
            found = self._open[ticket] = _OpenPack(self._packs.packing.begin())
        refused: list[RowRefused | None] = []
        for row in rows:
            try:
                if found.first is None:
                    named = self._renderer.finish(row, b"")  # a pack is named by its first row
                    if self._packs.has_index:  # whose name may be too long where that of the pack is not
                        self._renderer.finish(row, Upload(named.key + INDEX_SUFFIX, b""))
                    found.upload = named._replace(headers=(*named.headers, *self._packs.headers))
                piece = found.pack.add(row)
            except RowRefused as error:
                refused.append(error)
                continue
            refused.append(None)
            if found.first is None:
                found.first = (*self._key_of(row), 0, None)
            found.rows += 1
            if found.stream is None:
                key = self._key_of(row)
                found.keys.append(key)
                found.keys_size += sum([len(part) for part in key if part is not None])
            if piece:
                found.pieces.append(piece)
                found.size += len(piece)
        return refused

    async def flush(self, ticket: Ticket) -> None:
        """Hand on what a large pack has so far."""
        found = self._open.get(ticket)
        if found is None or not self._packs.is_streamed:
            return
        if found.stream is None and (found.size + found.keys_size >= STREAM_BYTES or len(found.keys) >= MOST_KEYS):
            await self._begin(ticket, found)
        if found.stream is not None and found.size >= SLICE_BYTES:
            await self._hand_on(found, found.stream)

    async def finish(self, ticket: Ticket) -> None:
        """No more rows come to a pack: send it, or the rest of it. One that has no rows is none."""
        found = self._open.get(ticket)
        if found is None or found.first is None or found.upload is None:
            self._open.pop(ticket, None)
            return
        settling: AnyTicket
        key = found.upload.key
        rest = await asyncio.to_thread(found.pack.finish)
        found.pieces.append(rest)
        found.size += len(rest)
        if found.stream is not None and found.together is not None:
            found.together.rows = found.rows
            await self._hand_on(found, found.stream)
            found.stream.close()
            settling = PackTicket(found.together, found.stream, key, _nothing)
        else:
            settling = Together(ticket, found.keys, 1 + self._packs.has_index, self._count)
            body = b"".join(found.pieces)
            await self._send((found.upload._replace(body=body), settling, (*found.first[:-2], len(body), None)))
        if self._packs.has_index:
            index = found.pack.index()
            headers = (("content-type", INDEX_TYPE),)
            upload = Upload(key + INDEX_SUFFIX, index, headers)
            await self._send((upload, settling, (*found.first[:-2], len(index), None)))
        del self._open[ticket]

    def interrupt(self) -> None:
        """The run is draining: give up what is sent while it is made."""
        for found in tuple(self._open.values()):  # a thread may add to them meanwhile
            if found.stream is not None:
                found.stream.interrupt()

    async def _begin(self, ticket: Ticket, found: _OpenPack) -> None:
        assert found.upload is not None  # noqa: S101 - it has rows
        assert found.first is not None  # noqa: S101
        most = self._packs.size or 0
        found.stream = PackStream(found.upload.key, self._aside)
        found.keys = []
        found.together = Together(ticket, found.keys, 1 + self._packs.has_index, self._count)
        body = Streamed(most, self._window, found.stream.open)
        settling = PackTicket(found.together, found.stream, found.upload.key, _nothing if most else self._charge)
        # it holds nothing of the budget, or a row that takes all of that would wait for it, and it for that row
        await self._send((found.upload._replace(body=body), settling, (*found.first[:-2], -ROW_OVERHEAD, None)))

    async def _hand_on(self, found: _OpenPack, stream: PackStream) -> None:
        piece, found.pieces, found.size = b"".join(found.pieces), [], 0
        if piece:
            try:
                await stream.send(piece)
            except ChannelClosed:  # its upload has failed, and ends the run; or the run is draining
                return


def _nothing(size: int) -> None:
    """Nobody is told."""
