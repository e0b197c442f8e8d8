r"""Packs of lines: NDJSON, and CSV as `psql`'s `\copy … csv header` writes it.

NDJSON (https://github.com/ndjson/ndjson-spec): one JSON text a line, UTF-8, each line ended by `\n`.

CSV (RFC 4180, but for the line end, which is `\n` as Postgres writes it: https://www.postgresql.org/docs/current/sql-copy.html):
a NULL is an empty field and an empty text is `""`; fields are quoted where they must be. Values are those of the row as
JSON: times as ISO 8601 with a `T`, booleans `true` and `false`, `bytea` in hex, json, arrays and composites as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from asyncup.model import Row
from asyncup.packing.layout import Codec, Layout, refused
from asyncup.packing.outlet import Outlet
from asyncup.packing.records import Number, compact, compile_reader
from asyncup.packing.records import refused as row_refused

#: A field that needs no quotes.
_is_plain = re.compile('[^",\r\n]+').fullmatch


class LinesPack:
    """One object of lines. `line` makes one of a record, and says what cannot be one."""

    def __init__(self, layout: Layout, outlet: Outlet, line: Callable[[Any], bytes], header: bytes) -> None:
        self._keys = layout.shape.keys
        self._outlet = outlet
        self._line = line
        self._header = header

    def add(self, row: Row) -> bytes:
        """See `Pack`."""
        line = self._line(row[-1])
        head = self._begin()
        return head + self._outlet.record(tuple(row[: self._keys]), line)

    def finish(self) -> bytes:
        """See `Pack`."""
        head = self._begin()
        return head + self._outlet.finish()

    def index(self) -> bytes:
        """See `Pack`."""
        return self._outlet.index()

    def _begin(self) -> bytes:
        """The header line, where it has not come out yet."""
        header, self._header = self._header, b""
        return self._outlet.add(header) if header else b""


def open_ndjson(layout: Layout, codec: Codec | None, *, indexed: bool) -> Callable[[], LinesPack]:
    """What begins packs of NDJSON.

    Raises:
        UsageError: the records are not JSON.
    """
    if layout.body is not None and layout.body.base not in ("json", "jsonb") and not layout.transformed:
        raise refused(
            f"ndjson is made of JSON, and column {layout.body.name} is of type {layout.body.type}",
            "leave --body out for whole rows as JSON, give a --transform that makes JSON of it, or use --pack tar",
        )
    line = _checked_line if layout.transformed else _json_line
    return lambda: LinesPack(layout, Outlet(codec, indexed=indexed), line, b"")


def _json_line(record: bytes | None) -> bytes:
    """JSON that the server made. A line break in it is between its tokens: within strings JSON has none (RFC 8259, 7)."""
    if not record:
        raise row_refused("ndjson", "the record is empty, and an empty line is no JSON", "use --on-null skip")
    if b"\n" in record or b"\r" in record:
        record = record.replace(b"\n", b" ").replace(b"\r", b" ")
    return record + b"\n"


def _checked_line(record: bytes | None) -> bytes:
    """JSON that a user's function made, if it is that."""
    try:
        json.loads(str(record or b"", "utf-8"), parse_constant=_no_constant, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as exc:
        raise row_refused("ndjson", f"what --transform gave is not JSON in UTF-8: {exc}") from None
    return _json_line((record or b"").strip(b" \t\r\n"))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def open_csv(layout: Layout, codec: Codec | None, *, indexed: bool) -> Callable[[], LinesPack]:
    """What begins packs of CSV.

    Raises:
        UsageError: the records are not whole rows, or two columns have one name.
    """
    layout.check_plain("csv")
    read = compile_reader(layout.columns, "csv")
    documents = [position for position, column in enumerate(layout.columns) if column.base in ("json", "jsonb")]
    is_alone = len(layout.columns) == 1

    def line(record: bytes | None) -> bytes:
        values = read(record)
        try:
            for position in documents:
                if values[position] is not None:
                    values[position] = compact(values[position])
            text = ",".join([_field(value) for value in values])
        except ValueError as exc:
            raise row_refused("csv", str(exc)) from None
        if is_alone and text == "\\.":  # the end of the data, to servers before PostgreSQL 18
            text = '"\\."'
        return (text + "\n").encode()

    header = ",".join([_field(column.name) for column in layout.columns]) + "\n"
    return lambda: LinesPack(layout, Outlet(codec, indexed=indexed), line, header.encode())


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Number):
        return value
    text = value if isinstance(value, str) else compact(value)
    return text if _is_plain(text) else '"' + text.replace('"', '""') + '"'
