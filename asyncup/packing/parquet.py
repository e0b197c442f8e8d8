"""Packs that are Parquet files, with the table's own types.

    int2, int4, int8            INT16, INT32, INT64
    float4, float8              FLOAT, DOUBLE
    numeric(p, s)               DECIMAL(p, s); without precision, or with one over 76, text
    bool                        BOOLEAN
    bytea                       BYTE_ARRAY
    date, time                  DATE, TIME(micros)
    timestamp, timestamptz      TIMESTAMP(micros), the latter in UTC
    arrays                      LIST of those
    everything else             text as Postgres writes it; json, composites and the like as JSON

A NOT NULL column is required. Values come from the row as JSON and keep the text that Postgres gave until Arrow reads it,
so that nothing is rounded on the way. What a type cannot hold (infinity, years beyond 1 to 9999, `24:00`, NaN in a decimal,
an array of more than one dimension) is found when its row comes, and that row is refused.

Rows are turned into Arrow's columns every thousand, and written as a row group when those take 16 MiB. Source of the types:
https://parquet.apache.org/docs/file-format/types/logicaltypes/.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asyncup.model import Row
from asyncup.packing.layout import Codec, Layout
from asyncup.packing.records import Number, compact, compile_reader, refused

#: How many rows, and how many bytes of them as JSON, are held as Python's values.
PORTION_ROWS = 1_000
PORTION_BYTES = 1 << 20
#: How much Arrow holds before it is written: small enough to be held for several packs, large enough for its readers.
GROUP_BYTES = 16 << 20
_DEFAULT_LEVEL = 3
#: What a file begins with.
_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column becomes. `check` gives what `carrier` holds of a value, or raises ValueError; Arrow casts the rest."""

    type: pa.DataType
    carrier: pa.DataType
    check: Callable[[Any], Any] | None

    def array(self, values: Sequence[Any]) -> pa.Array:
        """Checked values as one column."""
        carried = pa.array(values, self.carrier)
        return carried if self.carrier.equals(self.type) else carried.cast(self.type)


