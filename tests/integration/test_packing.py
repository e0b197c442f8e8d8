"""Packs of real rows of every type: what a reader finds is what the table holds."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import RowRefused
from asyncup.packing.formats import open_packing
from asyncup.packing.layout import Layout
from tests.conftest import Database
from tests.integration.reading import prepared, rows, source, sql

#: Each type, what a NOT NULL row of it holds, and what a file of Parquet is to hold of that.
TYPES: dict[str, tuple[str, pa.DataType, Any]] = {
    "smallint": ("-32768", pa.int16(), -32768),
    "bigint": ("9223372036854775807", pa.int64(), 2**63 - 1),
    "real": ("'1e-45'", pa.float32(), 1.401298464324817e-45),
    "double precision": ("'5e-324'", pa.float64(), 5e-324),
    "numeric": ("'123456789012345678901234567890.00100'", pa.string(), "123456789012345678901234567890.00100"),
    "numeric(12,3)": ("1.5", pa.decimal128(12, 3), Decimal("1.500")),
    "numeric(60,2)": ("-7", pa.decimal256(60, 2), Decimal("-7.00")),
    "numeric(3,-2)": ("12345", pa.decimal128(5, 0), Decimal(12300)),
    "price": ("2.5", pa.decimal128(8, 2), Decimal("2.50")),
    "best_price": ("3.5", pa.decimal128(8, 2), Decimal("3.50")),
    "boolean": ("false", pa.bool_(), False),
    "text": (r"E'a\n\r\t\"b\", \\ é日\x01'", pa.string(), 'a\n\r\t"b", \\ é日\x01'),
    "character(3)": ("'a'", pa.string(), "a  "),
    '"char"': ("'x'", pa.string(), "x"),
    "name": ("'n'", pa.string(), "n"),
    "bytea": (r"'\x00ff0a'", pa.binary(), b"\x00\xff\n"),
    "date": ("'0001-01-01'", pa.date32(), dt.date.min),
    "time": ("'23:59:59.999999'", pa.time64("us"), dt.time.max),
    "time with time zone": ("'12:00+02'", pa.string(), "12:00:00+02"),
    "timestamp": ("'9999-12-31 23:59:59.999999'", pa.timestamp("us"), dt.datetime.max),
    "timestamptz": (
        "'1890-01-01 00:00 Europe/Amsterdam'",
        pa.timestamp("us", "UTC"),
        dt.datetime(1889, 12, 31, 23, 42, 30, tzinfo=dt.timezone.utc),
    ),
    "interval": ("'1 month -2 hours'", pa.string(), "1 mon -02:00:00"),
    "uuid": ("'00000000-0000-0000-0000-000000000007'", pa.string(), "00000000-0000-0000-0000-000000000007"),
    "json": (r"""E'{"b" :\n1.10, "a":"\\u001f", "a":[ ]}'""", pa.string(), r'{"b":1.10,"a":"\u001f","a":[]}'),
    "jsonb": ("'1.10'", pa.string(), "1.10"),
    "inet": ("'10.0.0.1/8'", pa.string(), "10.0.0.1/8"),
    "money": ("5", pa.string(), "$5.00"),
    "oid": ("4294967295", pa.string(), "4294967295"),
    "bit(3)": ("'101'", pa.string(), "101"),
    "point": ("'(1,2)'", pa.string(), "(1,2)"),
    "int4range": ("'[1,5)'", pa.string(), "[1,5)"),
    "tsvector": ("'a:1'", pa.string(), "'a':1"),
    "mood": ("'sad, really'", pa.string(), "sad, really"),
    "place": ("'(1.50,\"a,b\")'", pa.string(), '{"x":1.50,"label":"a,b"}'),
    "int4[]": ("'{1,NULL}'", pa.list_(pa.int32()), [1, None]),
    "numeric(4,1)[]": ("'{1.5}'", pa.list_(pa.decimal128(4, 1)), [Decimal("1.5")]),
    "text[]": ('\'{"a,b",""}\'', pa.list_(pa.string()), ["a,b", ""]),
    "timestamptz[]": (
        "'{2024-01-01 00:00Z}'",
        pa.list_(pa.timestamp("us", "UTC")),
        [dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)],
    ),
    "bytea[]": (r"ARRAY['\x61'::bytea]", pa.list_(pa.binary()), [b"a"]),
    "mood[]": ("'{\"sad, really\"}'", pa.list_(pa.string()), ["sad, really"]),
    "jsonb[]": ("ARRAY['{\"a\":[1.0]}'::jsonb]", pa.list_(pa.string()), ['{"a":[1.0]}']),
}
#: Those that JSON writes otherwise than Postgres takes them in: they go back in as JSON.
_NESTED = ("place", *(name for name in TYPES if name.endswith("[]")))

_TABLE = f"""
CREATE TYPE mood AS ENUM ('sad, really');
CREATE TYPE place AS (x numeric, label text);
CREATE DOMAIN price AS numeric(8,2);
CREATE DOMAIN best_price AS price CHECK (VALUE > 0);
CREATE TABLE t (id int PRIMARY KEY, {", ".join(f"c{n} {name}" for n, name in enumerate(TYPES))});
CREATE TABLE back (id int PRIMARY KEY, {", ".join(f"c{n} {'json' if name in _NESTED else name}" for n, name in enumerate(TYPES))});
INSERT INTO t VALUES (1, {", ".join(value for value, _, _ in TYPES.values())});
INSERT INTO t (id) VALUES (2);
INSERT INTO t (id, c{list(TYPES).index("text")}) VALUES (3, '');
CREATE TABLE odd (id int PRIMARY KEY, amount numeric(5,1), until timestamptz, day date, at time, grid int[]);
INSERT INTO odd VALUES (1, 'NaN'), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1);
UPDATE odd SET until = 'infinity' WHERE id = 2;
UPDATE odd SET day = '0044-03-15 BC' WHERE id = 3;
UPDATE odd SET at = '24:00' WHERE id = 4;
UPDATE odd SET grid = '{{{{1}},{{2}}}}' WHERE id = 5;
"""


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "packing", _TABLE) as database:
        yield database


async def packed(database: Database, name: str, **options: Any) -> bytes:
    """All rows of a request as one object."""
    async with source(database, **options) as reader:
        pack = open_packing(name, Layout(reader.shape, reader.relation.columns)).begin()
        return b"".join([*[pack.add(row) for row in await rows(reader)], pack.finish()])


async def test_parquet_has_the_types_of_the_table_and_its_values(database: Database) -> None:
    table = pq.read_table(io.BytesIO(await packed(database, "parquet", table="t")))
    assert {name: field.type for name, field in zip(TYPES, list(table.schema)[1:], strict=True)} == {
        name: type_ for name, (_, type_, _) in TYPES.items()
    }
    first, second, third = table.to_pylist()
    assert dict(zip(TYPES, list(first.values())[1:], strict=True)) == {
        name: value for name, (_, _, value) in TYPES.items()
    }
    assert set(second.values()) == {2, None}
    assert third[f"c{list(TYPES).index('text')}"] == ""
    assert [field.nullable for field in table.schema] == [False] + [True] * len(TYPES)


async def test_a_query_has_no_precision_so_that_its_numerics_are_text(database: Database) -> None:
    data = await packed(database, "parquet", query="SELECT 1 AS id, 1.50::numeric(5,2) AS n, 7::int8 AS m", key=("id",))
    assert pq.read_table(io.BytesIO(data)).to_pylist() == [{"id": 1, "n": "1.50", "m": 7}]


async def test_csv_goes_back_into_postgres_without_loss(database: Database) -> None:
    data = await packed(database, "csv", table="t")
    connection = await asyncpg.connect(database.dsn)
    await connection.copy_to_table("back", source=io.BytesIO(data), format="csv", header=True)
    await connection.close()
    same = await sql(
        database, "SELECT row_to_json(t)::jsonb = row_to_json(back)::jsonb FROM t JOIN back USING (id) ORDER BY id"
    )
    assert same.split() == ["t"] * 3


async def test_each_line_of_ndjson_is_the_row_as_postgres_has_it(database: Database) -> None:
    lines = (await packed(database, "ndjson", table="t")).splitlines()
    expected = await sql(database, "SELECT row_to_json(t)::jsonb FROM t ORDER BY id")
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in expected.splitlines()]


async def test_only_the_rows_whose_values_arrow_cannot_hold_are_refused(database: Database) -> None:
    async with source(database, table="odd") as reader:
        pack = open_packing("parquet", Layout(reader.shape, reader.relation.columns)).begin()
        faults = []
        for row in await rows(reader):
            try:
                pack.add(row)
            except RowRefused as refused:
                faults.append(refused.message)
    columns = ("amount", "until", "day", "at", "grid")
    assert [fault.split()[4] for fault in faults] == list(columns)
    assert pq.read_table(io.BytesIO(pack.finish()))["id"].to_pylist() == [6]
