"""A few rows of a source, read now, and what would become of them: rendered as a run would, and not sent.

The first page is read as a run reads it. A table that is longer gives rows from all over it as well, by a sample of its
blocks (`TABLESAMPLE`), so that what is old does not stand for everything. Bodies of more than a few hundred bytes stay at
the server: their size is enough.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from asyncup.errors import RowGone, RowRefused, StatementTimedOut
from asyncup.model import Key, Row, is_deferred
from asyncup.preflight import SampledRow, Trial
from asyncup.protocols import Renderer
from asyncup.sources.bodies import UNREAD
from asyncup.sources.planner.survey import SAMPLED, Survey
from asyncup.sources.postgres import PostgresSource

#: Bytes of bodies that one page of a sample may hold here; and at the server, which has to build them to know their size.
_BYTES, _BUILT_BYTES = 64 << 10, 64 << 20
#: Rows from all over a table, and of how many they are chosen.
_SPREAD, _KEYS, _MOST_KEYS = 100, 2_000, 10_000
#: Fewer rows than this from all over it say less than the first page does.
_FEW = 30
#: Rows that are shown; and those of which the server is asked again for a body that it could not make with its page.
SHOWN = 5
#: Leading prefixes and reasons that are named.
_NAMED = 5
#: What makes one reason of large objects into many.
_OID = re.compile(r"(?i)\b(large object) \d+")


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows in key order. `whole` when there are no others; the first page had `page_rows` and took `milliseconds`.

    `refused` are those whose body the server cannot make, by their keys, and why.
    """

    rows: Sequence[Row]
    first: Row | None
    whole: bool
    spread: bool
    page_rows: int
    milliseconds: float
    refused: Mapping[Key, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What becomes of the rows of a sample. `sizes` are of those that would be put; `shared` object keys are of several."""

    trial: Trial
    shown: tuple[SampledRow, ...]
    sizes: tuple[int, ...]
    prefixes: tuple[str, ...]
    shared: int


async def draw(source: PostgresSource, survey: Survey, *, limit: int | None) -> Sample:
    """Read a sample.

    Raises:
        SourceRefused, ReadingBroken: rows cannot be read.
        Unreachable: no answer.
    """
    source.page_bytes = _BYTES
    asked = min(source.page_rows, limit if limit is not None else source.page_rows)
    first: Sequence[Row] = ()
    if source.access.at_once:  # what a run through one cursor is refused for, it meets in its first row
        async with aclosing(source.at_once().pages(None)) as pages:
            await anext(pages, None)
    begun = time.perf_counter()
    async with aclosing(source.pages(None)) as pages:
        async for page in pages:
            first = page.rows
            break
        took, page_rows = (time.perf_counter() - begun) * 1000, len(first)
        whole = False
        # a page is made smaller where bodies of it cannot be read, and a few of those will do
        while not whole and len(first) < asked and sum(map(_is_unread, first)) <= SHOWN:
            following = await anext(pages, None)
            whole = following is None and limit is None
            if following is None:
                break
            first = [*first, *following.rows][:asked]
    spread: Sequence[Row] = ()
    if first and not whole and limit is None and survey.kind in SAMPLED:
        with suppress(StatementTimedOut):  # a run has pages only, and those can be read
            spread = await _spread(source, survey, first)
    enough = len(spread) >= _FEW
    rows, refused = await _asked_again(source, spread if enough else first)
    shown = first[0] if first and first[0][-2] != UNREAD else None
    return Sample(rows, shown, whole, enough, page_rows, took, refused)


def _is_unread(row: Row) -> bool:
    return row[-2] == UNREAD and row[-1] is None


async def _asked_again(source: PostgresSource, rows: Sequence[Row]) -> tuple[list[Row], dict[Key, str]]:
    """The rows with the sizes of those whose body could not be made with its page, a few; and why others of them have none."""
    asked, found, refused = 0, [], {}
    for row in rows:
        size = row[-2]
        if _is_unread(row):
            asked += 1
            if asked > SHOWN:
                continue
            try:
                async with source.stream(row, 1).open() as body:
                    size = body.size
            except RowGone:
                continue
            except (RowRefused, StatementTimedOut) as error:
                refused[source.shape.key(row)] = error.message
        found.append((*row[:-2], size, row[-1]) if size != row[-2] else row)
    return found, refused


async def _spread(source: PostgresSource, survey: Survey, first: Sequence[Row]) -> Sequence[Row]:
    """Rows from all over a table, in key order."""
    there = max(survey.rows or source.estimated_rows or 1, 1)
    keys = await source.sampled(min(100.0, 100.0 * _KEYS / there), _MOST_KEYS)
    mean = sum(row[-2] or 0 for row in first) / len(first) + 1
    wanted = max(SHOWN, min(_SPREAD, int(_BUILT_BYTES / mean)))
    step = max(1, len(keys) // wanted)
    chosen = keys[step // 2 :: step][:wanted]
    return await source.chosen(chosen) if chosen else ()


def rehearse(sample: Sample, source: PostgresSource, renderer: Renderer, leading: int) -> Rehearsal:
    """Render every row of a sample. `leading` is how long the literal beginning of the object keys is."""
    seen = [_rendered(row, source, renderer, sample.refused) for row in sample.rows]
    counts = Counter(row.outcome for row in seen)
    reasons = _kinds([row.reason for row in seen if row.reason is not None])
    put = [row for row in seen if row.outcome == "put"]
    keys = Counter(row.object_key for row in put)
    prefixes = dict.fromkeys(_leading(row.object_key or "", leading) for row in put)
    shown = [seen[len(seen) * n // SHOWN] for n in range(SHOWN)] if len(seen) > SHOWN else seen
    if sample.first is not None and sample.spread:
        shown[0] = _rendered(sample.first, source, renderer, sample.refused)
    return Rehearsal(
        Trial(len(seen), counts["put"], counts["skipped"], counts["failed"], tuple(reasons.most_common(_NAMED))),
        tuple(shown),
        tuple(row.size or 0 for row in put),
        tuple(prefixes),
        sum(1 for rows in keys.values() if rows > 1),
    )


def _kinds(reasons: Sequence[str]) -> Counter[str]:
    """Reasons and how often each is given; those that tell of several large objects are one."""
    kinds = {reason: _OID.sub(r"\1 …", reason) for reason in reasons}
    alike = Counter(kinds.values())
    return Counter(reason if alike[kinds[reason]] == 1 else kinds[reason] for reason in reasons)


def _rendered(row: Row, source: PostgresSource, renderer: Renderer, refused: Mapping[Key, str]) -> SampledRow:
    key, size = source.shape.key(row), row[-2]
    if key in refused:
        return SampledRow(key, renderer.key_of(row), None, {}, "failed", refused[key])
    given = (*row[:-1], b"") if is_deferred(row) else row
    try:
        upload = renderer.render(given)
    except RowRefused as error:
        return SampledRow(key, renderer.key_of(row), size, {}, "failed", error.message)
    if upload is None:
        return SampledRow(key, renderer.key_of(row), None, {}, "skipped", "the body is NULL")
    return SampledRow(key, upload.key, size or 0, dict(upload.headers), "put")


def _leading(key: str, leading: int) -> str:
    """Where S3's rate is counted, as far as a key shows it: up to the first slash behind its literal beginning."""
    end = key.find("/", leading)
    return key[: end + 1] if end >= 0 else key[:leading]
