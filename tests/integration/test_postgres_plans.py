"""Before anything is read: whether an index gives the pages, judged by the server's own plan; what it is refused for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import SourceRefused
from tests.conftest import Database
from tests.integration.reading import check_exactly_once, emptied, prepared, read, source, sql, values

SETUP = """
CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, n int, tag text NOT NULL, live bool, doc text);
CREATE TABLE other (id int PRIMARY KEY, t int, big text);
CREATE TABLE large (id int, filler text); INSERT INTO large SELECT n, repeat('x', 100) FROM generate_series(1, 12000) n;
CREATE TABLE "Sel""ect" ("Or;der" int, id int PRIMARY KEY);
CREATE TABLE parted (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (MINVALUE) TO ('2000-01-01');
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM ('2000-01-01') TO (MAXVALUE);
CREATE VIEW v AS SELECT id, a, b FROM t WHERE live; CREATE VIEW counted AS SELECT a, count(*) FROM t GROUP BY a;
CREATE FUNCTION rows_of_t() RETURNS SETOF t LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT * FROM t; END';
"""


@pytest.fixture(scope="module")
def planned(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "plans", SETUP) as database:
        yield database


PAGED = {
    "a select": ("SELECT * FROM t", "id"),
    "a filter": ("SELECT * FROM t WHERE live", "id"),
    "a join by an index": ("SELECT t.id, o.big FROM t JOIN other o ON o.id = t.a", "id"),
    "a left join": ("SELECT t.id, o.big FROM t LEFT JOIN other o USING (id)", "id"),
    "a union of all": ("SELECT id, a FROM t UNION ALL SELECT id, t FROM other", "id"),
    "a subselect for each row": ("SELECT id, (SELECT max(o.id) FROM other o WHERE o.id = t.a) FROM t", "id"),
    "a volatile filter": ("SELECT id FROM t WHERE random() < 0.5", "id"),
    "a window by the key": ("SELECT id, row_number() OVER (PARTITION BY id) AS r FROM t", "id"),
    "groups by the key": ("SELECT id, max(a) FROM t GROUP BY id", "id"),
    "distinct keys": ("SELECT DISTINCT id FROM t", "id"),
    "a small table for each row": ("SELECT t.id FROM t JOIN other o ON o.big = t.tag", "id"),
    "a scalar of a small table": ("SELECT id FROM t WHERE a = (SELECT max(t) FROM other)", "id"),
    "one row": ("SELECT 1 AS id", "id"),
    "nothing": ("SELECT id FROM t WHERE false", "id"),
    "partitions": ("SELECT * FROM parted", "id"),
}
AT_ONCE = {
    "no index": ("SELECT * FROM t", "a", "no index"),
    "an order of its own": ("SELECT * FROM t ORDER BY a", "id", "ORDER BY of its own"),
    "a union of all with filters": ("SELECT id FROM t WHERE id < 5 UNION ALL SELECT id FROM other", "id", ""),
    "a volatile column": ("SELECT id, random() AS r FROM t", "id", "volatile"),
    "a set for each row": ("SELECT id, unnest(ARRAY[1]) FROM t", "id", "several rows"),
    "a common table": ("WITH w AS (SELECT * FROM t) SELECT * FROM w", "id", "for WITH"),
    "a window over all": ("SELECT id, row_number() OVER (ORDER BY id) AS r FROM t", "id", "window"),
    "a number of the row": ("SELECT row_number() OVER (ORDER BY id) AS r FROM t", "r", "window"),
    "a limit": ("SELECT * FROM t ORDER BY id LIMIT 5", "id", "LIMIT"),
    "a materialized common table": ("WITH w AS MATERIALIZED (SELECT * FROM t) SELECT * FROM w", "id", "common table"),
    "a common table that is used twice": (
        "WITH w AS (SELECT * FROM t) SELECT w.* FROM w JOIN w o USING (id)",
        "id",
        "",
    ),
    "a function": ("SELECT i AS id FROM generate_series(1, 3) i", "id", "function"),
    "a function of the user": ("SELECT * FROM rows_of_t()", "id", "function"),
    "a set as the key": ("SELECT unnest(ARRAY[id]) AS k FROM t", "k", ""),
    "a list": ("VALUES (1), (2)", "column1", "list"),
    "a volatile key": ("SELECT random() AS id, a FROM t", "id", ""),
    "a computed key": ("SELECT id + 1 AS id FROM t", "id", ""),
    "an aggregate": ("SELECT max(id) AS id FROM t GROUP BY a", "id", "aggregates"),
    "groups by another column": ("SELECT a, count(*) FROM t GROUP BY a", "a", ""),
    "distinct rows": ("SELECT DISTINCT a FROM t", "a", ""),
    "a union": ("SELECT id FROM t UNION SELECT a FROM t", "id", ""),
    "an except": ("SELECT id FROM t EXCEPT SELECT id FROM other", "id", ""),
    "a recursion": (
        "WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM r WHERE id < 9) SELECT * FROM r",
        "id",
        "",
    ),
    "a scan of a large table for each page": ("SELECT id FROM t WHERE tag IN (SELECT filler FROM large)", "id", ""),
    "a scalar of a large table": (
        "SELECT id FROM t WHERE a = (SELECT max(id) FROM large)",
        "id",
        "all of public.large",
    ),
    "an offset": ("SELECT id FROM t OFFSET 1", "id", "LIMIT"),
    "a sample": ("SELECT id FROM t TABLESAMPLE SYSTEM (50)", "id", ""),
    "a full join": ("SELECT id FROM t FULL JOIN other USING (id)", "id", ""),
}


@pytest.mark.parametrize("shape", PAGED)
async def test_pages_of_a_query_are_given_by_an_index_for(planned: Database, shape: str) -> None:
    query, key = PAGED[shape]
    async with source(planned, query=query, key=(key,), allow_sort=False) as reader:
        assert reader.access.paged
        assert not reader.access.at_once


@pytest.mark.parametrize("shape", AT_ONCE)
async def test_a_query_is_read_at_once_for(planned: Database, shape: str) -> None:
    query, key, reason = AT_ONCE[shape]
    async with source(planned, query=query, key=(key,), allow_sort=False) as reader:
        assert reader.access.at_once
        assert reason in (reader.access.reason or "")


# --- tables -----------------------------------------------------------------------------------------------------

TABLE = "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, n int, m int, k text NOT NULL, live bool);"
#: What makes a table's key servable: definitions, and the key.
SERVED = {
    "the primary key": ("", None),
    "an index that begins with the key": ("CREATE INDEX ON t (a, id, b)", "a"),
    "an index with other columns": ("CREATE INDEX ON t (a, id) INCLUDE (k)", "a"),
    "a descending index": ("CREATE INDEX ON t (a DESC, id DESC)", "a"),
    "a unique index": ("CREATE UNIQUE INDEX ON t (b, a)", "b,a"),
    "an index with NULLs first": ("CREATE INDEX ON t (n NULLS FIRST, id)", "n"),
    "a descending index with NULLs last": ("CREATE INDEX ON t (n DESC NULLS LAST, id DESC NULLS LAST)", "n"),
    "an index of a column without NULLs, with NULLs first": ("CREATE INDEX ON t (a NULLS FIRST, id NULLS FIRST)", "a"),
    "an index of NULLs": ("CREATE INDEX ON t (n, id)", "n"),
    "an index of NULLs in two columns": ("CREATE INDEX ON t (n, m, id)", "n,m"),
    "a partial index that --where proves": ("CREATE INDEX ON t (a, id) WHERE live", "a"),
    "one index of several": ("CREATE INDEX ON t (b); CREATE INDEX ON t (a); CREATE INDEX ON t (a, id)", "a"),
    "a column that was renamed": ("CREATE INDEX ON t (b, id); ALTER TABLE t RENAME b TO a2", "a2"),
    "a generated column": (
        "ALTER TABLE t ADD g int GENERATED ALWAYS AS (a + 1) STORED; CREATE INDEX ON t (g, id)",
        "g",
    ),
    "an index in the column's collation": (
        'ALTER TABLE t ALTER k TYPE text COLLATE "C"; CREATE INDEX ON t (k, id)',
        "k",
    ),
}
#: What is refused, and the reason beside the one that is always given.
REFUSED = {
    "no index": ("", "a", ""),
    "an index of another column": ("CREATE INDEX ON t (b, id)", "a", ""),
    "an index without the tie-breaker": ("CREATE INDEX ON t (a)", "a", ""),
    "another order of columns": ("CREATE INDEX ON t (id, a)", "a", ""),
    "mixed directions": (
        "CREATE INDEX ON t (a, id DESC)",
        "a",
        "some of its columns are ascending and others descending",
    ),
    "another collation": ('CREATE INDEX ON t (k COLLATE "POSIX", id)', "k", "another collation"),
    "another operator class": ("CREATE INDEX ON t (k text_pattern_ops, id)", "k", "another operator class"),
    "a hash index": ("CREATE INDEX ON t USING hash (a)", "a", ""),
    "a BRIN index": ("CREATE INDEX ON t USING brin (a, id)", "a", "of type brin has no order"),
    "a partial index": ("CREATE INDEX ON t (a, id) WHERE a > 5", "a", "only the rows WHERE (a > 5)"),
    "an expression": ("CREATE INDEX ON t ((a + 0), id)", "a", ""),
    "an index that is not valid": (
        "CREATE INDEX i ON t (a, id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('i')",
        "a",
        "it is not valid",
    ),
    "a column beside a key that is one already": ("", "id,a", ""),
}
SIZES = {
    "empty": "",
    "tiny": "INSERT INTO t SELECT n, n % 3, n, nullif(n % 4, 0), nullif(n % 3, 0), n, n % 2 = 0 FROM generate_series(1, 12) n;",
}


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "plans_of_tables") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


@pytest.fixture(scope="module")
def indexed(postgres: EmbeddedPostgres) -> Iterator[Database]:
    text = ""
    for size, rows in SIZES.items():
        for place, cases in (("served", SERVED), ("refused", REFUSED)):
            for number, (definition, *_) in enumerate(cases.values()):
                schema = f"{place}_{size}_{number}"
                text += f"CREATE SCHEMA {schema}; SET search_path = {schema}; {TABLE} {rows} ANALYZE t; {definition};"
    with prepared(postgres, "indexes", text) as database:
        yield database


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("index", SERVED)
async def test_a_table_is_paged_through(indexed: Database, index: str, size: str) -> None:
    table, key = f"served_{size}_{list(SERVED).index(index)}.t", SERVED[index][1]
    where = "live" if "--where" in index else None
    options: dict[str, Any] = {"key": tuple(key.split(",")) if key else None, "where": where}
    async with source(indexed, table=table, **options, allow_sort=False) as reader:
        assert reader.access.paged
        assert len(reader.access.indexes) == 1
        assert reader.access.mend is None


@pytest.mark.parametrize("index", [index for index in SERVED if "NULLs" in index or "descending" in index])
async def test_no_row_is_lost_whatever_the_direction_and_the_nulls_of(indexed: Database, index: str) -> None:
    table, key = f"served_tiny_{list(SERVED).index(index)}.t", SERVED[index][1] or ""
    columns = [*key.split(","), "id"]
    order = ", ".join([*(f"t.{name} IS NULL" for name in columns), *(f"t.{name}" for name in columns)])
    expected = await values(indexed, f"SELECT id::text FROM {table} ORDER BY {order}")
    assert len(expected) == 12
    await check_exactly_once(indexed, expected, column="id", table=table, key=tuple(key.split(",")), allow_sort=False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("index", REFUSED)
async def test_a_table_is_refused_for(indexed: Database, index: str, size: str) -> None:
    schema, (_, key, reason) = f"refused_{size}_{list(REFUSED).index(index)}", REFUSED[index]
    options = {"table": f"{schema}.t", "key": tuple(key.split(","))}
    with pytest.raises(SourceRefused, match="no index gives its rows in the order of the key") as refused:
        async with source(indexed, **options, allow_sort=False):
            pass
    assert reason in str(refused.value)
    mend, _, others = (refused.value.hint or "").partition(";")
    assert mend.startswith(f"CREATE INDEX CONCURRENTLY ON {schema}.t (")
    assert "--allow-sort" in others
    async with source(indexed, **options, allow_sort=True) as reader:
        assert (reader.access.paged, reader.access.at_once) == (False, False)
        assert reader.access.mend == f"{mend};"


async def test_a_limit_that_fits_in_one_page_needs_no_index(indexed: Database) -> None:
    table = f"refused_tiny_{list(REFUSED).index('no index')}.t"
    found = await read(indexed, table=table, key=("a",), limit=5, page_size=5, allow_sort=False)
    assert [row[:2] for row in found] == [("0", "3"), ("0", "6"), ("0", "9"), ("0", "12"), ("1", "1")]
    with pytest.raises(SourceRefused, match="no index gives its rows"):
        await read(indexed, table=table, key=("a",), limit=6, page_size=5, allow_sort=False)


async def test_the_index_that_is_advised_mends_it(indexed: Database) -> None:
    mended = []
    for number, (_, key, _) in enumerate(REFUSED.values()):
        async with source(indexed, table=f"refused_tiny_{number}.t", key=tuple(key.split(","))) as reader:
            mended.append((reader.access.mend or "").replace("CONCURRENTLY ", "").replace("tiny", "empty"))
    await sql(indexed, "".join(mended))
    for number, (_, key, _) in enumerate(REFUSED.values()):
        table = f"refused_empty_{number}.t"
        async with source(indexed, table=table, key=tuple(key.split(",")), allow_sort=False) as reader:
            assert reader.access.paged, list(REFUSED)[number]


async def test_the_index_to_make_is_written_so_that_it_can_be_run(database: Database) -> None:
    await sql(database, 'CREATE TABLE "Se""lect" ("Or;der" int, "user" int PRIMARY KEY)')
    with pytest.raises(SourceRefused) as refused:
        async with source(database, table='"Se""lect"', key=("Or;der",), allow_sort=False):
            pass
    mend = (refused.value.hint or "").split("; or")[0]
    assert mend == 'CREATE INDEX CONCURRENTLY ON public."Se""lect" ("Or;der", "user");'[:-1]
    await sql(database, mend)
    async with source(database, table='"Se""lect"', key=("Or;der",), allow_sort=False) as reader:
        assert reader.access.paged


async def test_partitions_are_paged_where_each_has_an_index(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t (id int, day date, a int NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (MINVALUE) TO ('2000-01-01');"
        "CREATE TABLE t2 PARTITION OF t DEFAULT; CREATE INDEX ON t1 (a, id, day)",
    )
    async with source(database, table="t", allow_sort=False) as reader:
        assert sorted(reader.access.indexes) == ["t1_pkey", "t2_pkey"]
    with pytest.raises(SourceRefused) as refused:
        async with source(database, table="t", key=("a",), allow_sort=False):
            pass
    mend = (refused.value.hint or "").split("; or")[0]
    assert mend == "CREATE INDEX ON public.t (a, id, day)"
    await sql(database, mend)
    async with source(database, table="t", key=("a",), allow_sort=False) as reader:
        assert reader.access.paged


async def test_what_where_looks_up_in_a_large_table_is_refused_without_advice_to_index_the_key(
    database: Database,
) -> None:
    await sql(
        database,
        f"{TABLE} CREATE TABLE large AS SELECT n, repeat('x', 100) filler FROM generate_series(1, 12000) n",
    )
    options = {"table": "t", "where": "a = (SELECT max(n) FROM large)"}
    with pytest.raises(SourceRefused, match=r"all of public\.large is read for each page") as refused:
        async with source(database, **options, allow_sort=False):
            pass
    assert "CREATE INDEX" not in (refused.value.hint or "")
    await sql(database, "CREATE INDEX ON large (n)")
    async with source(database, **options, allow_sort=False) as reader:
        assert reader.access.paged


@pytest.mark.parametrize("where", ["false", "a > 1 AND a < 1", "k LIKE 'x%'", "a IN (SELECT b FROM t)"])
async def test_a_filter_is_no_reason_to_refuse(database: Database, where: str) -> None:
    await sql(database, f"{TABLE}{SIZES['tiny']}")
    async with source(database, table="t", where=where, allow_sort=False) as reader:
        assert reader.access.paged


async def test_what_the_plan_is_asked_with_does_not_stay(database: Database) -> None:
    await sql(database, f"{TABLE}{SIZES['tiny']}")
    settings = "SELECT name FROM pg_settings WHERE name LIKE 'enable%' AND setting <> boot_val OR name ~ 'parallel.*gather' AND setting = '0'"
    async with source(database, query=f"SELECT name FROM ({settings}) s", key=("name",), allow_sort=False) as reader:
        assert reader.access.at_once
        assert [page async for page in reader.at_once().pages(None)] == []
