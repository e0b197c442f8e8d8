"""Defects of reading in ranges, planted as those of `mutants.py` are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from asyncup.app import Job
from asyncup.flow.watermark import Ticket, Track, Watermark
from asyncup.model import ROW_OVERHEAD, WHOLE, Checkpoint, Key, Range
from asyncup.pipeline import Parts, Pipeline
from asyncup.sources.postgres import PostgresSource
from tests.simulation.mutants import Around, mutant, patched


def _moved(key: Key | None, by: int) -> Key | None:
    return key and (*key[:-1], f"{int(key[-1] or 0) + by:06d}")


@mutant
def a_range_ends_one_row_too_late() -> Iterator[Any]:
    pages = PostgresSource.pages

    def longer(self: PostgresSource, after: Any, part: Range = WHOLE) -> Any:
        return pages(self, after, replace(part, upper=_moved(part.upper, 1)))

    with patched(PostgresSource, "pages", longer):
        yield Pipeline


@mutant
def a_range_begins_one_row_too_late() -> Iterator[Any]:
    pages = PostgresSource.pages

    def shorter(self: PostgresSource, after: Any, part: Range = WHOLE) -> Any:
        return pages(self, after, replace(part, lower=_moved(part.lower, 1)))

    with patched(PostgresSource, "pages", shorter):
        yield Pipeline


@mutant
def a_range_has_the_rows_of_all_partitions() -> Iterator[Any]:
    pages = PostgresSource.pages

    def wider(self: PostgresSource, after: Any, part: Range = WHOLE) -> Any:
        return pages(self, after, replace(part, leaf=None))

    with patched(PostgresSource, "pages", wider):
        yield Pipeline


@mutant
def partitions_that_come_are_forgotten() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(replace(parts, further=None), **options)

    yield Mutant


@mutant
def nulls_belong_to_no_range() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(parts, **options)
            for part, track in self._unread:
                track.is_read = bool(part.nulls)
            self._unread = type(self._unread)(unread for unread in self._unread if not unread[0].nulls)

    yield Mutant


@mutant
def two_readers_share_one_range() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(parts, **options)
            if self._readers > 1:
                self._unread.insert(1, self._unread[0])

    yield Mutant


@mutant
def a_range_is_finished_before_its_last_row_is_settled() -> Iterator[Any]:
    with patched(Track, "is_finished", property(lambda self: self.is_read)):
        yield Pipeline


@mutant
def a_range_is_finished_that_a_drain_cut_short() -> Iterator[Any]:
    class Mutant(Pipeline):
        async def _read_range(self, part: Range, track: Track) -> None:
            try:
                await super()._read_range(part, track)
            finally:
                track.is_read = True

    yield Mutant


@mutant
def a_finished_range_is_read_again() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(parts, **options)
            read = zip(self._parts_read, self.watermark.tracks, strict=True)
            self._unread.extend((part, track) for part, track in read if track.is_read)

    yield Mutant


@mutant
def a_resumed_range_begins_at_its_beginning() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(parts, **options)
            for track in self.watermark.tracks[1:]:
                track.position = None

    yield Mutant


@mutant
def a_resumed_run_divides_anew() -> Iterator[Any]:
    async def divide(self: Job) -> None:
        self._checkpoint = replace(self._checkpoint, ranges=await self._source.divide())

    with patched(Job, "_divide", divide):
        yield Pipeline


@mutant
def the_counts_of_a_range_are_lost() -> Iterator[Any]:
    passed = Watermark.passed

    def forget(self: Watermark, ticket: Ticket) -> None:
        if ticket._track is self.tracks[0]:
            passed(self, ticket)

    with patched(Watermark, "passed", forget):
        yield Pipeline


@mutant
def ranges_are_looked_at_later_than_the_counts() -> Iterator[Any]:
    class Late(Around):
        pipeline: Any

        async def save(self, checkpoint: Checkpoint) -> None:
            await asyncio.sleep(0)
            await self._inner.save(checkpoint.at(self.pipeline._reaches()))

    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            late = Late(parts.checkpoints)
            super().__init__(replace(parts, checkpoints=late), **options)
            late.pipeline = self

    yield Mutant


@mutant
def the_first_reader_at_its_end_ends_all() -> Iterator[Any]:
    class Mutant(Pipeline):
        async def _read(self) -> None:
            self._reading = 1
            await super()._read()

    yield Mutant


@mutant
def the_last_reader_ends_unnoticed() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(parts, **options)
            self._reading += len(self._unread) > parts.readers > 1

    yield Mutant


@mutant
def a_reader_holds_memory_while_it_waits_for_more() -> Iterator[Any]:
    class Mutant(Pipeline):
        async def _load_large(self, row: Any, ticket: Any) -> None:
            await self.budget.reserve(ROW_OVERHEAD)
            await super()._load_large(row, ticket)
            self.budget.release(ROW_OVERHEAD)

    yield Mutant


@mutant
def readers_share_one_connection() -> Iterator[Any]:
    class Mutant(Pipeline):
        def __init__(self, parts: Parts, **options: Any) -> None:
            super().__init__(parts, **options)
            source: Any = parts.source
            source._idle = source._sessions[:1] * len(source._sessions)

    yield Mutant


@mutant
def a_drain_ends_one_reader_only() -> Iterator[Any]:
    class Mutant(Pipeline):
        def _drain(self, producers: Any, senders: Any) -> None:
            super()._drain([producers[0], producers[-1]], senders)

    yield Mutant
