"""The values that travel through the pipeline: key, row, page, upload, receipt, dead letter.

A row is the plain sequence that the driver gives, never copied: first the pagination key as text, then the columns
that templates name, also as text, then the body's size and the body. `RowShape` says where each part lies.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import Any, NamedTuple

#: A pagination key: each column as the text that Postgres gave; None where the column is NULL.
Key = tuple[str | None, ...]

#: One row, in the order that `RowShape` describes.
Row = Sequence[Any]

#: What one row costs in memory beside its body: the record, its key and column texts, its place in the queues.
ROW_OVERHEAD = 512

#: Header name (lower case) and value pairs.
Headers = tuple[tuple[str, str], ...]


def timestamp() -> str:
    """Now, as state files and dead letters write it: UTC, ISO 8601, milliseconds."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the source.

    `type` is the type beneath any domain as SQL writes it (`format_type`), for casts; `base` is its `typname`, which
    decides how a format spec decodes the value. `modifier` is its `atttypmod`, which holds the precision and the scale of
    a `numeric`; -1 where it has none, and for the columns of a query.
    """

    name: str
    type: str
    base: str
    not_null: bool = False
    modifier: int = -1


@dataclass(frozen=True, slots=True)
class RowShape:
    """Where the parts of a row lie: `keys` key columns, then `columns` in order, then size and body at the end.

    `row[-2]` is the body's size in bytes, None for NULL; `row[-1]` is the body, or None when it is NULL or deferred.
    Where the body is `Streamed`, `row[-2]` is what of it may be in memory.
    """

    keys: int
    columns: tuple[Column, ...] = ()

    def key(self, row: Row) -> Key:
        """The row's pagination key."""
        return tuple(row[: self.keys])

    def index(self, name: str) -> int:
        """Where the column of that name lies in a row."""
        for position, column in enumerate(self.columns):
            if column.name == name:
                return self.keys + position
        raise KeyError(name)


def is_deferred(row: Row) -> bool:
    """True when the row has a body that was too large to come with its page."""
    return row[-1] is None and row[-2] is not None


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a source that is read by itself; without bounds all of it.

    Its rows have keys that are not below `lower`, and below `upper`; bounds are of keys without NULLs. `nulls` says
    whether rows with a NULL in their key are part of it: None for both kinds, False for those without, True for those
    with. `leaf` is the partition that it lies in, by its oid; None for any.
    """

    lower: Key | None = None
    upper: Key | None = None
    nulls: bool | None = None
    leaf: int | None = None


#: All of a source.
WHOLE = Range()


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a range is settled: up to and including the row with the key `watermark`; `finished` when to its end."""

    part: Range
    watermark: Key | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in key order, as one statement returned them."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)


#: What is larger than this is never in memory whole, if the destination can take it piece by piece: it goes in parts then.
STREAM_BYTES = 16 << 20
#: Bytes of a streamed body that are read at a time. While they are, the driver holds them twice.
SLICE_BYTES = 8 << 20


#: The size of what only its end tells.
UNTOLD = -1


class Slices(NamedTuple):
    """A streamed body that is being read: its size, and the bytes of one version, in order, slice by slice.

    Reading them raises what `Streamed.open` does. Not one byte more or less than `size` comes, or an error. It is
    `UNTOLD` where the bytes are made while they are read, so that only the end tells how many there are; such a body is
    sent, and compared with nothing.
    """

    size: int
    slices: AsyncIterator[bytes]


@dataclass(slots=True, eq=False)
class Streamed:
    """A body that is too large to be held: whoever sends it reads it slice by slice, from the beginning at each attempt.

    Attributes:
        size: its bytes when its page was read, 0 where nobody knows; `len` gives it too. `open` says how many there are then.
            Of a body that is made while it is read, about the most that there will be.
        window: how much of it a sink may hold at a time, beside the slice that is being read; one part if that is more.
        open: begins to read. Each time it is as it is then.

    One that is made while it is read, a pack, can be opened once; then `open` raises PackBroken. `open` raises RowGone when the row is no longer there, RowRefused when its body cannot be read, and whatever else a
    source does.
    """

    size: int
    window: int
    open: Callable[[], AbstractAsyncContextManager[Slices]]

    def __len__(self) -> int:
        return self.size


