"""A few rows of a source, read now, and what would become of them: rendered as a run would, and not sent.

The first page is read as a run reads it. A table that is longer gives rows from all over it as well, by a sample of its
blocks (`TABLESAMPLE`), so that what is old does not stand for everything. Bodies of more than a few hundred bytes stay at
the server: their size is enough.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from asyncup.errors import RowRefused
from asyncup.model import Row, is_deferred
from asyncup.preflight import SampledRow, Trial
from asyncup.protocols import Renderer
from asyncup.sources.planner.survey import SAMPLED, Survey
from asyncup.sources.postgres import PostgresSource

#: Bytes of bodies that one page of a sample may hold here; and at the server, which has to build them to know their size.
_BYTES, _BUILT_BYTES = 64 << 10, 64 << 20
#: Rows from all over a table, and of how many they are chosen.
_SPREAD, _KEYS, _MOST_KEYS = 100, 2_000, 10_000
#: Fewer rows than this from all over it say less than the first page does.
_FEW = 30
#: Rows that are shown.
SHOWN = 5
#: Leading prefixes and reasons that are named.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows in key order. `whole` when there are no others; the first page had `page_rows` and took `milliseconds`."""

    rows: Sequence[Row]
    first: Row | None
    whole: bool
    spread: bool
    page_rows: int
    milliseconds: float


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
    begun = time.perf_counter()
    async with aclosing(source.pages(None)) as pages:
        async for page in pages:
            first = page.rows
            break
        took = (time.perf_counter() - begun) * 1000
        whole = limit is None and len(first) < asked and await anext(pages, None) is None
    spread: Sequence[Row] = ()
    if first and not whole and limit is None and survey.kind in SAMPLED:
        spread = await _spread(source, survey, first)
    enough = len(spread) >= _FEW
    return Sample(spread if enough else first, first[0] if first else None, whole, enough, len(first), took)


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
    seen = [_rendered(row, source, renderer) for row in sample.rows]
    counts = Counter(row.outcome for row in seen)
    reasons = Counter(row.reason for row in seen if row.reason is not None)
    put = [row for row in seen if row.outcome == "put"]
    keys = Counter(row.object_key for row in put)
    prefixes = dict.fromkeys(_leading(row.object_key or "", leading) for row in put)
    shown = [seen[len(seen) * n // SHOWN] for n in range(SHOWN)] if len(seen) > SHOWN else seen
    if sample.first is not None and sample.spread:
        shown[0] = _rendered(sample.first, source, renderer)
    return Rehearsal(
        Trial(len(seen), counts["put"], counts["skipped"], counts["failed"], tuple(reasons.most_common(_NAMED))),
        tuple(shown),
        tuple(row.size or 0 for row in put),
        tuple(prefixes),
        sum(1 for rows in keys.values() if rows > 1),
    )


def _rendered(row: Row, source: PostgresSource, renderer: Renderer) -> SampledRow:
    key, size = source.shape.key(row), row[-2]
    given = (*row[:-1], b"") if is_deferred(row) else row
    try:
        upload = renderer.render(given)
    except RowRefused as refused:
        return SampledRow(key, renderer.key_of(row), size, {}, "failed", refused.message)
    if upload is None:
        return SampledRow(key, renderer.key_of(row), None, {}, "skipped", "the body is NULL")
    return SampledRow(key, upload.key, size or 0, dict(upload.headers), "put")


def _leading(key: str, leading: int) -> str:
    """Where S3's rate is counted, as far as a key shows it: up to the first slash behind its literal beginning."""
    end = key.find("/", leading)
    return key[: end + 1] if end >= 0 else key[:leading]
