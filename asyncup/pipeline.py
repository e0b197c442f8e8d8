"""The pipeline: reads, renders and sends at the same time, and knows at every instant which rows are settled.

    source ─pages→ readers ─loads→ feeder or makers ─uploads→ N senders → sink
                     │ track                           │ settle
                     └────────────── watermark ────────┘ → keeper → checkpoint

The module that creates the tasks of a run: a few readers, one feeder, or a few makers where rows take more than a template
(`asyncup.making`), one keeper, one steersman and as many senders as may be in flight, whatever the number of rows, and one
for each time the state is saved. A sender that waits for another
attempt, or for the pace of a throttled prefix, has another one work in its place. Only an object that goes in parts has a
few more, in its sink.
It knows protocols, not what is behind them. Bytes are reserved from the memory budget before they are read and
given back when their row is settled.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    Disposition,
    InternalError,
    RowRefused,
    ServerFault,
    Throttled,
    TooManyFailures,
    TransformFailed,
    Unreachable,
)
from asyncup.events import Draining, Progress, RowFailed
from asyncup.flow.budget import Budget
from asyncup.flow.channel import Channel, ChannelClosed
from asyncup.flow.ending import to_its_end
from asyncup.flow.gate import Gate, Limits
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.lag import Lag
from asyncup.flow.level import MEMORY, ROWS, Account
from asyncup.flow.limiter import Limiter
from asyncup.flow.loads import AnyTicket, Load, Parcel, weight
from asyncup.flow.retry import Interrupted, Retrier
from asyncup.flow.sharing import Share
from asyncup.flow.tally import Tally
from asyncup.flow.watermark import TICKET_BYTES, TICKET_ROWS, TRANSFORMED_ROWS, StreamTicket, Ticket, Track, Watermark
from asyncup.making.cutting import Cutter
from asyncup.making.making import Books, Making
from asyncup.making.packs import Aside, held_by_packs
from asyncup.making.recipe import Recipe
from asyncup.model import (
    ROW_OVERHEAD,
    SLICE_BYTES,
    Checkpoint,
    DeadLetter,
    Outcome,
    Page,
    Range,
    Reach,
    Receipt,
    Row,
    Upload,
    is_deferred,
    timestamp,
)
from asyncup.protocols import CheckpointStore, DeadLetterStore, Lease, Observer, Renderer, Sink, Source
from asyncup.report import Latency

#: Seconds between two progress events, and between two saved checkpoints.
PROGRESS_SECONDS = 0.25
SAVE_SECONDS = 0.5
#: Dead letters that wait for the next save at most; more are written at once.
MAX_LETTERS = 1000
#: Rows in the channel for each sender: enough that none waits while a page is rendered; and where their number grows.
CHANNEL_ROWS_PER_SENDER, CHANNEL_ROWS = 16, 1024
#: Seconds for which the others wait for the end of the first upload, once an attempt of it has failed.
FIRST_SECONDS = 5.0
#: Senders that may wait out of the way, for another attempt or for their turn. What they hold is in the memory budget.
AWAY = 4096
#: Bodies that are read while they are sent: so many at a time, each over a connection of its own to the source; and the
#: most that is held of each. One part is enough where there is little memory, four keep a connection to S3 busy.
STREAMS, WINDOW = 2, 64 << 20
#: S3 takes so many parts of an object (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
MOST_PARTS = 10_000
#: One row of so many is looked at for how long its texts are.
LOOK_ROWS = 32
#: Seconds between two looks at how fast it goes.
LOOK_SECONDS = 0.025


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is made of. `checkpoints` is None for a run that leaves no state, `lease` where none is needed.

    `recipe` is None where a row's upload takes no more than the renderer. `streams_from`: deferred bodies of so many bytes and more are `Streamed`; None where the sink does not take such ones.
    """

    source: Source
    renderer: Renderer
    sink: Sink
    sending: Retrier
    dead_letters: DeadLetterStore
    checkpoints: CheckpointStore | None
    checkpoint: Checkpoint
    observer: Observer
    tally: Tally
    interrupt: Interrupt
    lease: Lease | None = None
    readers: int = 1
    further: Callable[[Sequence[Range]], Awaitable[Sequence[Range]]] | None = None
    streams_from: int | None = None
    recipe: Recipe | None = None


