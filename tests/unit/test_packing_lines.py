"""Packs of lines: any reader of NDJSON and CSV gets back what was packed."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.errors import RowRefused, UsageError
from asyncup.packing.formats import open_packing
from tests.unit.packs import column, decompressed, json_row, layout, packed, packing, row

TEXTS = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
some = settings(max_examples=40, deadline=None)
DOC = column("doc", "jsonb")
NOTE = column("note", "text")


@some
@given(st.lists(VALUES, max_size=5), st.sampled_from(["none", "gzip", "zstd"]))
def test_each_line_of_ndjson_is_one_record(values: list[Any], compress: str) -> None:
    records = [json.dumps(value, ensure_ascii=False, indent=1).replace("\n", "\r\n").encode() for value in values]
    ndjson = packing("ndjson", layout(DOC, body=DOC), compress=compress)
    data, index = packed(ndjson, [row(n, record) for n, record in enumerate(records)])
    lines = decompressed(compress, data).split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == values
    assert index == b""
    assert ndjson.content_encoding == (None if compress == "none" else compress)


def test_a_record_without_line_breaks_stays_as_it_is() -> None:
    record = b'{"id":1, "n":1.10 ,"t":"\\n"}'
    assert packed(packing("ndjson", layout()), [row(1, record)])[0] == record + b"\n"


@pytest.mark.parametrize("base", ["bytea", "text", "xml"])
def test_a_column_that_is_no_json_needs_a_transform_to_become_ndjson(base: str) -> None:
    body = column("body", base)
    with pytest.raises(UsageError, match="body is of type") as refused:
        packing("ndjson", layout(body, body=body))
    assert refused.value.hint is not None
    assert "--transform" in refused.value.hint
    packing("ndjson", layout(body, body=body, transformed=True))


@pytest.mark.parametrize(
    "record",
    [None, b"", b" ", b"{", b'{"a":1}\n{"a":2}', b'{"a":NaN}', b"[-Infinity]", '"é"'.encode("latin-1"), b"[" * 9999],
)
def test_what_a_transform_gives_is_refused_unless_it_is_json_and_leaves_the_pack_as_it_was(
    record: bytes | None,
) -> None:
    pack = packing("ndjson", layout(transformed=True)).begin()
    before = pack.add(row(1, b' {"a":\n1}\n'))
    with pytest.raises(RowRefused):
        pack.add(row(2, record))
    assert before + pack.add(row(3, b"[]")) + pack.finish() == b'{"a": 1}\n[]\n'


def test_an_empty_record_of_the_source_is_refused() -> None:
    with pytest.raises(RowRefused, match="empty"):
        packing("ndjson", layout(DOC, body=DOC)).begin().add(row(1, b""))


def test_csv_is_what_copy_writes() -> None:
    columns = (NOTE, column("Odd, name", "numeric"), column("ok", "bool"), DOC, column("tags", "_text"))
    records = (
        '{"id":1,"note":"","Odd, name":1.10,"ok":true,"doc":{"b": 1.0, "a": [1, null, "x\\u0000\\ud800"]},"tags":["a,b"]}',
        '{"id":2,"note":null,"Odd, name":123456789012345678901234567890.1,"ok":null,"doc":"text","tags":[]}',
        '{"id":3,"note":"a \\"b\\"\\r\\n,c","Odd, name":"NaN","ok":false,"doc":1.50,"tags":[[1,2],[3,4]]}',
        '{"doc":null,"id":4,"tags":null,"note":" é ","Odd, name":-0.0,"ok":false}',
    )
    data, _ = packed(packing("csv", layout(*columns)), [row(n, text.encode()) for n, text in enumerate(records)])
    assert data.decode() == (
        'id,note,"Odd, name",ok,doc,tags\n'
        '1,"",1.10,true,"{""b"":1.0,""a"":[1,null,""x\\u0000\\ud800""]}","[""a,b""]"\n'
        '2,,123456789012345678901234567890.1,,"""text""",[]\n'
        '3,"a ""b""\r\n,c",NaN,false,1.50,"[[1,2],[3,4]]"\n'
        "4, é ,-0.0,false,,\n"
    )


@some
@given(
    st.lists(st.tuples(TEXTS, st.none() | st.integers(), st.lists(VALUES, max_size=3)), max_size=5),
    st.sampled_from(["none", "gzip", "zstd"]),
)
def test_another_reader_of_csv_gets_every_value(values: list[tuple[str, int | None, list[Any]]], compress: str) -> None:
    columns = (NOTE, column("n", "int4"), DOC)
    rows = [json_row(key, note=note, n=n, doc=doc) for key, (note, n, doc) in enumerate(values)]
    data, _ = packed(packing("csv", layout(*columns), compress=compress), rows)
    lines = list(csv.reader(io.StringIO(decompressed(compress, data).decode(), newline=""), strict=True))
    assert lines[0] == ["id", "note", "n", "doc"]
    assert [(note, int(n) if n else None, json.loads(doc)) for _, note, n, doc in lines[1:]] == values


def test_a_text_that_ended_the_data_is_quoted_where_it_stands_alone() -> None:
    alone = open_packing("csv", layout().__class__(layout().shape, (NOTE,)))
    rows = [row(1, b'{"note":"\\\\."}'), row(2, b'{"note":null}'), row(3, b'{"note":""}')]
    assert packed(alone, rows)[0] == b'note\n"\\."\n\n""\n'


def test_a_pack_of_csv_without_rows_has_its_header() -> None:
    assert packed(packing("csv", layout(NOTE)), [])[0] == b"id,note\n"


@pytest.mark.parametrize(
    "record",
    [
        None,
        b"[]",
        b"1",
        b"{",
        b'{"id":2}',
        b'{"id":2,"note":"a","more":1}',
        b'{"id":2,"other":"a"}',
        b'{"id":2,"note":' + b"[" * 9999 + b"]" * 9999 + b"}",
        b'{"id":2,"note":' + b"[" * 980 + b"]" * 980 + b"}",
    ],
)
def test_a_record_that_is_not_such_a_row_is_refused_and_leaves_the_pack_as_it_was(record: bytes | None) -> None:
    pack = packing("csv", layout(NOTE)).begin()
    with pytest.raises(RowRefused):
        pack.add(row(2, record))
    data = pack.add(json_row(1, note="a"))
    with pytest.raises(RowRefused):
        pack.add(row(2, record))
    assert data + pack.finish() == b"id,note\n1,a\n"


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_a_format_of_columns_takes_whole_rows_whose_columns_differ_in_name(name: str) -> None:
    for bad in (layout(NOTE, body=NOTE), layout(NOTE, transformed=True), layout(NOTE, NOTE)):
        with pytest.raises(UsageError):
            open_packing(name, bad)


@pytest.mark.parametrize("name", ["zip", ""])
def test_a_format_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="none of ndjson, csv, tar, parquet"):
        open_packing(name, layout())


def test_only_members_of_an_archive_have_names() -> None:
    with pytest.raises(UsageError, match="have names"):
        open_packing("csv", layout(), member=lambda _: "a")
    with pytest.raises(UsageError, match="need names"):
        open_packing("tar", layout())
