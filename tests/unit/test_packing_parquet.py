"""Parquet: pyarrow's reader gives back the table's own types and values."""

from __future__ import annotations

import datetime as dt
import io
import json
import sys
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.errors import RowRefused, UsageError
from asyncup.model import Column
from asyncup.packing import parquet
from tests.unit.packs import column, json_row, layout, packed, packing, row

UTC = dt.timezone.utc


def numeric(precision: int, scale: int) -> int:
    """The `atttypmod` of numeric(precision, scale), as `numerictypmodin` makes it."""
    return (precision << 16 | scale & 0x7FF) + 4


def file_of(columns: tuple[Column, ...], records: list[str], compress: str = "none") -> pq.ParquetFile:
    """What a reader sees of rows whose columns, beside `id`, are those members of JSON."""
    rows = [row(n, f'{{"id":{n},{record}}}'.encode()) for n, record in enumerate(records)]
    return pq.ParquetFile(io.BytesIO(packed(packing("parquet", layout(*columns), compress=compress), rows)[0]))


@pytest.mark.parametrize(
    ("base", "modifier", "type_", "values"),
    [
        ("int2", -1, pa.int16(), {"-32768": -32768, "32767": 32767}),
        ("int4", -1, pa.int32(), {"-2147483648": -(2**31)}),
        ("int8", -1, pa.int64(), {"-9223372036854775808": -(2**63), "9223372036854775807": 2**63 - 1}),
        ("float4", -1, pa.float32(), {"0.5": 0.5, "1e+38": 9.999999680285692e37, '"-Infinity"': float("-inf")}),
        ("float8", -1, pa.float64(), {"0.1": 0.1, "5e-324": 5e-324, "-0": -0.0, '"Infinity"': float("inf")}),
        ("numeric", numeric(10, 2), pa.decimal128(10, 2), {"-12345678.90": Decimal("-12345678.90")}),
        ("numeric", numeric(38, 0), pa.decimal128(38, 0), {"9" * 38: Decimal("9" * 38)}),
        ("numeric", numeric(76, 1), pa.decimal256(76, 1), {"9" * 75 + ".1": Decimal("9" * 75 + ".1")}),
        ("numeric", numeric(3, -2), pa.decimal128(5, 0), {"12300": Decimal(12300)}),
        ("numeric", numeric(3, 5), pa.decimal128(5, 5), {"0.00123": Decimal("0.00123")}),
        ("numeric", numeric(77, 0), pa.string(), {"1" * 77: "1" * 77}),
        ("numeric", -1, pa.string(), {"1.10": "1.10", '"NaN"': "NaN", "1" * 5000: "1" * 5000}),
        ("bool", -1, pa.bool_(), {"true": True, "false": False}),
        ("text", -1, pa.string(), {'"a\\n\\"é"': 'a\n"é', '""': ""}),
        ("bytea", -1, pa.binary(), {'"\\\\x00ff"': b"\x00\xff", '"\\\\x"': b""}),
        ("date", -1, pa.date32(), {'"0001-01-01"': dt.date.min, '"9999-12-31"': dt.date.max}),
        ("time", -1, pa.time64("us"), {'"00:00:00"': dt.time.min, '"23:59:59.999999"': dt.time.max, '"01:02:03.5"': dt.time(1, 2, 3, 500000)}),
        ("timestamp", -1, pa.timestamp("us"), {'"0001-01-01T00:00:00"': dt.datetime.min, '"9999-12-31T23:59:59.999999"': dt.datetime.max}),
        ("timestamptz", -1, pa.timestamp("us", "UTC"), {'"2024-02-29T12:00:00.5+00:00"': dt.datetime(2024, 2, 29, 12, 0, 0, 500000, UTC)}),
        ("interval", -1, pa.string(), {'"1 mon 02:03:04"': "1 mon 02:03:04"}),
        ("uuid", -1, pa.string(), {f'"{uuid.UUID(int=7)}"': str(uuid.UUID(int=7))}),
        ("jsonb", -1, pa.string(), {'{"b": 1.10, "a": [1, "x"]}': '{"b":1.10,"a":[1,"x"]}', '"t"': '"t"', "1.0": "1.0"}),
        ("int4range", -1, pa.string(), {'"[1,5)"': "[1,5)"}),
        ("mood", -1, pa.string(), {'"sad"': "sad"}),
        ("point_of_mine", -1, pa.string(), {'{"x":1.0,"y":null}': '{"x":1.0,"y":null}'}),
        ("_int4", -1, pa.list_(pa.int32()), {"[1,null,3]": [1, None, 3], "[]": []}),
        ("_numeric", numeric(4, 1), pa.list_(pa.decimal128(4, 1)), {"[1.5]": [Decimal("1.5")]}),
        ("_text", -1, pa.list_(pa.string()), {'["a",null]': ["a", None]}),
        ("_bytea", -1, pa.list_(pa.binary()), {'["\\\\x61"]': [b"a"]}),
        ("_bool", -1, pa.list_(pa.bool_()), {"[true,null]": [True, None]}),
        ("_time", -1, pa.list_(pa.time64("us")), {'["01:02:03"]': [dt.time(1, 2, 3)]}),
        ("_date", -1, pa.list_(pa.date32()), {'["2024-01-31"]': [dt.date(2024, 1, 31)]}),
        ("_jsonb", -1, pa.list_(pa.string()), {'[{"a":1},[1],null]': ['{"a":1}', "[1]", None]}),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_keeps_its_type_and_its_values(
    base: str, modifier: int, type_: pa.DataType, values: dict[str, Any]
) -> None:
    records = [*(f'"v":{text}' for text in values), '"v":null']
    found = file_of((column("v", base, modifier=modifier),), records).read()
    assert found.schema.field("v").type == type_
    assert list(map(str, found["v"].to_pylist())) == list(map(str, (*values.values(), None))), "-0.0 is not 0.0"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(width=32), st.floats(), st.decimals(-9999, 9999, places=3)), max_size=5))
