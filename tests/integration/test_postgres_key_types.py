"""Every type that can be a key is read exactly once, whatever the page size and wherever reading starts again.

The values of each type stand in ascending order as PostgreSQL's documentation defines it; values in one tuple are
equal there though their texts differ. A key that took another way than `text → server → text` would lose the
extremes: infinities, years before Christ and beyond 9999, 24:00, denormals, months.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.embedded.server import EmbeddedError
from tests.conftest import Database
from tests.integration.reading import PAGE_SIZES, check_exactly_once, prepared, sql

Values = list[str | tuple[str, ...]]

DATES = ["-infinity", "4714-11-24 BC", "0044-03-15 BC", "0001-01-01", "1970-01-01", "9999-12-31", "20000-01-01"]

TYPES: dict[str, Values] = {
    "smallint": ["-32768", "-1", "0", "1", "32767"],
    "int": ["-2147483648", "-1", "0", "9", "10", "2147483647"],
    "bigint": ["-9223372036854775808", "0", "9", "10", "9007199254740993", "9223372036854775807"],
    "numeric": [
        "-Infinity",
        "-1e300",
        "-0.000000000000000000000000000001",
        "0",
        ("1", "1.0", "1.00"),
        "1.0000000000000000000000000000000001",
        "9",
        "10",
        "1e131071",
        "Infinity",
        "NaN",
    ],
    "numeric(8,3)": ["-99999.999", "0.001", "0.010", "99999.999", "NaN"],
    "real": ["-Infinity", "-3.4028235e38", "-1e-45", ("0", "-0"), "1e-45", "0.1", "0.10000001", "Infinity", "NaN"],
    "double precision": [
        "-Infinity",
        "-1.7976931348623157e308",
        "-5e-324",
        ("-0", "0"),
        "5e-324",
        "0.1",
        "0.30000000000000004",
        "9007199254740993",
        "Infinity",
        "NaN",
    ],
    "text": [
        "",
        " ",
        "  x",
        '"',
        "$1",
        "%",
        "'",
        "''; --",
        ",",
        "A",
        "\\",
        "\\N",
        "a",
        "a\nb",
        "a ",
        "ä",
        "日本",
        "😀",
    ],
    "varchar(9)": ["", " ", "NULL", "null", "x", "x ", "é"],
    "char(6)": ["", " x", ("a", "a  "), "ab", "null"],
    "name": ["", "Name", "name", "x" * 63],
    '"char"': ["", " ", "'", "0", "A", "\\", "a", "\\377"],
    "uuid": [
        "00000000-0000-0000-0000-000000000000",
        "7fffffff-ffff-ffff-ffff-ffffffffffff",
        "80000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
    ],
    "bytea": ["", "\\x00", "\\x0000", "\\x27", "\\x5c", "\\x5c78", "\\x80", "\\xff00", "\\xffff"],
    "bool": ["false", "true"],
    "date": [*DATES, "5874897-12-31", "infinity"],
    "time": ["00:00", "00:00:00.000001", "23:59:59.999999", "24:00"],
    "timetz": ["00:00+14", "12:00+05:30:15", "12:00+00", "24:00+00", "24:00-15:59"],
    "timestamp": [*DATES, "20000-01-01 00:00:00.000001", "294276-12-31 23:59:59.999999", "infinity"],
    "timestamptz": [
        *DATES[:-2],
        "2024-03-31 00:59:59.999999+00",
        "2024-03-31 01:00:00+00",
        *DATES[-2:],
        "20000-01-01 00:00:00.000001",
        "294276-12-31 23:59:59.999999+00",
        "infinity",
    ],
    "interval": [
        "-infinity",
        "-178000000 years",
        "-1 year -2 months +3 days -04:05:06.789",
        "-1 second",
        "0",
        "0.000001",
        ("1 day", "24 hours"),
        ("1 month", "30 days", "29 days 24:00"),
        "1 month 1 microsecond",
        "178000000 years",
        "infinity",
    ],
    "inet": ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.1/8", "10.0.0.1", "255.255.255.255", "::1/64", "::", "fe80::1"],
    "cidr": ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.1/32", "::/0", "fe80::/10"],
    "macaddr": ["00:00:00:00:00:00", "08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"],
    "macaddr8": ["00:00:00:00:00:00:00:00", "08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff"],
    "bit(3)": ["000", "001", "010", "111"],
    "varbit": ["", "0", "00", "01", "1", "10", "1" * 70],
    "oid": ["0", "1", "2147483648", "4294967295"],
    "money": ["-92233720368547758.08", "-0.01", "0", "0.10", "9", "1234567.89", "92233720368547758.07"],
    "jsonb": ["null", '"a"', '"b"', "1", ("2", "2.0"), "false", "true", "[1]", "[1, 2]", '{"a": "\'"}', '{"a": 1}'],
    "int[]": ["{}", "{1}", "{1,2}", "{1,NULL}", "{2}", "[0:1]={2,3}"],
    "text[]": ['{""}', '{"\\""}', '{"\\\\"}', "{a,NULL}", '{"a b"}', '{"{"}'],
    "date[]": ["{-infinity}", "{9999-12-31}", "{20000-01-01}", "{infinity}"],
    "int4range": ["empty", "(,)", "[1,2)", "[1,3)", "[1,)", "[2,3)"],
    "tstzrange": ["empty", "(,2000-01-01)", '["0044-03-15 BC",9999-12-31]', "[20000-01-01,infinity)"],
    "int4multirange": ["{}", "{[1,2)}", "{[1,2),[4,5)}", "{[1,3)}"],
    "pg_lsn": ["0/0", "0/FF", "1/0", "FFFFFFFF/FFFFFFFF"],
    "xid8": ["0", "9", "10", "18446744073709551615"],
    "tid": ["(0,1)", "(0,2)", "(1,1)"],
    "mood": ["sad", 'it\'s "fine"', "ok, so", ""],
    "digits": ["1", "2", "10"],
    "moods": ["{}", "{sad}", '{sad,"ok, so"}', '{"ok, so"}'],
    "int[][]": ["{}", "{{1}}", "{{1},{2}}", "{{1,NULL}}", "{{2,1}}"],
    "daterange": ["empty", "(,)", '[-infinity,"0044-03-15 BC")', "[9999-12-31,20000-01-01)", "[20000-01-01,)"],
    "numrange": ["empty", "(-Infinity,1.50]", "[1e-30,2)", "[1,NaN]", "(1,2)"],
    "datemultirange": ["{}", '{["0044-03-15 BC",infinity)}', "{[9999-12-31,20000-01-01)}"],
    "tsvector": ["", "'a'", "'it''s'", "'a' 'b'"],
    "oidvector": ["1", "4294967295", "1 2"],
    "regtype": ["boolean", "bytea", "integer", "text"],
    "instant": ["-infinity", "0044-03-15 BC", "9999-12-31 23:59:59.999999+00", "20000-01-01", "infinity"],
    "texts": ["{}", '{""}', '{"\\""}', "{a}", "{a,NULL}"],
    "nested": ['("(2000-01-01,a)",{1},"(1,)")', '("(2000-01-01,a)",{1},)', '("(2000-01-01,)",{1},)', "(,,)"],
    "point_of_time": ["(2000-01-01,)", "(9999-12-31,b)", "(9999-12-31,c)", '(infinity,"a,\'b")'],
}

DEFINITIONS = """
CREATE TYPE mood AS ENUM ('sad', 'it''s "fine"', 'ok, so', '');
CREATE DOMAIN small AS int CHECK (VALUE < 100); CREATE DOMAIN digits AS small CHECK (VALUE > 0);
CREATE DOMAIN moods AS mood[];
CREATE TYPE point_of_time AS (day date, label text); CREATE TYPE pair AS (a int, b int);
CREATE TYPE nested AS (at point_of_time, numbers int[], pair pair);
CREATE DOMAIN instant AS timestamptz CHECK (VALUE > '4000-01-01 BC' OR VALUE = '-infinity'); CREATE DOMAIN texts AS text[];
"""


def tables(suffix: str, kind: str, groups: Values) -> str:
    """SQL for two tables: `alone` has one row of each group and the type as primary key; `ties` has all rows."""
    texts = [(group, text) for group, same in enumerate(groups) for text in ([same] if isinstance(same, str) else same)]
    literals = ", ".join(
        f"({n}, {group}, '{text.replace(chr(39), chr(39) * 2)}')" for n, (group, text) in enumerate(texts)
    )
    return (
        f"CREATE TABLE ties{suffix} (n int PRIMARY KEY, grp int, k {kind} NOT NULL);"
        f"INSERT INTO ties{suffix} VALUES {literals};"
        f"CREATE TABLE alone{suffix} AS SELECT DISTINCT ON (grp) * FROM ties{suffix} ORDER BY grp, n;"
        f"ALTER TABLE alone{suffix} ADD PRIMARY KEY (k);"
    )


async def check_tables(database: Database, suffix: str, groups: Values) -> None:
    """Read by a primary key of the type; and by a key of the type whose ties another key has to break."""
    rows = sum(1 if isinstance(group, str) else len(group) for group in groups)
    numbers = [str(group) for group in range(len(groups))]
    await check_exactly_once(database, numbers, column="grp", table=f"alone{suffix}", allow_sort=False)
    await check_exactly_once(database, [str(n) for n in range(rows)], table=f"ties{suffix}", key=("k",))


@pytest.fixture(scope="module")
def typed(postgres: EmbeddedPostgres) -> Iterator[Database]:
    text = "".join(tables(str(number), kind, TYPES[kind]) for number, kind in enumerate(TYPES))
    with prepared(postgres, "key_types", DEFINITIONS + text) as database:
        yield database


@pytest.mark.parametrize("kind", TYPES)
async def test_rows_are_read_exactly_once_by_a_key_of_type(typed: Database, kind: str) -> None:
    await check_tables(typed, str(list(TYPES).index(kind)), TYPES[kind])


async def test_a_char_key_of_which_the_planner_has_statistics_is_read_exactly_once(typed: Database) -> None:
    """PostgreSQL 18 ends a statement that compares one with a value that the planner knows."""
    await sql(
        typed,
        'CREATE DOMAIN letter AS "char"; CREATE TABLE letters (k letter PRIMARY KEY, n int);'
        'INSERT INTO letters SELECT n::"char", n & 255 FROM generate_series(-40, 40) n; ANALYZE letters',
    )
    numbers = sorted(n & 255 for n in range(-40, 41))
    await check_exactly_once(typed, [str(n) for n in numbers], table="letters", resumed=(7,), allow_sort=False)


@pytest.mark.parametrize(
    ("name", "domain", "column", "later"),
    [
        ("checked", "int", "", "ALTER DOMAIN checked ADD CHECK (VALUE > 2) NOT VALID"),
        ("collated", 'text COLLATE "C"', 'COLLATE "POSIX"', ""),
    ],
    ids=["a check that older rows do not meet", "another collation"],
)
async def test_a_key_need_not_meet_the_domain_of_its_column(
    typed: Database, name: str, domain: str, column: str, later: str
) -> None:
    await sql(
        typed,
        f"CREATE DOMAIN {name} AS {domain}; CREATE TABLE of_{name} (k {name} {column} PRIMARY KEY, n int);"
        f"INSERT INTO of_{name} SELECT n::text::{name}, n FROM generate_series(1, 4) n; {later}",
    )
    await check_exactly_once(typed, ["1", "2", "3", "4"], table=f"of_{name}")


@pytest.mark.parametrize("collation", ["C", "POSIX", "ucs_basic", "pg_c_utf8", "unicode", "C.utf8"])
async def test_a_text_key_is_read_in_the_order_of_its_own_collation(typed: Database, collation: str) -> None:
    name = f"collated_by_{collation.replace('.', '_')}"
    try:
        await sql(
            typed,
            f'CREATE TABLE {name} (n int, k text COLLATE "{collation}" PRIMARY KEY);'
            f"INSERT INTO {name} SELECT n, k FROM unnest('{{A,a,Z,z,Ä,ä,_,-,1,ß,ss,é,日,😀}}'::text[]) WITH ORDINALITY u(k, n)",
        )
    except EmbeddedError as error:
        if "does not exist" in str(error) or "not supported" in str(error):
            pytest.skip(str(error))
        raise
    expected = (await sql(typed, f"SELECT n FROM {name} ORDER BY k")).splitlines()
    await check_exactly_once(typed, expected, table=name, allow_sort=False)
    await check_exactly_once(typed, expected, query=f"SELECT * FROM {name}", key=("k",), allow_sort=False)


async def test_a_composite_key_is_null_only_where_it_is_and_not_where_its_fields_are(typed: Database) -> None:
    await sql(
        typed,
        "CREATE TABLE partly (n int PRIMARY KEY, k pair); CREATE INDEX ON partly (k, n);"
        "INSERT INTO partly VALUES (1, '(1,1)'), (2, '(1,)'), (3, '(,1)'), (4, '(,)'), (5, NULL), (6, '(1,)')",
    )
    await check_exactly_once(
        typed, ["1", "2", "6", "3", "4", "5"], table="partly", key=("k",), resumed=PAGE_SIZES, allow_sort=False
    )
    where = "k IS DISTINCT FROM NULL"
    await check_exactly_once(
        typed, ["1", "2", "6", "3", "4"], query=f"SELECT * FROM partly WHERE {where}", key=("k", "n"), allow_sort=False
    )


#: SQL that makes a type of key which ignores case; not every server can.
OPTIONAL = {
    "citext": "CREATE EXTENSION citext",
    "text COLLATE folding": (
        "CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    ),
}


@pytest.mark.parametrize("kind", OPTIONAL)
async def test_rows_are_read_exactly_once_by_a_key_that_ignores_case(typed: Database, kind: str) -> None:
    groups: Values = [("a", "A"), ("Ä", "ä"), "b"] if "COLLATE" in kind else [("a", "A"), "b", ("Ä", "ä")]
    try:
        await sql(typed, OPTIONAL[kind])
    except EmbeddedError as error:
        if "not available" in str(error) or "not supported" in str(error):
            pytest.skip(str(error))
        raise
    suffix = f"_{list(OPTIONAL).index(kind)}"
    await sql(typed, tables(suffix, kind, groups))
    await check_tables(typed, suffix, groups)
