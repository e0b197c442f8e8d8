"""Rows as PostgreSQL gives them, and what a function sees of them."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest

from asyncup.decoding import decoder
from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.model import Column, RowShape
from asyncup.transforms import Record
from asyncup.transforms.record import Layout
from tests.integration.transforms.rows import ID, NAME

UTC = dt.timezone.utc

#: SQL of a value, its type's name, and what Python is to hold.
VALUES: list[tuple[str, str, Any]] = [
    ("7::smallint", "int2", 7),
    ("9223372036854775807::bigint", "int8", 9223372036854775807),
    ("0.1::float4", "float4", 0.1),
    ("1e300::float8", "float8", 1e300),
    ("'-Infinity'::float8", "float8", -math.inf),
    ("12.50::numeric", "numeric", Decimal("12.50")),
    (
        "123456789012345678901234567890.123456789::numeric",
        "numeric",
        Decimal("123456789012345678901234567890.123456789"),
    ),
    ("('1' || repeat('0', 5000))::numeric", "numeric", Decimal(10**5000)),
    ("true", "bool", True),
    ("'täxt'::text", "text", "täxt"),
    (r"'\x00ff'::bytea", "bytea", b"\x00\xff"),
    ("''::bytea", "bytea", b""),
    ("date '2024-02-29'", "date", dt.date(2024, 2, 29)),
    ("date 'infinity'", "date", "infinity"),
    ("date '10000-01-01'", "date", "10000-01-01"),
    ("date '0044-03-15 BC'", "date", "0044-03-15 BC"),
    ("time '03:04:05.5'", "time", dt.time(3, 4, 5, 500000)),
    ("time '24:00'", "time", "24:00:00"),
    ("timetz '03:04:05+02'", "timetz", dt.time(3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    ("timestamp '2024-02-29 03:04:05.123456'", "timestamp", dt.datetime(2024, 2, 29, 3, 4, 5, 123456)),
    ("timestamp '0044-03-15 01:02:03 BC'", "timestamp", "0044-03-15T01:02:03 BC"),
    ("timestamptz '2024-02-29 03:04:05+00'", "timestamptz", dt.datetime(2024, 2, 29, 3, 4, 5, tzinfo=UTC)),
    ("timestamptz '-infinity'", "timestamptz", "-infinity"),
    ("interval '1 day 02:03:04.5'", "interval", dt.timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
    ("interval '-1 day -00:00:01'", "interval", dt.timedelta(days=-1, seconds=-1)),
    ("interval '-1 day +00:00:01'", "interval", dt.timedelta(days=-1, seconds=1)),
    ("interval '0'", "interval", dt.timedelta()),
    ("interval '1 month'", "interval", "1 mon"),
    ("interval '178000000 years'", "interval", "178000000 years"),
    ("'11111111-2222-3333-4444-555555555555'::uuid", "uuid", uuid.UUID("11111111-2222-3333-4444-555555555555")),
    ("""'{"a": [1, 2.5, null]}'::jsonb""", "jsonb", {"a": [1, Decimal("2.5"), None]}),
    ("ARRAY[[1, NULL], [3, 4]]::numeric[]", "_numeric", [[Decimal(1), None], [Decimal(3), Decimal(4)]]),
    ("ARRAY['2024-01-02'::date]", "_date", [dt.date(2024, 1, 2)]),
    ("ARRAY['infinity'::date]", "_date", ["infinity"]),
    ("ARRAY['a', NULL]", "_text", ["a", None]),
    ("'127.0.0.1'::inet", "inet", "127.0.0.1"),
    ("NULL::date", "date", None),
]


def columns() -> tuple[Column, ...]:
    return tuple(Column(f"c{number}", base, base) for number, (_, base, _) in enumerate(VALUES))


def record(body: bytes | None, *, layout: Layout | None = None) -> Record:
    layout = layout or Layout(("id",), RowShape(1), None, (ID, NAME))
    return layout.view()(("1", None if body is None else len(body), body))


def test_every_type_comes_as_python_holds_it_and_what_python_cannot_hold_as_its_text(
    postgres: EmbeddedPostgres,
) -> None:
    selected = ", ".join(f"{sql} AS c{number}" for number, (sql, _, _) in enumerate(VALUES))
    body = postgres.psql(f"SET timezone = 'UTC'; SELECT row_to_json(t)::text FROM (SELECT {selected}) t", "-qtA")
    row = record(body.strip().encode(), layout=Layout(("id",), RowShape(1), None, columns()))

    found = [(value, type(value)) for value in row.values()]

    assert found == [(value, type(value)) for _, _, value in VALUES]


def test_a_value_that_python_cannot_hold_is_an_error_of_the_decoder() -> None:
    decode = decoder(Column("at", "date", "date"))
    for value in ("infinity", "10000-01-01", "0044-03-15 BC"):
        with pytest.raises(ValueError):
            decode(value)


def test_a_record_is_a_mapping_of_its_columns() -> None:
    row = record(b'{"id": 1, "name": "a"}')

    assert dict(row) == {"id": 1, "name": "a"}
    assert row.body == b'{"id": 1, "name": "a"}'
    assert row.key == ("1",)
    assert ("name" in row, "nome" in row, row.get("nome"), len(row)) == (True, False, None, 2)


def test_a_column_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="there is no column 'nmae' here; did you mean 'name'"):
        record(b'{"id": 1, "name": "a"}')["nmae"]


def test_nothing_is_parsed_before_a_look_and_only_what_is_looked_at_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr("asyncup.transforms.record.parse", lambda body: parsed.append(body) or json.loads(body))
    layout = Layout(("id",), RowShape(1), None, (Column("a", "date", "date"), Column("b", "bytea", "bytea")))
    row = record(b'{"a": "2024-01-02", "b": "no hexadecimal digits"}', layout=layout)

    assert row.body is not None
    assert repr(row).startswith("<Record b'")
    assert parsed == []
    assert row["a"] is row["a"]
    assert len(parsed) == 1


@pytest.mark.parametrize(
    ("base", "large_object", "body", "seen"),
    [
        ("bytea", False, b"\x00\xff", b"\x00\xff"),
        ("text", False, "täxt".encode(), "täxt"),
        ("jsonb", False, b'{"a": 1}', '{"a": 1}'),
        ("oid", True, b"\x00", b"\x00"),
        ("text", False, None, None),
    ],
)
def test_where_a_column_is_the_body_it_is_there_with_the_columns_of_key_and_templates(
    base: str, large_object: bool, body: bytes | None, seen: Any
) -> None:
    content = Column("content", base, base)
    shape = RowShape(1, (Column("slug", "text", "text"), Column("id", "int", "int4")))
    layout = Layout(("id",), shape, content, (ID, NAME, content, *shape.columns), large_object)
    row = layout.view()(("7", "a-b", "7", None if body is None else len(body), body))

    assert dict(row) == {"id": "7", "slug": "a-b", "content": seen}
    assert row.body == body
    with pytest.raises(KeyError, match=r"no column 'other' here; there are id, slug, content \(--body row gives"):
        row["other"]


def test_a_record_shows_little_of_what_is_large() -> None:
    row = record(json.dumps({"id": 1, "name": "x" * 100_000}).encode())

    assert len(repr(row)) < 100
    assert row["name"]
    assert repr(row) == f"<Record id=1, name={'x' * 32!r}… (100,000 characters)>"