#: Makes a named tuple from all of its values at half the price of calling it, which is a function of Python's own: for
#: the few that are made for every row.
tuple_of = tuple.__new__


class Upload(NamedTuple):
    """One object to be: its key (no bucket), its bytes and its headers. Only a large body may be a streamed one.

    A named tuple, as is Receipt: one is made for each row, at half the cost of a frozen dataclass.
    """

    key: str
    body: bytes | Streamed
    headers: Headers = ()


#: What a transform makes of a row: bodies under the row's own object key, or whole uploads; none for a row to skip.
Products = tuple["bytes | Upload", ...]


class Receipt(NamedTuple):
    """The destination's word that it holds an object. Exists only for an acknowledged upload."""

    key: str
    size: int
    etag: str | None = None


class Listed(NamedTuple):
    """An object that a destination says it holds. `etag` is without quotes, None where there is none."""

    key: str
    size: int
    etag: str | None = None


class Likeness(Enum):
    """What comparing an upload with an object came to, where no difference was found."""

    BYTES = "bytes"  #: the bytes agree, or a hash or checksum of them
    SIZE = "size"  #: the sizes agree, and nothing else could be compared


class Document(NamedTuple):
    """A small object with what tells its versions apart.

    `written` and `now` are when it was written and when it was read, in seconds since 1970, both by the server's own
    clock; None where the server does not say.
    """

    content: bytes
    etag: str
    written: float | None = None
    now: float | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that could not be published, and why. `at` is UTC, ISO 8601."""

    key: Key
    object_key: str | None
    error: str
    op: str
    message: str
    attempts: int
    at: str
    #: that of the user's function, where it was one that failed
    traceback: str | None = None
    #: what S3 calls the request that it refused, for AWS support
    request_id: str | None = None
    host_id: str | None = None


class Outcome(IntEnum):
    """How a row was settled."""

    PUT = 0
    SKIPPED = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """Settled rows by outcome, and the bytes of those that were put. `rows = put + skipped + failed`, always."""

    put: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0

    @property
    def rows(self) -> int:
        return self.put + self.skipped + self.failed

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.put + other.put,
            self.skipped + other.skipped,
            self.failed + other.failed,
            self.bytes + other.bytes,
        )

    def __sub__(self, other: Counts) -> Counts:
        return self + Counts(-other.put, -other.skipped, -other.failed, -other.bytes)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a job stands: every row up to and including `watermark` is settled.

    `fingerprint` holds what must not change between the runs of one checkpoint, readable, field by field. `counts`
    covers exactly the rows up to the watermark, over all runs since the checkpoint began. `watermark` is None while
    no row is known to be settled. A source that is read in parts has `ranges`, each with a watermark of its own, in
    place of the one. `started` and `saved` are UTC, ISO 8601. `options` are those of the last run
    (`Config.kept`), for people and commands that go on; older checkpoints have none. `mark` is what an incremental run
    read up to, and what the next one begins with; empty for other runs.
    """

    name: str
    fingerprint: dict[str, Any]
    watermark: Key | None
    counts: Counts
    finished: bool
    started: str
    saved: str
    options: dict[str, Any] = field(default_factory=dict)
    mark: dict[str, Any] = field(default_factory=dict)
    ranges: tuple[Reach, ...] = ()

    @property
    def reaches(self) -> tuple[Reach, ...]:
        """The ranges; one of everything where the source is not divided."""
        return self.ranges or (Reach(WHOLE, self.watermark, self.finished),)

    @property
    def finished_ranges(self) -> int:
        """How many of the ranges are settled to their end."""
        return sum(reach.finished for reach in self.reaches)

    def at(self, reaches: tuple[Reach, ...]) -> Checkpoint:
        """The same checkpoint with its ranges settled so far."""
        return replace(self, ranges=reaches) if self.ranges else replace(self, watermark=reaches[0].watermark)

    @property
    def letters(self) -> int:
        """How many dead letters belong to it: those of its rows, and of the runs before it that an increment follows."""
        return self.counts.failed + int(self.mark.get("letters", 0))

    @property
    def has_begun(self) -> bool:
        """Whether there are rows that need not be sent again."""
        return any(reach.watermark is not None for reach in self.reaches)
