"""What a source tells before it reads: how many rows there may be, and whether an index is to be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from tests.conftest import Database
from tests.integration.reading import (
    prepared,
    source,
    sql,
)


@pytest.fixture(scope="module")
def counted(postgres: EmbeddedPostgres) -> Iterator[Database]:
    text = """
    CREATE TABLE t AS SELECT generate_series(1, 10000) n; ALTER TABLE t ADD PRIMARY KEY (n); CREATE VIEW v AS TABLE t;
    CREATE TABLE parts (n int PRIMARY KEY) PARTITION BY HASH (n);
    CREATE TABLE p0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE p1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO parts SELECT generate_series(1, 2000); ANALYZE; CREATE TABLE never_analyzed (n int PRIMARY KEY)
    """
    with prepared(postgres, "estimates", text) as database:
        yield database


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ({"table": "t"}, 10_000),
        ({"table": "t", "where": "n <= 1000"}, 1000),
        ({"table": "t", "where": "false"}, 0),
        ({"table": "parts"}, 2000),
        ({"table": "v", "key": ("n",)}, 10_000),
        ({"query": "SELECT * FROM t UNION ALL SELECT -n FROM t", "key": ("n",)}, 20_000),
        ({"table": "never_analyzed"}, None),
    ],
    ids=["table", "filter", "nothing", "partitions", "view", "query", "unknown"],
)
async def test_the_estimate_is_the_planners(counted: Database, what: dict[str, object], expected: int | None) -> None:
    async with source(counted, **what) as reader:
        assert type(reader.estimated_rows) is int
        assert reader.estimated_rows >= 0
        assert expected is None or abs(reader.estimated_rows - expected) <= expected / 10


@pytest.mark.parametrize(
    ("columns", "key", "warned"),
    [
        ("k text, t text COLLATE pg_c_utf8", ("k",), "the database's collation was 0 when its indexes were built"),
        ("k text COLLATE pg_c_utf8", ("k",), "collation pg_c_utf8 of column k was 0"),
        ("k uuid", ("k",), None),
        ("k uuid, t text", ("k",), None),
    ],
)
async def test_a_collation_that_has_changed_under_an_index_is_a_warning(
    database: Database, columns: str, key: tuple[str, ...], warned: str | None
) -> None:
    await sql(
        database,
        f"CREATE TABLE t ({columns}, PRIMARY KEY ({', '.join(key)}));"
        "UPDATE pg_database SET datcollversion = '0' WHERE datname = current_database();"
        "UPDATE pg_collation SET collversion = '0' WHERE collname = 'pg_c_utf8'",
    )
    async with source(database, table="t") as reader:
        assert [
            notice for notice in reader.notices if (warned or "") in notice and "REINDEX" in notice
        ] == reader.notices
        assert len(reader.notices) == (warned is not None)
