"""The values that travel through the pipeline: key, row, page, upload, receipt, dead letter.

A row is the plain sequence that the driver gives, never copied: first the pagination key as text, then the columns
that templates name, also as text, then the body's size and the body. `RowShape` says where each part lies.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    decides how a format spec decodes the value.
    """

    name: str
    type: str
    base: str
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class RowShape:
    """Where the parts of a row lie: `keys` key columns, then `columns` in order, then size and body at the end.

    `row[-2]` is the body's size in bytes, None for NULL; `row[-1]` is the body, or None when it is NULL or deferred.
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
class Page:
    """Rows in key order, as one statement returned them."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)


#: Makes a named tuple from all of its values at half the price of calling it, which is a function of Python's own: for
#: the few that are made for every row.
tuple_of = tuple.__new__


class Upload(NamedTuple):
    """One object to be: its key (no bucket), its bytes and its headers.

    A named tuple, as is Receipt: one is made for each row, at half the cost of a frozen dataclass.
    """

    key: str
    body: bytes
    headers: Headers = ()


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
    no row is known to be settled. `started` and `saved` are UTC, ISO 8601. `options` are those of the last run
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