class ParquetPack:
    """One file."""

    def __init__(self, layout: Layout, kinds: Sequence[Kind], schema: pa.Schema, codec: Codec | None) -> None:
        self._names = [column.name for column in layout.columns]
        self._read = compile_reader(layout.columns, "parquet")
        self._kinds = kinds
        self._checks = [(position, kind.check) for position, kind in enumerate(kinds) if kind.check is not None]
        self._required = [position for position, column in enumerate(layout.columns) if column.not_null]
        self._schema = schema
        self._rows: list[list[Any]] = []
        self._size = 0
        self._batches: list[pa.RecordBatch] = []
        self._held = 0
        self._outlet = _Outlet()
        self._writer = pq.ParquetWriter(
            self._outlet,
            schema,
            compression="zstd" if codec is None else codec.encoding,
            compression_level=_DEFAULT_LEVEL if codec is None else codec.level,
        )

    def add(self, row: Row) -> bytes:
        """See `Pack`. Bytes come when a row group is full."""
        record: bytes = row[-1]
        values = self._read(record)
        for position, check in self._checks:
            value = values[position]
            if value is not None:
                try:
                    values[position] = check(value)
                except ValueError as exc:
                    raise self._refused(position, str(exc)) from None
        if None in values:
            for position in self._required:
                if values[position] is None:
                    raise self._refused(position, "it is NULL, and the column was NOT NULL when the run began")
        self._rows.append(values)
        self._size += len(record)
        if len(self._rows) < PORTION_ROWS and self._size < PORTION_BYTES:
            return b""
        self._convert()
        if self._held >= GROUP_BYTES:
            self._write()
        return self._outlet.take()

    def finish(self) -> bytes:
        """See `Pack`."""
        self._convert()
        if self._batches or self._outlet.tell() == len(_MAGIC):  # some readers want a row group in every file
            self._write()
        self._writer.close()
        return self._outlet.take()

    def index(self) -> bytes:
        """There is none: rows lie in columns."""
        return b""

    def _convert(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [kind.array(column) for kind, column in zip(self._kinds, columns, strict=True)]
            self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._held += self._batches[-1].nbytes
            self._rows, self._size = [], 0

    def _write(self) -> None:
        group = pa.Table.from_batches(self._batches, self._schema)
        self._writer.write_table(group, row_group_size=max(group.num_rows, 1))
        self._batches, self._held = [], 0

    def _refused(self, position: int, fault: str) -> Exception:
        return refused(
            "parquet",
            f"the value of column {self._names[position]} has no place in its type {self._kinds[position].type}: {fault}",
            "read such a column as text: --query 'select …::text …'",
        )


def open_parquet(layout: Layout, codec: Codec | None) -> Callable[[], ParquetPack]:
    """What begins Parquet files; `codec` is that of their columns, zstd where there is none.

    Raises:
        UsageError: the records are not whole rows, or two columns have one name.
    """
    layout.check_plain("parquet")
    kinds = [_kind(column.base, column.modifier) for column in layout.columns]
    schema = pa.schema(
        [
            pa.field(column.name, kind.type, nullable=not column.not_null)
            for column, kind in zip(layout.columns, kinds, strict=True)
        ]
    )
    return lambda: ParquetPack(layout, kinds, schema, codec)


class _Outlet:
    """What the writer takes for a file."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _kind(base: str, modifier: int) -> Kind:
    """What a column of the type named `base` becomes."""
    if base.startswith("_"):
        element = _kind(base[1:], modifier)
        return Kind(pa.list_(element.type), pa.list_(element.carrier), _list_of(element.check))
    if base == "numeric" and modifier >= 0:
        decimal = _decimal(modifier)
        if decimal is not None:
            return Kind(decimal, pa.string(), _finite)
    return _KINDS.get(base, _TEXT)


def _decimal(modifier: int) -> pa.DataType | None:
    """Precision and scale from a type modifier: a scale may be negative, or larger than the precision.

    Source: `numeric_typmod_scale` in https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/utils/adt/numeric.c
    """
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, ((modifier - 4 & 0x7FF) ^ 1024) - 1024
    precision, scale = max(precision, scale) - min(scale, 0), max(scale, 0)
    if precision > 76:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _finite(value: Any) -> Any:
    if type(value) is not Number:
        raise ValueError(_shown(value))
    return value


def _matching(pattern: str) -> Callable[[Any], Any]:
    matches = re.compile(pattern).fullmatch

    def check(value: Any) -> Any:
        if matches(value) is None:
            raise ValueError(_shown(value))
        return value

    return check


def _microseconds(value: Any) -> int:
    """Since midnight."""
    if value.startswith("24"):
        raise ValueError(_shown(value))
    time = dt.time.fromisoformat(value)
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond


def _text(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)


def _bytes(value: Any) -> bytes:
    r"""From `\x00ff`, as sessions with `bytea_output = hex` write it."""
    return bytes.fromhex(value[2:])


def _list_of(check: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if check is not compact and any(type(one) is list for one in value):
            raise ValueError("an array of more than one dimension")
        return value if check is None else [None if one is None else check(one) for one in value]

    return checked


def _shown(value: Any) -> str:
    return repr(str(value)[:80])


_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d:\d\d(?:\.\d{1,6})?"
_TEXT = Kind(pa.string(), pa.string(), _text)
_JSON = Kind(pa.string(), pa.string(), compact)
_KINDS = {
    "int2": Kind(pa.int16(), pa.string(), None),
    "int4": Kind(pa.int32(), pa.string(), None),
    "int8": Kind(pa.int64(), pa.string(), None),
    "float4": Kind(pa.float32(), pa.string(), None),
    "float8": Kind(pa.float64(), pa.string(), None),
    "bool": Kind(pa.bool_(), pa.bool_(), None),
    "bytea": Kind(pa.binary(), pa.binary(), _bytes),
    "date": Kind(pa.date32(), pa.string(), _matching(_DATE)),
    "time": Kind(pa.time64("us"), pa.int64(), _microseconds),
    "timestamp": Kind(pa.timestamp("us"), pa.string(), _matching(f"{_DATE}T{_TIME}")),
    "timestamptz": Kind(pa.timestamp("us", "UTC"), pa.string(), _matching(rf"{_DATE}T{_TIME}\+00:00")),
    "json": _JSON,
    "jsonb": _JSON,
}