class Pipeline:
    """One run of one job. `memory` in bytes, `drain_timeout` in seconds.

    `concurrency` is a fixed number in flight; `limits` say more than that. `cpu` gives the seconds of CPU time that the
    event loop's thread has used. `share` is what this run has of bounds that hold for several together.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        memory: int,
        drain_timeout: float,
        max_failures: int | None,
        concurrency: int | None = None,
        limits: Limits | None = None,
        share: Share | None = None,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._parts = parts
        self._source, self._renderer, self._sink = parts.source, parts.renderer, parts.sink
        self._tally, self._observer, self._interrupt = parts.tally, parts.observer, parts.interrupt
        limits = limits or Limits(concurrency)
        self._is_fixed = limits.concurrency is not None
        self._cpu = cpu
        self._drain_timeout = drain_timeout
        self._max_failures = max_failures
        self._keys = parts.source.shape.keys
        self._text_columns = self._keys + len(parts.source.shape.columns)
        self.budget = Budget(memory) if share is None else share.budget
        self._call = asyncio.Event()  # for senders, or for a look at how fast it goes
        self.gate = Gate(limits, time.monotonic, self._call.set, () if share is None else share.lanes)
        if share is not None:
            share.attach(self.gate)
        self.limiter = self.gate.limiter
        self.watermark = Watermark(parts.checkpoint.counts)
        reaches = parts.checkpoint.reaches
        self._parts_read = [reach.part for reach in reaches]
        tracks = [(reach, self.watermark.begin(reach.watermark)) for reach in reaches]
        for reach, track in tracks:
            track.is_read = reach.finished
        self._unread = deque((reach.part, track) for reach, track in tracks if not reach.finished)
        self._readers = max(1, min(parts.readers, len(self._unread)))
        self._streams_from = parts.streams_from
        self._streams = Limiter(STREAMS)
        self._loads: Channel[Load] = Channel(1)
        self._parcels: Channel[Parcel] = Channel(
            max(CHANNEL_ROWS, limits.most)
            if limits.concurrency is None
            else max(256, limits.concurrency * CHANNEL_ROWS_PER_SENDER)
        )
        self._packs = None if parts.recipe is None else parts.recipe.packs
        self._making = None if parts.recipe is None else self._make_ready(parts.recipe, memory)
        transforms = parts.recipe is not None and parts.recipe.transform is not None
        self._ticket_rows = TRANSFORMED_ROWS if transforms else TICKET_ROWS
        self._senders: list[asyncio.Task[None]] = []
        self._has_begun = False  # whether the first upload has its end, so that others may follow
        self._away = 0  # senders that wait for another attempt
        self._is_due = False  # whether it is time for a look
        self._deadline: asyncio.TimerHandle | None = None  # of a drain
        self._saved = reaches
        self.saved = parts.checkpoint.has_begun  # whether there is a checkpoint to go on from
        self._saved_at: float | None = None
        self._saving: asyncio.Task[None] | None = None
        self._failed = 0
        self._is_aborted = False
        self.lag = Lag()
        self._reading = self._readers  # readers that have not come to the end
        self._started = time.perf_counter()
        self.seconds = 0.0

    async def run(self) -> bool:
        """Move rows until the source ends, a drain is asked for, or an error ends the run.

        What is settled is saved in any case. Returns True when every row of the source is settled.

        Raises:
            AsyncupError: the error that ended the run.
        """
        self._started = time.perf_counter()
        senders = self._senders
        failure: BaseException | None = None
        self.lag.begin()
        try:
            async with asyncio.TaskGroup() as group:
                readers = [
                    group.create_task(self._read(), name=f"asyncup-reader-{number}") for number in range(self._readers)
                ]
                feeders = self._begin_feeding(group)
                keeper = group.create_task(self._keep(), name="asyncup-keeper")
                self._hire(group)
                steersman = group.create_task(self._steer(group), name="asyncup-steersman")
                self._interrupt.attach(
                    drain=lambda: self._drain([*readers, *feeders], senders), abort=lambda: _cancel(senders)
                )
                while working := [sender for sender in senders if not sender.done()]:
                    await asyncio.wait(working)
                steersman.cancel()
                keeper.cancel()
        except BaseExceptionGroup as errors:
            failure = _root(errors)
            self._is_aborted = True
        finally:
            self._interrupt.detach()
            self.gate.open()
            self.lag.end()
            if self._deadline is not None:
                self._deadline.cancel()
            self.seconds = time.perf_counter() - self._started
            try:
                await to_its_end(self._save(final=True), "asyncup-save")
            except AsyncupError as lost:
                if not isinstance(failure, AsyncupError):
                    raise
                failure.message += f"; and what was settled could not be saved: {lost.message}"
            self._report_progress()
        if failure is not None:
            raise failure
        return self.complete

    @property
    def packs(self) -> int | None:
        """How many packs were put; None where rows are not packed."""
        return None if self._making is None else self._making.packs

    @property
    def complete(self) -> bool:
        """Whether every row of the source was read and is settled."""
        return all(track.is_finished for track in self.watermark.tracks)

    # --- reading ----------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read one range after another until none is left that no reader has begun with."""
        try:
            while self._unread or await self._has_further():
                await self._read_range(*self._unread.popleft())
        except Interrupted:
            return
        self._reading -= 1
        if not self._reading:
            self._loads.close()

    async def _has_further(self) -> bool:
        """Whether ranges have come since the run began; the last reader asks."""
        if self._reading > 1 or self._parts.further is None:
            return False
        for part in await self._parts.further(self._parts_read):
            self._parts_read.append(part)
            self._unread.append((part, self.watermark.begin()))
        return bool(self._unread)

    async def _read_range(self, part: Range, track: Track) -> None:
        """Fetch pages one ahead of the feeder, track their rows, then fetch the bodies that were too large."""
        page_bytes = self._source.page_bytes
        cutter = None if self._packs is None else Cutter(self._packs, self._source.shape, track)
        async with aclosing(self._source.pages(track.position, part)) as pages:
            while True:
                await self.budget.reserve(page_bytes)
                page = await anext(pages, None)
                if page is None:
                    self.budget.release(page_bytes)
                    break
                if cutter is not None:
                    load = cutter.cut(page.rows)
                    del page
                    await self._load_in_order(load, page_bytes)
                    continue
                load, large, held = self._track(page, track)
                del page
                self.budget.adjust(held - page_bytes)
                await self._loads.send(load)
                for row, ticket in large:
                    await self._load_large(row, ticket)
        if cutter is not None and (last := cutter.end()):
            await self._loads.send(last)
        track.is_read = True

    async def _load_in_order(self, load: Load, reserved: int) -> None:
        """Hand on rows that become packs, each behind the one before it, those too whose bodies are still to be fetched."""
        held = sum(weight(row) for _, rows in load for row in rows if not is_deferred(row))
        self.budget.adjust(held - reserved)
        ready: Load = []
        for ticket, rows in load:
            if not rows or not is_deferred(rows[0]):
                ready.append((ticket, rows))
                continue
            held -= sum(weight(row) for _, others in ready for row in others)
            await self._loads.send(ready)
            ready = []
            # what comes behind it would have it wait for itself, where it takes all of the budget
            self.budget.adjust(-held)
            assert isinstance(ticket, Ticket)  # noqa: S101 - it has just been cut
            await self._load_large(rows[0], ticket)
            self.budget.adjust(held)
        await self._loads.send(ready)

    def _track(self, page: Page, track: Track) -> tuple[Load, list[tuple[Row, Ticket]], int]:
        """Put the page's rows under tickets, in key order.

        Those whose body is still to be fetched come apart. The last value is what the others hold of the budget.
        """
        load: Load = []
        large: list[tuple[Row, Ticket]] = []
        held = 0
        size = sum(row[-2] or 0 for row in page.rows)
        step = max(1, min(self._ticket_rows, TICKET_BYTES * len(page.rows) // max(1, size)))
        for start in range(0, len(page.rows), step):
            rows = deque(page.rows[start : start + step])
            ticket = track.track(len(rows), self._source.shape.key(rows[-1]))
            texts = self._texts(page.rows[start : start + step : LOOK_ROWS]) * len(rows)
            bodies = [row[-1] for row in rows]
            if None in bodies:
                large += [(row, ticket) for row in rows if is_deferred(row)]
                rows = deque(row for row in rows if not is_deferred(row))
                bodies = [body for body in bodies if body is not None]
            waits = bool(large) and large[-1][1] is ticket  # a large row must not wait for what its own ticket holds
            if texts and not waits:
                ticket.on_end = partial(self.budget.release, texts)
                held += texts
            held += len(rows) * ROW_OVERHEAD + sum(map(len, bodies))
            load.append((ticket, rows))
        return load, large, held

    def _texts(self, rows: Sequence[Row]) -> int:
        """What the texts of keys and templates take for each of such rows, beyond what is charged for every row."""
        size = 0
        for row in rows:
            for text in row[: self._text_columns]:
                if text is not None:
                    size += len(text)
        return max(0, size // len(rows) - ROW_OVERHEAD // 2)

    async def _load_large(self, row: Row, ticket: Ticket) -> None:
        """Fetch one large body, charged twice while the driver holds it twice; or let it be read while it is sent.

        Until then the row holds nothing of the budget, so that it can be the only one that does.
        """
        if self._streams_from is not None and row[-2] >= self._streams_from:
            await self._stream(row, ticket, self._streams_from)
            return
        charged = 2 * row[-2]
        await self.budget.reserve(ROW_OVERHEAD + charged)
        body, refused = None, None
        try:
            body = await self._source.body(row)
        except RowRefused as error:
            refused = error
        size = len(body) if body is not None else 0
        row = (*row[:-2], size, body)
        self.budget.adjust(size - charged)
        if refused is not None:
            await self._fail(row, ticket, self._renderer.key_of(row), refused)
        elif body is None:  # the row has gone since its page was read
            self._settle(row, ticket, Outcome.SKIPPED)
        else:
            await self._loads.send([(ticket, deque([row]))])

    async def _stream(self, row: Row, ticket: Ticket, part: int) -> None:
        """Hand on a row whose body is read while it is sent. What may be held of it then is reserved before.

        A sender that had to wait for memory would have it wait for what other senders hold.
        """
        window = max(part, min(WINDOW, self.budget.capacity // 2), row[-2] // MOST_PARTS + part)
        held = min(window, row[-2]) + 2 * SLICE_BYTES
        await self._streams.acquire()
        await self.budget.reserve(ROW_OVERHEAD + held)
        body = self._source.stream(row, window)

        def give_back(size: int) -> None:
            self._streams.release()
            if not body.size:
                self.gate.charge(size)

        await self._loads.send([(StreamTicket(ticket, give_back), deque([(*row[:-2], held, body)]))])

    # --- rendering --------------------------------------------------------------------------------------------

    def _make_ready(self, recipe: Recipe, memory: int) -> Making:
        """Who makes uploads where it takes more than rendering. What packs hold is taken out of the budget beforehand."""
        window = min(WINDOW, memory // 4)
        if recipe.packs is not None:
            self.budget.set_aside(min(held_by_packs(window), memory // 2))
        return Making(
            recipe,
            self._renderer,
            Books(self._settle, self._fail),
            self.budget,
            self._loads,
            self._parcels,
            key_of=self._source.shape.key,
            window=window,
            charge=self.gate.charge,
            aside=Aside(self._step_aside, self._come_back),
        )

    def _begin_feeding(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """The tasks that turn rows into uploads: one feeder, or as many makers as there is work for."""
        if self._making is None:
            return [group.create_task(self._feed(), name="asyncup-feeder")]
        making, makers = self._making, list[asyncio.Task[None]]()

        def hire(_: object = None) -> None:
            while making.is_short:
                maker = group.create_task(making.work(), name=f"asyncup-maker-{len(makers)}")
                makers.append(maker)

        making.call = hire
        hire()
        return makers

    async def _feed(self) -> None:
        """Render rows and hand them to the senders, waiting when they have enough."""
        while True:
            try:
                await self._render(await self._loads.receive())
            except ChannelClosed:
                break
        self._parcels.close()

    async def _render(self, load: Load) -> None:
        """Render a load's rows, letting go of each one, since it may be sent and given back before the last is."""
        render, offer = self._renderer.render, self._parcels.offer
        for ticket, rows in load:
            while rows:
                row = rows.popleft()
                try:
                    upload = render(row)
                except RowRefused as error:
                    await self._fail(row, ticket, self._renderer.key_of(row), error)
                    continue
                if upload is None:
                    self._settle(row, ticket, Outcome.SKIPPED)
                elif not offer((upload, ticket, row)):
                    await self._parcels.send((upload, ticket, row))

    # --- sending ----------------------------------------------------------------------------------------------

    def _hire(self, group: asyncio.TaskGroup) -> None:
        """Have as many senders at work as may be in flight. They stay until there is nothing left to send."""
        away = self._away + self.gate.aside
        for number in range(len(self._senders), self.limiter.limit + min(away, AWAY)):
            self._senders.append(group.create_task(self._send(), name=f"asyncup-sender-{number}"))

    async def _steer(self, group: asyncio.TaskGroup) -> None:
        """Look how fast it goes, some tens of times a second, and have senders where there are too few.

        With a fixed number in flight there is nothing to decide until something is throttled.
        """
        call, gate, alarm, due = self._call, self.gate, None, 0.0
        try:
            while True:
                if alarm is not None and self._is_due:
                    self._look(max(0.0, time.monotonic() - due))
                    alarm = None
                if alarm is None and self._has_begun and not (self._is_fixed and gate.is_unhindered):
                    self._is_due, due = False, time.monotonic() + LOOK_SECONDS
                    alarm = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._ring)
                self._hire(group)
                await call.wait()
                call.clear()
        finally:
            if alarm is not None:
                alarm.cancel()

    def _ring(self) -> None:
        self._is_due = True
        self._call.set()

    def _look(self, late: float) -> None:
        if not self._reading and not self._parcels.statistics().items:
            return  # there is no more to send: what is in flight now tells nothing
        held_by = MEMORY if self.budget.is_short else ROWS
        latency = self._tally.latency
        self.gate.look(latency.count, latency.seconds, cpu=self._cpu(), late=late, held_by=held_by)

    def _begin(self) -> None:
        """The first upload has its end, or had its time: let others follow."""
        self._has_begun = True
        self.gate.begin()
        self._call.set()

    async def _send(self) -> None:
        """Send one upload after another until there are no more.

        The first attempt is made here, for the least that a row can cost; whatever fails goes another way.
        """
        parcels, limiter, interrupt, tally = self._parcels, self.limiter, self._interrupt, self._tally
        put, clock, record = self._sink.put, time.perf_counter, self._tally.latency.record
        release, outcome, admit = self.budget.release, Outcome.PUT, self.gate.admit
        while True:
            try:
                parcel = parcels.take() or await parcels.receive()
            except ChannelClosed:
                return
            upload, ticket, row = parcel
            del parcel
            account = None if limiter.enter() else await admit(upload.key, len(upload.body))
            if interrupt.signal is not None:
                limiter.release()
                return
            tally.attempts += 1
            begun = clock()
            try:
                receipt = await put(upload)
            except Interrupted:
                limiter.release()
                return
            except AsyncupError as error:
                if not await self._try_again(upload, ticket, row, error, account):
                    return
            else:
                record(clock() - begun)
                if account is not None:
                    account.acknowledged += 1
                    account.answered += 1
                release(weight(row))
                ticket.settle(outcome, receipt.size)
                limiter.release()
            del upload, row, ticket  # given back: a sender that waits for the next one must not hold them
            if not self._has_begun:
                self._begin()

    async def _try_again(
        self, upload: Upload, ticket: AnyTicket, row: Row, error: AsyncupError, account: Account | None
    ) -> bool:
        """Go on after a first attempt that failed, until the row is settled; False when a drain came in between.

        While it waits for another attempt, the row has no place, and another sender works in place of this one. But the
        first row of a run keeps its place, since none may follow until it has its end, or has tried for so long that what
        it meets seems to be its own; and where nothing succeeds any more the rows keep theirs, since others would only
        come to wait as well.

        Raises:
            AsyncupError: the run ends.
        """
        cause: BaseException | None = error
        while cause is not None:  # what it has come through knows what was read of a body
            cause.__traceback__ = None
            cause = cause.__cause__ or cause.__context__
        self.gate.failed(error, account)
        self._tally.attempts -= not error.was_sent
        known = self._tally.latency.count
        waits = error.disposition is Disposition.RETRY and self._has_begun and not self.gate.is_in_vain(known)
        patience = None if self._has_begun else asyncio.get_running_loop().call_later(FIRST_SECONDS, self._begin)
        if waits:
            self.limiter.release()
            self._away += 1
            self._call.set()
        try:
            receipt = await self._parts.sending.run(self._attempt if waits else self._attempt_in_place, upload, error)
        except Interrupted:
            return False
        except AsyncupError as final:
            await self._refused(upload, ticket, row, final, is_alone=self._tally.latency.count > known)
        else:
            self._settle(row, ticket, Outcome.PUT, receipt.size)
        finally:
            del error  # it knows this frame, and the frame it: neither, nor the body, must wait for a collection
            self._away -= waits
            if patience is not None:
                patience.cancel()
        if not waits:
            self.limiter.release()
        return True

    def _step_aside(self) -> None:
        """Leave a place for as long as what is to be sent has not come; another sender may work in it."""
        self.limiter.release()
        self._away += 1
        self._call.set()

    async def _come_back(self) -> None:
        await self.limiter.acquire()
        self._away -= 1

    async def _attempt(self, upload: Upload) -> Receipt:
        """One more attempt, at a place of its own."""
        self._away -= 1
        try:
            account = await self.gate.admit(upload.key, len(upload.body))
            try:
                if self._interrupt.signal is not None:
                    raise Interrupted
                return await self._put(upload, account)
            finally:
                self.limiter.release()
        finally:
            self._away += 1

    async def _attempt_in_place(self, upload: Upload) -> Receipt:
        """One more attempt, at the place that the row still has."""
        await self.gate.turn(len(upload.body))
        return await self._put(upload, None)

    async def _put(self, upload: Upload, account: Account | None) -> Receipt:
        tally, begun = self._tally, time.perf_counter()
        tally.attempts += 1
        tally.retries += 1
        try:
            receipt = await self._sink.put(upload)
        except AsyncupError as error:
            self.gate.failed(error, account)
            tally.attempts -= not error.was_sent
            tally.retries -= not error.was_sent
            raise
        tally.latency.record(time.perf_counter() - begun)
        if account is not None:
            account.acknowledged += 1
            account.answered += 1
        return receipt

    async def _refused(
        self, upload: Upload, ticket: AnyTicket, row: Row, error: AsyncupError, *, is_alone: bool
    ) -> None:
        """Decide what a final error of an upload means: the row fails, or the run ends.

        It `is_alone` with it when others have succeeded since its first attempt.
        """
        if isinstance(error, ConnectionLost) and not is_alone:
            try:
                await self._sink.check()  # is it this object, or is nobody there?
            except (ServerFault, Throttled):
                pass
            except ConnectionLost as gone:
                raise Unreachable(
                    gone.op, gone.subject, f"the destination no longer answers: {gone.message}", gone.hint
                ) from error
        self._tally.attempts -= error.was_sent and not error.attempts  # it was settled without sending anything
        if error.disposition is Disposition.SKIP:
            self._settle(row, ticket, Outcome.SKIPPED)
            return
        if error.disposition is not Disposition.DEAD_LETTER:
            raise error
        await self._fail(row, ticket, upload.key, error)

    # --- settling ---------------------------------------------------------------------------------------------

    def _settle(self, row: Row, ticket: AnyTicket, outcome: Outcome, size: int = 0) -> None:
        self.budget.release(weight(row))
        ticket.settle(outcome, size)

    async def _fail(self, row: Row, ticket: AnyTicket, object_key: str | None, error: AsyncupError) -> None:
        key, traceback = tuple(row[: self._keys]), error.traceback if isinstance(error, TransformFailed) else None
        letter = DeadLetter(
            *(key, object_key, error.type, error.op, error.message, error.attempts, timestamp(), traceback),
            *(error.request_id, error.host_id),
        )
        for each in ticket.fail(letter):
            self._failed += 1
            self._observer.on_event(RowFailed(each))
        if self._max_failures is not None and self._failed > self._max_failures:
            raise TooManyFailures(
                "copy rows",
                self._parts.checkpoint.name,
                f"{self._failed} row{'s' * (self._failed != 1)} failed, more than --max-failures {self._max_failures} allows; the last: {error}",
                "mend the cause first; rows that a checkpoint has passed stay failed, unless you give --restart",
            ) from error
        if len(self.watermark.letters) >= MAX_LETTERS:
            await self._save()
        self.budget.release(weight(row))  # not before: who waits for a save still holds the row

    # --- keeping ----------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Show progress, and save the watermark while it moves."""
        saved_at = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._report_progress()
            if time.monotonic() - saved_at >= SAVE_SECONDS:
                await self._save()
                saved_at = time.monotonic()

    async def _save(self, *, final: bool = False) -> None:
        """Save once at a time, each to its end: a cancelled caller leaves no half-written state behind."""
        while self._saving is not None and not self._saving.done():
            await asyncio.wait({self._saving})
        self._saving = asyncio.create_task(self._write(final=final), name="asyncup-save")
        self._saving.add_done_callback(_seen)
        await asyncio.shield(self._saving)

    async def _write(self, *, final: bool) -> None:
        """Write the dead letters that the watermark has passed, then the checkpoint that has; in this order.

        So the file begins with exactly the letters that a checkpoint counts. At the end the others follow: a run that
        resumes drops them and sends their rows again.
        """
        watermark, counts, reaches = self.watermark, self.watermark.counts, self._reaches()
        if letters := watermark.letters.copy():
            await self._parts.dead_letters.append(letters)
            del watermark.letters[: len(letters)]  # not before: unwritten, no checkpoint may be saved either
        finished = final and self.complete and not self._is_aborted
        # a run that settled nothing saves nothing: it must not bind the next one
        store = self._parts.checkpoints
        checkpoint = self._parts.checkpoint.at(reaches)
        checkpoint = replace(checkpoint, counts=counts, finished=finished, saved=timestamp())
        if store is not None and (finished or (reaches != self._saved and checkpoint.has_begun)):
            await store.save(checkpoint)
            self._saved, self.saved, self._saved_at = reaches, True, time.perf_counter()
        elif self._parts.lease is not None and not final:
            await self._parts.lease.keep()
        if final and (rest := watermark.open_letters()):
            await self._parts.dead_letters.append(rest)

    def _reaches(self) -> tuple[Reach, ...]:
        """How far each range is settled now."""
        tracks = zip(self._parts_read, self.watermark.tracks, strict=True)
        return tuple(Reach(part, track.position, track.is_finished) for part, track in tracks)

    def _report_progress(self) -> None:
        tally = self._tally
        self._observer.on_event(
            Progress(
                self.watermark.settled(),
                time.perf_counter() - self._started,
                self.gate.in_flight,
                self.gate.level.limit,
                tally.attempts,
                tally.retries,
                tally.throttled,
                self.budget.used,
                self.gate.level.reason,
                self.lag.take_recent(),
                Latency.of(tally.recent_latency()),
                tally.latency.spread(),
                tally.parts,
                None if self._saved_at is None else time.perf_counter() - self._saved_at,
            )
        )

    # --- stopping ---------------------------------------------------------------------------------------------

    def _drain(self, producers: Sequence[asyncio.Task[None]], senders: Sequence[asyncio.Task[None]]) -> None:
        """Stop reading, drop what is not in flight, and give what is the time to finish."""
        _cancel(producers)
        if self._making is not None:
            self._making.interrupt()
        self._loads.close(discard=True)
        self._parcels.close(discard=True)
        self.gate.open()
        self._observer.on_event(Draining(self._interrupt.name, self.gate.in_flight, self._drain_timeout))
        self._deadline = asyncio.get_running_loop().call_later(self._drain_timeout, _cancel, senders)


def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _seen(task: asyncio.Task[None]) -> None:
    """Mark a task's error as seen: a caller that was cancelled cannot, and the next save meets it again."""
    if not task.cancelled():
        task.exception()


def _root(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that tells what happened: ours before a defect, a defect before a cancellation."""
    found: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(reversed(error.exceptions))
        else:
            found.append(error)
    known = [error for error in found if isinstance(error, AsyncupError)]
    if known:
        return known[0]
    defect = found[0]
    unexpected = InternalError(
        "run", "pipeline", f"an unexpected {type(defect).__name__}: {defect}", "this is a defect of asyncup: report it"
    )
    unexpected.__cause__ = defect
    return unexpected
