"""Rows and packs of them, for the tests of packing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from typing import Any

from asyncup.model import Column, Row, RowShape
from asyncup.packing.formats import RowPacking, open_packing
from asyncup.packing.layout import Layout
from asyncup.render.compression import compile_compression

ID = Column("id", "bigint", "int8", not_null=True)
SHAPE = RowShape(1, (ID,))


def layout(*columns: Column, body: Column | None = None, transformed: bool = False) -> Layout:
    """Of rows whose key is `id`, which is also their first column."""
    return Layout(SHAPE, (ID, *columns), body, transformed)


def column(name: str, base: str, *, not_null: bool = False, modifier: int = -1) -> Column:
    return Column(name, base, base, not_null, modifier)


def row(key: object, record: bytes | None) -> Row:
    return (str(key), str(key), None if record is None else len(record), record)


def json_row(key: int, **values: Any) -> Row:
    """A row whose record is itself, as `row_to_json` writes it."""
    return row(key, json.dumps({"id": key, **values}, ensure_ascii=False, separators=(",", ":")).encode())


def packing(name: str, layout: Layout, *, compress: str = "none", indexed: bool = False) -> RowPacking:
    """With members named after the key."""
    return open_packing(
        name,
        layout,
        compression=compile_compression(compress),
        indexed=indexed,
        member=(lambda row: f"{row[1]}.json") if name == "tar" else None,
    )


def packed(packing: RowPacking, rows: Iterable[Row]) -> tuple[bytes, bytes]:
    """The object and its index."""
    pack = packing.begin()
    pieces = [pack.add(row) for row in rows]
    pieces.append(pack.finish())
    return b"".join(pieces), pack.index()


def decompressed(compress: str, data: bytes) -> bytes:
    if compress == "gzip":
        return gzip.decompress(data)
    return zstd().decompress(data) if compress == "zstd" else data


def zstd() -> Any:
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd


def index_lines(index: bytes) -> Iterator[dict[str, Any]]:
    return map(json.loads, index.splitlines())