def test_no_number_is_rounded_on_the_way(values: list[tuple[float, float, Decimal]]) -> None:
    def written(value: float) -> str:
        return str(value) if abs(value) < float("inf") else f'"{str(value).replace("inf", "Infinity")}"'

    columns = (column("f4", "float4"), column("f8", "float8"), column("n", "numeric", modifier=numeric(7, 3)))
    records = [f'"f4":{written(f4)},"f8":{written(f8)},"n":{n:.3f}' for f4, f8, n in values]
    found = (
        file_of(columns, [record.replace("nan", '"NaN"').replace('""', '"') for record in records]).read().to_pylist()
    )
    assert [repr((one["f4"], one["f8"], one["n"])) for one in found] == [repr(one) for one in values]


@pytest.mark.parametrize(
    ("base", "modifier", "text"),
    [
        ("numeric", numeric(10, 2), '"NaN"'),
        ("numeric", numeric(10, 2), '"Infinity"'),
        ("date", -1, '"infinity"'),
        ("date", -1, '"0044-03-15 BC"'),
        ("date", -1, '"10000-01-01"'),
        ("timestamp", -1, '"-infinity"'),
        ("timestamp", -1, '"10000-01-01T00:00:00"'),
        ("timestamptz", -1, '"0044-03-15T00:00:00+00:00 BC"'),
        ("time", -1, '"24:00:00"'),
        ("_int4", -1, "[[1,2],[3,4]]"),
        ("_date", -1, '["infinity"]'),
        ("_mood", -1, '[["sad"]]'),
    ],
)
def test_a_value_that_the_type_cannot_hold_is_refused_by_its_column_and_leaves_the_pack_as_it_was(
    base: str, modifier: int, text: str
) -> None:
    parquet_packing = packing("parquet", layout(column("valid to", base, modifier=modifier)))
    good = row(1, b'{"id":1,"valid to":null}')
    pack = parquet_packing.begin()
    pieces = [pack.add(good)]
    with pytest.raises(RowRefused, match="column valid to") as refused:
        pack.add(row(2, f'{{"id":2,"valid to":{text}}}'.encode()))
    assert refused.value.hint is not None
    pieces += [pack.add(good), pack.finish()]
    assert b"".join(pieces) == packed(parquet_packing, [good, good])[0]


def test_a_column_that_is_never_null_is_required_and_a_null_in_it_is_refused() -> None:
    note = column("note", "text", not_null=True)
    schema = file_of((note, column("more", "text")), ['"note":"a","more":null']).schema_arrow
    assert [field.nullable for field in schema] == [False, False, True]
    with pytest.raises(RowRefused, match=r"column note .*NULL"):
        file_of((note,), ['"note":null'])


@pytest.mark.parametrize(("compress", "codec"), [("none", "ZSTD"), ("gzip", "GZIP"), ("zstd", "ZSTD")])
def test_its_columns_are_compressed(compress: str, codec: str) -> None:
    file = file_of((column("n", "text"),), [f'"n":"{"a" * 500}"'] * 3, compress)
    assert {file.metadata.row_group(0).column(n).compression for n in range(2)} == {codec}


def test_a_pack_without_rows_is_a_file_with_its_columns() -> None:
    file = file_of((column("n", "int4"),), [])
    assert (file.metadata.num_rows, file.schema_arrow.names) == (0, ["id", "n"])


def test_bytes_come_when_a_row_group_is_full_and_no_more_is_held_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 200_000)
    pack = packing("parquet", layout(column("note", "text"))).begin()
    pieces = [pack.add(json_row(n, note=f"{n:08}" * 50)) for n in range(5000)]
    came = [n for n, piece in enumerate(pieces) if len(piece) > 100]
    assert came == [999, 1999, 2999, 3999, 4999]
    file = pq.ParquetFile(io.BytesIO(b"".join([*pieces, pack.finish()])))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [1000] * 5
    assert file.read()["id"].to_pylist() == list(range(5000))


def test_large_rows_are_turned_into_columns_before_they_are_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 3 << 20)
    pack = packing("parquet", layout(column("note", "text"))).begin()
    note = "a" * 300_000
    pieces = [pack.add(json_row(n, note=note)) for n in range(24)]
    assert sum(len(piece) > 100 for piece in pieces) == 2
    table = pq.read_table(io.BytesIO(b"".join([*pieces, pack.finish()])))
    assert table["note"].to_pylist() == [note] * 24


def test_without_pyarrow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, parquet.__name__)
    with pytest.raises(UsageError, match="pyarrow, which cannot be imported") as refused:
        packing("parquet", layout())
    assert refused.value.hint == "pip install 'asyncup[parquet]', or '.[parquet]' in a checkout"


def test_a_row_that_is_no_json_is_refused() -> None:
    with pytest.raises(RowRefused):
        packing("parquet", layout()).begin().add(row(1, json.dumps([1]).encode()))
