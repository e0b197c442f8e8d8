"""Texts do not depend on who connects: no setting of a role or a database changes a key, a template's value or a body."""

from __future__ import annotations

import pytest

from asyncup.embedded.server import EmbeddedError
from tests.conftest import Database
from tests.integration.reading import (
    check_exactly_once,
    read,
    sql,
)

TABLE = """
CREATE TYPE pair AS (at timestamptz, amount money);
CREATE TABLE t (
  k timestamptz PRIMARY KEY, d date, i interval, f real, g float, b bytea, m money, n int, a int[], z timetz, p pair,
  r tstzrange);
INSERT INTO t SELECT '2024-03-31 00:30:00+00'::timestamptz + n * interval '37 minutes 1.000001 seconds', '0044-02-01 BC',
  '1 year 2 months -3 days 4:05:06.7', 0.1 + n, 1 / 3.0 + n, '\\x00ff5c27', 1234.5, n, ARRAY[n, NULL],
  '12:00+05:30', '("1999-12-31 23:59:59.123456+00",-1)', tstzrange('2024-01-02', NULL)
  FROM generate_series(1, 9) n;
"""

FIRST = {
    "k": "2024-03-31 01:07:01.000001+00",
    "d": "0044-02-01 BC",
    "i": "1 year 2 mons -3 days +04:05:06.7",
    "f": "1.1",
    "g": "1.3333333333333333",
    "b": "\\x00ff5c27",
    "m": "$1,234.50",
    "n": "1",
    "a": "{1,NULL}",
    "z": "12:00:00+05:30",
    "p": '("1999-12-31 23:59:59.123456+00",-$1.00)',
    "r": '["2024-01-02 00:00:00+00",)',
}
FIRST_JSON = (
    b'{"k":"2024-03-31T01:07:01.000001+00:00","d":"0044-02-01 BC","i":"1 year 2 mons -3 days +04:05:06.7","f":1.1,'
    b'"g":1.3333333333333333,"b":"\\\\x00ff5c27","m":"$1,234.50","n":1,"a":[1,null],"z":"12:00:00+05:30",'
    b'"p":{"at":"1999-12-31T23:59:59.123456+00:00","amount":"-$1.00"},"r":"[\\"2024-01-02 00:00:00+00\\",)"}'
)

SETTINGS = {
    "TimeZone": "'America/St_Johns'",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "array_nulls": "off",
    "search_path": "pg_catalog, public",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
}

#: Locales that write money in another way; not every machine has one.
LOCALES = ("de_DE.UTF-8", "ja_JP.UTF-8", "en_GB.UTF-8", "en_US.UTF-8")


async def change_settings(database: Database, whose: str) -> None:
    """Give the database or the role settings under which everything reads differently."""
    alter = f"ALTER {whose.format(database.name)} SET"
    before = await sql(database, "SELECT t FROM t")
    await sql(database, "".join(f"{alter} {name} = {value};" for name, value in SETTINGS.items()))
    for locale in LOCALES:
        try:
            await sql(database, f"{alter} lc_monetary = '{locale}'")
            break
        except EmbeddedError:
            continue
    assert await sql(database, "SELECT t FROM t") != before


WHOSE = pytest.mark.parametrize("whose", ["DATABASE {0}", "ROLE asyncup IN DATABASE {0}"], ids=["a database", "a role"])


@WHOSE
async def test_texts_are_the_same_whatever_is_set_for(database: Database, whose: str) -> None:
    await sql(database, TABLE)
    before = [tuple(row) for row in await read(database, table="t", columns=tuple(FIRST))]
    assert dict(zip(FIRST, before[0][1:], strict=False)) == FIRST
    assert before[0][-1] == FIRST_JSON
    await change_settings(database, whose)
    assert [tuple(row) for row in await read(database, table="t", columns=tuple(FIRST))] == before


@WHOSE
async def test_no_key_is_lost_whatever_is_set_for(database: Database, whose: str) -> None:
    await sql(
        database, f"{TABLE} ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (i, b, m, d, z, p, r, a, f, g, k)"
    )
    await change_settings(database, whose)
    await check_exactly_once(database, [str(n) for n in range(1, 10)], table="t")
