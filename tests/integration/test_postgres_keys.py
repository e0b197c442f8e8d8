"""Keys of several columns, keys with ties, keys with NULLs, and which unique indexes count as a key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import SourceRefused
from tests.conftest import Database
from tests.integration.reading import (
    PAGE_SIZES,
    check_exactly_once,
    emptied,
    prepared,
    read,
    source,
    sql,
    values,
)


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "keys") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


async def test_a_composite_key_of_mixed_types_is_read_in_its_own_order(database: Database) -> None:
    await sql(
        database,
        """
        CREATE TABLE t (n serial, amount numeric, name text COLLATE "C", day date, PRIMARY KEY (day, name, amount));
        INSERT INTO t (day, name, amount) SELECT d::date, m, a::numeric FROM unnest('{0044-03-15 BC,9999-12-31,
          infinity}'::text[]) d, unnest('{"","x,y"}'::text[]) m, unnest('{-1,1.50,NaN}'::text[]) a
        """,
    )
    expected = await values(database, "SELECT n::text FROM t ORDER BY day, name, amount")
    assert len(expected) == 18
    reader = await check_exactly_once(database, expected, table="t", resumed=PAGE_SIZES)
    assert [column.name for column in reader.key.columns] == ["day", "name", "amount"]


async def test_ties_of_a_key_are_told_apart_by_the_primary_key(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t (n serial, a int, b text, tag text NOT NULL, PRIMARY KEY (b, a));"
        "INSERT INTO t (a, b, tag) SELECT i % 3, 'b' || i / 3, 'tag' || i / 8 FROM generate_series(0, 17) i",
    )
    expected = await values(database, "SELECT n::text FROM t ORDER BY tag, b, a")
    reader = await check_exactly_once(database, expected, table="t", key=("tag",), resumed=PAGE_SIZES)
    assert [column.name for column in reader.key.columns] == ["tag", "b", "a"]


def null_patterns(count: int) -> list[tuple[bool, ...]]:
    return list(itertools.product((False, True), repeat=count))


@pytest.mark.parametrize(
    "present",
    [
        *(pytest.param(null_patterns(count), id=f"every pattern of {count} columns") for count in (1, 2, 3)),
        pytest.param([(True, True, True)], id="nothing but NULLs"),
        pytest.param([(False, True, False), (True, False, True)], id="two patterns of eight"),
    ],
)
async def test_null_in_key_columns_hides_no_row(database: Database, present: list[tuple[bool, ...]]) -> None:
    names = "abc"[: len(present[0])]
    rows = [
        ", ".join("NULL" if null else str(value) for null, value in zip(pattern, (1, 2, number), strict=False))
        for pattern in present
        for number in range(2)
    ]
    await sql(
        database,
        f"CREATE TABLE t (n serial PRIMARY KEY, {', '.join(f'{name} int' for name in names)});"
        f"INSERT INTO t ({', '.join(names)}) VALUES {', '.join(f'({row})' for row in rows)}",
    )
    order = ", ".join([f"{name} IS NULL" for name in names] + list(names))
    expected = await values(database, f"SELECT n::text FROM t ORDER BY {order}, t.n")
    assert len(expected) == 2 * len(present)
    await check_exactly_once(database, expected, table="t", key=tuple(names), resumed=PAGE_SIZES)


async def test_a_unique_column_that_may_be_null_is_a_key_that_its_own_index_serves(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t (id serial PRIMARY KEY, code int UNIQUE, a int, b int, UNIQUE (a, b));"
        "INSERT INTO t (code, a) SELECT CASE WHEN n % 3 > 0 THEN 50 - n END, 1 FROM generate_series(1, 20) n",
    )
    expected = await values(database, "SELECT id::text FROM t ORDER BY code IS NULL, code, t.id")
    reader = await check_exactly_once(
        database, expected, column="id", table="t", key=("code",), resumed=PAGE_SIZES, allow_sort=False
    )
    assert (reader.access.paged, reader.access.indexes) == (True, ("t_code_key", "t_pkey"))
    with pytest.raises(SourceRefused, match="no index gives its rows"):  # those with one of them NULL are in no order
        await read(database, table="t", key=("a", "b"), allow_sort=False)


async def test_more_than_three_key_columns_that_may_be_null_are_refused(database: Database) -> None:
    await sql(database, "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int, d int)")
    with pytest.raises(SourceRefused, match=r"4 of its key columns may be NULL \(a, b, c, d\)") as refused:
        await read(database, table="t", key=("a", "b", "c", "d"))
    assert "NOT NULL" in (refused.value.hint or "")


COUNTS = {
    "a primary key": ("ALTER TABLE t ADD PRIMARY KEY (a)", ["a"]),
    "a unique constraint": ("ALTER TABLE t ADD UNIQUE (b, a)", ["b", "a"]),
    "a unique index": ("CREATE UNIQUE INDEX ON t (a)", ["a"]),
    "a descending one": ("CREATE UNIQUE INDEX ON t (a DESC)", ["a"]),
    "the columns before INCLUDE": ("CREATE UNIQUE INDEX ON t (b) INCLUDE (a, x)", ["b"]),
    "a deferrable one": ("ALTER TABLE t ADD UNIQUE (a) DEFERRABLE INITIALLY DEFERRED", ["a"]),
    "one without overlaps": ("ALTER TABLE t ADD UNIQUE (r, s WITHOUT OVERLAPS)", ["r", "s"]),
    "the primary key before others": (
        "CREATE UNIQUE INDEX ON t (a); ALTER TABLE t ADD PRIMARY KEY (b, a)",
        ["b", "a"],
    ),
    "the shortest before others": ("CREATE UNIQUE INDEX ON t (b, a); CREATE UNIQUE INDEX ON t (a)", ["a"]),
    "one beside dropped columns": ("ALTER TABLE t DROP x; CREATE UNIQUE INDEX ON t (b)", ["b"]),
    "one over a validated NOT NULL": (
        "ALTER TABLE t ADD CONSTRAINT n NOT NULL x NOT VALID, ADD UNIQUE (x); ALTER TABLE t VALIDATE CONSTRAINT n",
        ["x"],
    ),
}
COUNTS_NOT = {
    "no index": "",
    "an index that is not unique": "CREATE INDEX ON t (a)",
    "a partial one": "CREATE UNIQUE INDEX ON t (a) WHERE a > 0",
    "an expression": "CREATE UNIQUE INDEX ON t (abs(a))",
    "a column and an expression": "CREATE UNIQUE INDEX ON t (a, (b + 1))",
    "a column that may be NULL": "CREATE UNIQUE INDEX ON t (x)",
    "one of two columns that may be NULL": "CREATE UNIQUE INDEX ON t (a, x)",
    "NULLS NOT DISTINCT": "CREATE UNIQUE INDEX ON t (x) NULLS NOT DISTINCT",
    "a CHECK against NULL": "ALTER TABLE t ADD CHECK (x IS NOT NULL); CREATE UNIQUE INDEX ON t (x)",
    "an invalid one": "CREATE UNIQUE INDEX i ON t (a);"
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass",
    "a NOT NULL that nobody validated": "ALTER TABLE t ADD CONSTRAINT nn NOT NULL x NOT VALID; ALTER TABLE t ADD UNIQUE (x)",
    "an exclusion constraint": "ALTER TABLE t ADD EXCLUDE (a WITH =)",
}
TABLE = (
    "CREATE TABLE t (x int, a int NOT NULL, b int NOT NULL, r int4range NOT NULL DEFAULT '[1,2)',"
    " s int4range NOT NULL DEFAULT '[1,2)')"
)


@pytest.fixture(scope="module")
def indexed(postgres: EmbeddedPostgres) -> Iterator[Database]:
    schemas = [(f"s{number}", definition) for number, (definition, _) in enumerate(COUNTS.values())]
    schemas += [(f"n{number}", definition) for number, definition in enumerate(COUNTS_NOT.values())]
    text = "".join(f"CREATE SCHEMA {name}; SET search_path = {name}; {TABLE}; {rest};" for name, rest in schemas)
    with prepared(postgres, "unique_indexes", text) as database:
        yield database


@pytest.mark.parametrize("index", COUNTS)
async def test_the_default_key_is(indexed: Database, index: str) -> None:
    table, (_, key) = f"s{list(COUNTS).index(index)}.t", COUNTS[index]
    async with source(indexed, table=table) as reader:
        assert [column.name for column in reader.key.columns] == key
    async with source(indexed, table=table, key=("s", *key, "s")) as reader:
        assert [column.name for column in reader.key.columns] == list(dict.fromkeys(("s", *key)))


@pytest.mark.parametrize("index", COUNTS_NOT)
async def test_rows_are_not_told_apart_by(indexed: Database, index: str) -> None:
    table = f"n{list(COUNTS_NOT).index(index)}.t"
    for key in (None, ("a",), ("a", "b", "x")):
        with pytest.raises(SourceRefused, match="no primary key and no unique index over NOT NULL columns") as refused:
            await read(indexed, table=table, key=key)
        assert "ADD PRIMARY KEY" in (refused.value.hint or "")


async def test_null_behind_a_not_null_that_nobody_validated_is_read(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t (n int PRIMARY KEY, a int); INSERT INTO t VALUES (1, NULL), (2, 5), (3, NULL), (4, 3);"
        "ALTER TABLE t ADD CONSTRAINT nn NOT NULL a NOT VALID",
    )
    await check_exactly_once(database, ["4", "2", "1", "3"], table="t", key=("a",), resumed=PAGE_SIZES)


async def test_a_partitioned_table_is_read_completely(database: Database) -> None:
    await sql(
        database,
        """
        CREATE TABLE t (n int, day date, body text, PRIMARY KEY (n, day)) PARTITION BY RANGE (day);
        CREATE TABLE t_old PARTITION OF t FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
        CREATE TABLE t_new PARTITION OF t FOR VALUES FROM ('2000-01-01') TO ('2020-01-01') PARTITION BY HASH (n);
        CREATE TABLE t_new_0 PARTITION OF t_new FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE t_new_1 PARTITION OF t_new FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        CREATE TABLE t_rest PARTITION OF t DEFAULT;
        INSERT INTO t SELECT n, '1990-01-01'::date + n * 900, 'b' FROM generate_series(1, 24) n
        """,
    )
    assert await values(database, "SELECT count(DISTINCT tableoid) FROM t") == [4]
    await check_exactly_once(database, [str(n) for n in range(1, 25)], table="t")
    rows = await values(database, "SELECT n::text FROM t_new ORDER BY t_new.n")
    assert 0 < len(rows) < 24
    await check_exactly_once(database, rows, table="t_new")
