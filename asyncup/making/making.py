"""The way of a row to its uploads, where a template is not all: a user's function, compression, packs.

A few tasks of the pipeline each take a portion of rows, have it worked on, and hand on what came of it. Portions are
handed on as they are done; where rows become packs, in the order in which they were read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from asyncup.errors import RowRefused
from asyncup.flow.budget import Budget
from asyncup.flow.channel import Channel, ChannelClosed
from asyncup.flow.loads import AnyTicket, Load, Parcel, weight
from asyncup.flow.watermark import StreamTicket, Ticket, Together
from asyncup.making.compressing import Compressor
from asyncup.making.packs import Aside, Packer
from asyncup.making.recipe import Recipe
from asyncup.model import Key, Outcome, Products, Row, Streamed, Upload
from asyncup.protocols import Renderer

#: Rows and bytes that are taken at a time where no transform says how many; and how many such portions are in work.
PORTION, PLACES = (500, 1 << 20), 2

#: A row under its ticket; no row where the ticket's pack ends.
_Entry: TypeAlias = tuple[Ticket | StreamTicket, Row | None]
#: What became of it: its products, none where it is skipped, or why it fails. None where the pack ends.
_Made: TypeAlias = "Products | Streamed | RowRefused | None"


@dataclass(frozen=True, slots=True)
class Books:
    """Where rows are settled that come to no upload."""

    settle: Callable[[Row, AnyTicket, Outcome], None]
    fail: Callable[[Row, AnyTicket, str | None, RowRefused], Awaitable[None]]


class Making:
    """Everything between the channel of rows, `loads`, and that of uploads, `parcels`."""

    def __init__(
        self,
        recipe: Recipe,
        renderer: Renderer,
        books: Books,
        budget: Budget,
        loads: Channel[Load],
        parcels: Channel[Parcel],
        *,
        key_of: Callable[[Row], Key],
        window: int,
        charge: Callable[[int], None],
        aside: Aside,
    ) -> None:
        self._transform = recipe.transform
        self._renderer = renderer
        self._books = books
        self._budget = budget
        self._loads = loads
        self._parcels = parcels
        self._key_of = key_of
        self._compressor = None if recipe.compression is None else Compressor(recipe.compression, recipe.suffix)
        self._packer = (
            None
            if recipe.packs is None
            else Packer(recipe.packs, renderer, key_of, window=window, send=self._send_pack, charge=charge, aside=aside)
        )
        self._entries: deque[_Entry] = deque()
        self._turn, self._delivering = asyncio.Lock(), asyncio.Lock()
        self._before: asyncio.Event | None = None  # that the portion before was handed on
        self._working = 0
        self._is_done = False
        #: called when there should be more tasks
        self.call: Callable[[], None] = lambda: None

    @property
    def packs(self) -> int | None:
        """How many packs were put; None where rows become objects of their own."""
        return None if self._packer is None else self._packer.put

    @property
    def is_short(self) -> bool:
        """Whether there should be more tasks than there are."""
        return not self._is_done and self._working < self._places

    @property
    def _places(self) -> int:
        return PLACES if self._transform is None else max(1, self._transform.places)

    def work(self) -> Coroutine[Any, Any, None]:
        """Take one portion after another, until there are no more, or there are more tasks than there should be."""
        self._working += 1
        return self._work()

    async def _work(self) -> None:
        try:
            while self._working <= self._places:
                if self.is_short:
                    self.call()
                async with self._turn:
                    portion = await self._take()
                    before, self._before = self._before, asyncio.Event()
                    done = self._before
                made = await self._worked_on(portion)
                if self._packer is not None and before is not None:
                    await before.wait()
                await (self._deliver if self._packer is None else self._pack)(portion, made)
                done.set()
        except ChannelClosed:
            self._is_done = True
            if self._working == 1:  # the last one
                self._parcels.close()
        finally:
            self._working -= 1

    def interrupt(self) -> None:
        """The run is draining: what is sent while it is made is given up."""
        if self._packer is not None:
            self._packer.interrupt()

    async def _take(self) -> list[_Entry]:
        """The next rows, as many as are good to take at a time; at least one.

        Raises:
            ChannelClosed: there are no more.
        """
        entries = self._entries
        while not entries:
            for ticket, rows in await self._loads.receive():
                entries.extend((ticket, row) for row in rows)
                if not rows:
                    entries.append((ticket, None))
        rows_left, left = PORTION if self._transform is None else self._transform.portion
        portion = [entries.popleft()]
        while entries and len(portion) < rows_left:
            left -= portion[-1][1][-2] or 0 if portion[-1][1] is not None else 0
            if left <= 0:
                break
            portion.append(entries.popleft())
        return portion

    async def _worked_on(self, portion: list[_Entry]) -> list[_Made]:
        """What becomes of each row of a portion."""
        made: list[_Made] = []
        rows: list[Row] = []
        places: list[int] = []
        for place, (_, row) in enumerate(portion):
            if row is None:
                made.append(None)
                continue
            try:
                body = self._renderer.body(row)
            except RowRefused as error:
                made.append(error)
                continue
            made.append(() if body is None else body if isinstance(body, Streamed) else (body,))
            if body is not None:
                rows.append(row if row[-1] is body else (*row[:-1], body))
                places.append(place)
        if self._transform is not None and rows:
            for place, products in zip(places, await self._transform.apply(rows), strict=True):
                made[place] = products
        return made

    # --- rows that become objects -----------------------------------------------------------------------------

    async def _deliver(self, portion: list[_Entry], made: list[_Made]) -> None:
        """Hand on the uploads of a portion."""
        parcels: deque[Parcel] = deque()
        for place, (ticket, row) in enumerate(portion):
            products, made[place], portion[place] = made[place], None, (ticket, None)
            if row is None:
                continue
            try:
                if isinstance(products, RowRefused):
                    raise products
                if not products and not isinstance(products, Streamed):
                    self._books.settle(row, ticket, Outcome.SKIPPED)
                else:
                    parcels += await self._made_ready(ticket, row, products)
            except RowRefused as error:
                await self._books.fail(row, ticket, self._renderer.key_of(row), error)
        async with (
            self._delivering
        ):  # who waits for room waits here: those who waited there would take turns row by row
            while parcels:
                await self._send(parcels.popleft())

    async def _made_ready(
        self, ticket: Ticket | StreamTicket, row: Row, products: Products | Streamed | None
    ) -> Sequence[Parcel]:
        """The uploads of a row, with what they hold of the budget in place of the row.

        Raises:
            RowRefused: it can have none.
        """
        if isinstance(products, Streamed):
            upload = self._renderer.finish(row, products)
            return ((upload if self._compressor is None else await self._compressor.compress(upload), ticket, row),)
        uploads = [self._renderer.finish(row, product) for product in products or ()]
        if self._compressor is not None:
            uploads = [await self._compressor.compress(upload) for upload in uploads]
        key = self._key_of(row)
        found: AnyTicket = ticket
        if len(uploads) > 1:
            assert isinstance(ticket, Ticket)  # noqa: S101 - a streamed body is never transformed
            found = Together(ticket, (key,), len(uploads))
        parcels = [(upload, found, (*key, len(upload.body), None)) for upload in uploads]
        self._budget.adjust(sum(weight(parcel[2]) for parcel in parcels) - weight(row))
        return parcels

    # --- rows that become packs -------------------------------------------------------------------------------

    async def _pack(self, portion: list[_Entry], made: list[_Made]) -> None:
        """Put the rows of a portion into their packs; those of one pack together, off the event loop."""
        assert self._packer is not None  # noqa: S101 - who calls this has looked
        waiting: list[tuple[Row, Row]] = []
        for place, (ticket, row) in enumerate(portion):
            assert isinstance(ticket, Ticket)  # noqa: S101 - nothing is streamed into a pack
            if row is None:
                await self._packer.finish(ticket)
                ticket.close()
                continue
            record = _record(made[place])
            if isinstance(record, RowRefused):
                await self._books.fail(row, ticket, self._renderer.key_of(row), record)
            elif record is None:
                self._books.settle(row, ticket, Outcome.SKIPPED)
            else:
                waiting.append((row, (*row[:-2], len(record), record)))
            if waiting and (
                place + 1 == len(portion) or portion[place + 1][0] is not ticket or portion[place + 1][1] is None
            ):
                await self._put_into(ticket, waiting, self._packer)
                waiting.clear()

    async def _put_into(self, ticket: Ticket, rows: list[tuple[Row, Row]], packer: Packer) -> None:
        """Put records into a pack. A row that is in it needs no memory any more, but what the pack itself holds."""
        refused = await asyncio.to_thread(packer.add, ticket, [record for _, record in rows])
        for (row, _), error in zip(rows, refused, strict=True):
            if error is None:
                self._budget.release(weight(row))
            else:
                await self._books.fail(row, ticket, self._renderer.key_of(row), error)
        await packer.flush(ticket)

    async def _send_pack(self, parcel: Parcel) -> None:
        self._budget.adjust(weight(parcel[2]))
        await self._send(parcel)

    async def _send(self, parcel: Parcel) -> None:
        if not self._parcels.offer(parcel):
            await self._parcels.send(parcel)


def _record(made: _Made) -> bytes | RowRefused | None:
    """The one record that a row has in its pack; None where it is skipped."""
    if isinstance(made, RowRefused):
        return made
    if not made or isinstance(made, Streamed):
        return None
    if len(made) > 1 or isinstance(made[0], Upload):
        what = "an Upload" if len(made) == 1 else f"{len(made)} objects"
        return RowRefused(
            "pack",
            "transform",
            f"the transform gave {what} for the row, and a pack takes one record of each",
            "give the record's bytes, or leave --pack out",
        )
    return made[0]
