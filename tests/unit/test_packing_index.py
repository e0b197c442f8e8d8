"""The index of a pack: what it says of a row is where the row's record lies. And what holds for packs of every format."""

from __future__ import annotations

import json

import pytest

from asyncup.errors import UsageError
from asyncup.model import Column, RowShape
from asyncup.packing.formats import FORMATS, open_packing
from asyncup.packing.layout import Layout
from tests.unit.packs import column, decompressed, index_lines, json_row, layout, packed, packing

COLUMNS = layout(column("note", "text"))
ROWS = [json_row(n, note=note) for n, note in enumerate(["", None, "é\n" * 100, "a" * 3000, "b"])]


@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("name", ["ndjson", "csv", "tar"])
def test_each_row_is_read_by_the_range_that_the_index_gives(name: str, compress: str) -> None:
    data, index = packed(packing(name, COLUMNS, compress=compress, indexed=True), ROWS)
    plain, nothing = packed(packing(name, COLUMNS), ROWS)
    assert decompressed(compress, data) == plain, "the whole is still one object"
    assert nothing == b""
    lines = list(index_lines(index))
    assert [line["key"] for line in lines] == [[row[0]] for row in ROWS]
    for line, row in zip(lines, ROWS, strict=True):
        found = decompressed(compress, data[line["offset"] : line["offset"] + line["length"]])
        if name == "csv":
            assert found.startswith(row[0].encode() + b",")
            assert found.endswith(b"\n")
            assert plain.count(found) == 1
        else:
            assert found == row[-1] + (b"\n" if name == "ndjson" else b"")
        assert line.get("member") == (f"{row[0]}.json" if name == "tar" else None)


def test_a_line_of_the_index_holds_any_key() -> None:
    shape = RowShape(2, (Column("a", "text", "text"),))
    tar = open_packing("tar", Layout(shape, shape.columns), indexed=True, member=lambda row: row[2])
    data, index = packed(tar, [('é"\n\\', None, "m/1", 0, b""), ("b", "c", "m/2", 1, b"x")])
    assert index.count(b"\n") == 2
    assert list(index_lines(index)) == [
        {"key": ['é"\n\\', None], "member": "m/1", "offset": 512, "length": 0},
        {"key": ["b", "c"], "member": "m/2", "offset": 1024, "length": 1},
    ]
    assert data[1024:1025] == b"x"


def test_parquet_has_no_index_since_a_row_lies_in_many_places() -> None:
    with pytest.raises(UsageError, match="no range of bytes is one row"):
        packing("parquet", COLUMNS, indexed=True)


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_rows_are_the_same_bytes_in_packs_that_are_made_side_by_side(
    name: str, compress: str, indexed: bool
) -> None:
    if name == "parquet" and indexed:
        return
    rows = [json_row(n, note=str(n) * 9) for n in range(1500)]
    one = packing(name, COLUMNS, compress=compress, indexed=indexed)
    first, second = one.begin(), packing(name, COLUMNS, compress=compress, indexed=indexed).begin()
    pieces: tuple[list[bytes], list[bytes]] = ([], [])
    for row in rows:
        pieces[0].append(first.add(row))
        pieces[1].append(second.add(row))
    assert b"".join([*pieces[0], first.finish()]) == b"".join([*pieces[1], second.finish()]) == packed(one, rows)[0]
    assert first.index() == second.index()
    assert bool(first.index()) == indexed


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("ndjson", "application/x-ndjson"),
        ("csv", "text/csv; charset=utf-8"),
        ("tar", "application/x-tar"),
        ("parquet", "application/vnd.apache.parquet"),
    ],
)
def test_a_packing_says_what_its_objects_are(name: str, content_type: str) -> None:
    plain, gzip = packing(name, COLUMNS), packing(name, COLUMNS, compress="gzip")
    assert (plain.content_type, plain.content_encoding, plain.extension) == (content_type, None, f".{name}")
    assert (gzip.content_type, gzip.extension) == (content_type, f".{name}")
    assert gzip.content_encoding == (None if name == "parquet" else "gzip"), "parquet is compressed within"
    assert gzip.is_heavy
    assert plain.is_heavy == (name == "parquet")


def test_records_come_out_at_once() -> None:
    pack = packing("ndjson", COLUMNS).begin()
    assert [json.loads(pack.add(row)) for row in ROWS] == [json.loads(row[-1]) for row in ROWS]
    assert pack.finish() == b""
