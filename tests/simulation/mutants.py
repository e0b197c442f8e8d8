"""Defects, planted on purpose: each breaks one promise, and some seed has to show it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from asyncup.checkpoints.deadletters import DeadLetterFile
from asyncup.checkpoints.leased import LeasedState
from asyncup.checkpoints.s3 import S3Checkpoints
from asyncup.errors import ConnectionLost, Disposition
from asyncup.flow.budget import Budget
from asyncup.flow.channel import Channel
from asyncup.flow.gate import Limits
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier
from asyncup.flow.waiters import Waiters
from asyncup.flow.watermark import StreamTicket, Track
from asyncup.model import WHOLE, DeadLetter, Range, Receipt, Upload
from asyncup.pipeline import Parts, Pipeline
from asyncup.sources.postgres import PostgresSource
from tests.simulation.disk import Disk

#: Plants a defect for as long as the context lasts, and gives the pipeline to run.
Plant = Callable[[], contextlib.AbstractContextManager[Any]]
MUTANTS: dict[str, Plant] = {}


def mutant(plant: Callable[[], Iterator[Any]]) -> Plant:
    MUTANTS[plant.__name__] = contextlib.contextmanager(plant)
    return MUTANTS[plant.__name__]


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class Around:
    """Something else, with what is not defined here."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


# --- sending --------------------------------------------------------------------------------------------------


@mutant
def a_row_is_settled_before_it_is_acknowledged() -> Iterator[Any]:
    class Hasty(Around):
        async def put(self, upload: Upload) -> Receipt:
            self._going = asyncio.ensure_future(self._inner.put(upload))
            self._going.add_done_callback(lambda task: task.cancelled() or task.exception())
            return Receipt(upload.key, len(upload.body))

    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(replace(parts, sink=Hasty(parts.sink)), **options)

    yield Mutant


@mutant
def a_lost_answer_counts_as_an_acknowledgement() -> Iterator[Any]:
    class Trusting(Around):
        async def put(self, upload: Upload) -> Receipt:
            try:
                return await self._inner.put(upload)
            except ConnectionLost:
                return Receipt(upload.key, len(upload.body))

    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(replace(parts, sink=Trusting(parts.sink)), **options)

    yield Mutant


@mutant
def one_more_upload_is_in_flight_than_allowed() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, *, limits: Limits, **options: Any) -> None:
            fixed = limits.concurrency
            super().__init__(parts, limits=replace(limits, concurrency=fixed and fixed + 1), **options)

    yield Mutant


@mutant
def the_first_upload_does_not_go_alone() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(parts, **options)
            self.limiter.resize(2)

    yield Mutant


@mutant
def attempts_have_no_end() -> Iterator[Any]:
    once = Retrier._next_delay

    def next_delay(self: Retrier, error: Any, *arguments: Any) -> float | None:
        delay = once(self, error, *arguments)
        if delay is None and type(error).disposition is Disposition.RETRY:
            error.disposition = Disposition.RETRY
            return 0.1
        return delay

    with patched(Retrier, "_next_delay", next_delay):
        yield Pipeline


# --- reading and holding --------------------------------------------------------------------------------------


@mutant
def a_resumed_run_begins_one_row_too_late() -> Iterator[Any]:
    pages = PostgresSource.pages

    def late(self: PostgresSource, after: Any, part: Range = WHOLE) -> Any:
        return pages(self, after and (*after[:-1], f"{int(after[-1]) + 1:06d}"), part)

    with patched(PostgresSource, "pages", late):
        yield Pipeline


@mutant
def a_channel_loses_what_it_holds() -> Iterator[Any]:
    take = Channel.take

    def lossy(self: Channel[Any]) -> Any:
        taken = take(self)
        if taken is not None and isinstance(taken, tuple) and taken[0].key.endswith("7"):
            return take(self)
        return taken

    with patched(Channel, "take", lossy):
        yield Pipeline


@mutant
def memory_is_taken_without_asking() -> Iterator[Any]:
    async def reserve(self: Budget, size: int) -> None:
        self.adjust(size)

    with patched(Budget, "reserve", reserve):
        yield Pipeline


@mutant
def memory_is_not_given_back() -> Iterator[Any]:
    release = Budget.release
    with patched(Budget, "release", lambda self, size: release(self, size - (size > 560))):
        yield Pipeline


@mutant
def memory_is_given_back_too_early() -> Iterator[Any]:
    class Mutant(Pipeline):
        def _track(self, page: Any, track: Any) -> Any:
            load, large, held = super()._track(page, track)
            return load, large, held // 2

    yield Mutant


@mutant
def a_body_that_was_read_while_it_was_sent_keeps_its_turn() -> Iterator[Any]:
    with patched(StreamTicket, "settle", lambda self, outcome, size=0: self._ticket.settle(outcome, size)):
        yield Pipeline


@mutant
def whoever_waits_for_a_close_is_forgotten() -> Iterator[Any]:
    with patched(Waiters, "wake_all", lambda self: None):
        yield Pipeline


# --- keeping --------------------------------------------------------------------------------------------------


@mutant
def the_watermark_passes_an_open_ticket() -> Iterator[Any]:
    def advance(self: Track) -> None:
        while any(not ticket.open for ticket in self._tickets):
            ticket = self._tickets.popleft()
            self.position = ticket.last_key
            self._watermark.passed(ticket)

    with patched(Track, "advance", advance):
        yield Pipeline


@mutant
def the_checkpoint_is_saved_before_the_dead_letters() -> Iterator[Any]:
    class Late(Around):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner)
            self._kept: list[DeadLetter] = []

        async def append(self, letters: Sequence[DeadLetter]) -> None:
            before, self._kept = self._kept, list(letters)
            if before:
                await self._inner.append(before)

    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(replace(parts, dead_letters=Late(parts.dead_letters)), **options)

    yield Mutant


@mutant
def nothing_is_synced() -> Iterator[Any]:
    fsync = Disk.fsync

    def folders_only(self: Disk, descriptor: int) -> None:
        if self._open.get(descriptor, self) is None:
            fsync(self, descriptor)

    with patched(Disk, "fsync", folders_only):
        yield Pipeline


@mutant
def dead_letters_are_not_kept_for_the_next_run() -> Iterator[Any]:
    opened = DeadLetterFile.open
    with patched(DeadLetterFile, "open", lambda self, *, keep: opened(self, keep=0)):
        yield Pipeline


@mutant
def counts_cover_more_than_the_watermark() -> Iterator[Any]:
    class Keen(Around):
        pipeline: Any

        async def save(self, checkpoint: Any) -> None:
            watermark = self.pipeline.watermark
            await self._inner.save(replace(checkpoint, counts=watermark.settled() + watermark._before))

    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            keen = Keen(parts.checkpoints)
            super().__init__(replace(parts, checkpoints=keen), **options)
            keen.pipeline = self

    yield Mutant


@mutant
def a_run_that_lost_its_lease_goes_on_saving() -> Iterator[Any]:
    write = S3Checkpoints._write

    async def blind(self: S3Checkpoints, content: bytes) -> bool:
        found = await self._documents.get(self._key)
        self._etag = None if found is None else found.etag
        return await write(self, content)

    with patched(S3Checkpoints, "_write", blind):
        yield Pipeline


@mutant
def a_lease_is_taken_from_those_who_live() -> Iterator[Any]:
    async def free(self: S3Checkpoints, found: Any, *_: Any, restart: bool) -> Any:
        return None if found is None else LeasedState.decoded(found, "state")

    with patched(S3Checkpoints, "_check_free", free):
        yield Pipeline


# --- stopping -------------------------------------------------------------------------------------------------


@mutant
def a_drain_forgets_what_was_not_sent() -> Iterator[Any]:
    with patched(Pipeline, "complete", property(lambda self: True)):
        yield Pipeline


@mutant
def a_drain_has_no_end() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, *, drain_timeout: float, **options: Any) -> None:
            super().__init__(parts, drain_timeout=drain_timeout + 60, **options)

    yield Mutant


@mutant
def the_second_signal_is_not_heard() -> Iterator[Any]:
    request = Interrupt.request

    def once(self: Interrupt, signum: int) -> None:
        if self.signal is None:
            request(self, signum)

    with patched(Interrupt, "request", once):
        yield Pipeline


@mutant
def a_drain_goes_on_reading() -> Iterator[Any]:
    class Mutant(Pipeline):
        def _drain(self, producers: Any, senders: Any) -> None:
            super()._drain([], senders)

    yield Mutant


@mutant
def a_save_outlives_the_run() -> Iterator[Any]:
    class Mutant(Pipeline):
        async def _save(self, *, final: bool = False) -> None:
            self._saving = asyncio.create_task(self._write(final=final))

    yield Mutant
