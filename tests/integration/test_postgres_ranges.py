"""A table read in ranges and in shards: whatever its key, each row is in exactly one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import ReadingBroken
from asyncup.model import Range, Reach, Row
from asyncup.sources.keyset import Statement
from asyncup.sources.postgres import PostgresSource, Request
from tests.conftest import Database
from tests.integration.reading import emptied, parts, prepared, request, rows, session, source, sql

#: Tables of 3,000 rows with their key; those with an index of their own need it for a key that is not the primary one.
TABLES = {
    "histogram": "CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t SELECT g * 7 FROM generate_series(1, 3000) g; ANALYZE t",
    "never analysed": "CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t SELECT -g FROM generate_series(1, 3000) g",
    "composite": "CREATE TABLE t (a text, b int, PRIMARY KEY (a, b)); ANALYZE t;"
    "INSERT INTO t SELECT md5((g % 3)::text), g FROM generate_series(1, 3000) g; ANALYZE t",
    "texts": """CREATE TABLE t (id text PRIMARY KEY);
        INSERT INTO t SELECT CASE g % 4 WHEN 0 THEN 'É' WHEN 1 THEN '"{,}\\' WHEN 2 THEN ' ' ELSE 'null' END || g
        FROM generate_series(1, 3000) g; ANALYZE t""",
    "uuid": "CREATE TABLE t (id uuid PRIMARY KEY); INSERT INTO t SELECT gen_random_uuid() FROM generate_series(1, 3000);"
    "ANALYZE t",
    "timestamps": "CREATE TABLE t (id timestamptz PRIMARY KEY); INSERT INTO t VALUES ('-infinity'), ('infinity'),"
    "('0044-03-15 BC'); INSERT INTO t SELECT '2024-01-01'::timestamptz + g * interval '1 s 1 us'"
    " FROM generate_series(1, 3000) g; ANALYZE t",
    "numerics": "CREATE TABLE t (id numeric PRIMARY KEY); INSERT INTO t VALUES ('NaN'), ('Infinity'), ('-Infinity');"
    "INSERT INTO t SELECT g / 7.0 FROM generate_series(1, 3000) g; ANALYZE t",
    "chars": "CREATE TABLE t (id char(8) PRIMARY KEY); INSERT INTO t SELECT g::text FROM generate_series(1, 3000) g;"
    "ANALYZE t",
    "empty": "CREATE TABLE t (id bigint PRIMARY KEY); ANALYZE t",
    "one row": "CREATE TABLE t (id bigint PRIMARY KEY); INSERT INTO t VALUES (1); ANALYZE t",
    "partitioned": """CREATE TABLE t (id int, r text, PRIMARY KEY (r, id)) PARTITION BY LIST (r);
        CREATE TABLE t1 PARTITION OF t FOR VALUES IN ('a') PARTITION BY RANGE (id);
        CREATE TABLE t11 PARTITION OF t1 FOR VALUES FROM (0) TO (1000); CREATE TABLE "T 12" PARTITION OF t1 DEFAULT;
        CREATE TABLE t2 PARTITION OF t FOR VALUES IN ('b'); CREATE TABLE t3 PARTITION OF t DEFAULT;
        INSERT INTO t SELECT g, chr(97 + g % 4) FROM generate_series(1, 3000) g; ANALYZE t""",
}
NULLABLE = """CREATE TABLE t (id bigint PRIMARY KEY, a int, b text); CREATE INDEX ON t (a, b, id);
    INSERT INTO t SELECT g, CASE WHEN g % 3 > 0 THEN g % 50 END, CASE WHEN g % 5 > 0 THEN 'x' || g % 7 END
    FROM generate_series(1, 3000) g; ANALYZE t"""


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "ranges") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    return emptied(room)


async def divided(reader: PostgresSource) -> tuple[Reach, ...]:
    """The ranges of a table, however small it is."""
    assert await reader.widen() is None
    reader.estimated_rows = None
    return await reader.divide()


async def in_ranges(reader: PostgresSource) -> list[list[Row]]:
    """The rows of each range; of one alone where the source is not divided."""
    found = await divided(reader)
    if not found:
        return [await rows(reader)]
    return [[row async for page in reader.pages(None, reach.part) for row in page.rows] for reach in found]


async def check(database: Database, options: dict[str, object], *, divided: bool) -> None:
    async with (
        source(database, table="t", **options) as whole,
        source(database, table="t", readers=3, **options) as some,
    ):
        expected = [parts(whole, row) for row in await rows(whole)]
        ranges = await in_ranges(some)
        assert (len(ranges) > 1) is divided
        found = [parts(some, row) for part in ranges for row in part]
        assert Counter(found) == Counter(expected), "each row is in exactly one range"
        if not whole.relation.leaves and "key" not in options:
            assert found == expected, "ranges lie in key order"
            assert max(map(len, ranges)) <= max(600, len(expected) / 4), "ranges are of about the same length"
        for reach in await some.divide():
            part = [row async for page in some.pages(None, reach.part) for row in page.rows]
            if part:
                middle = some.shape.key(part[len(part) // 2])
                behind = [row async for page in some.pages(middle, reach.part) for row in page.rows]
                assert behind == part[len(part) // 2 + 1 :], "a resumed range goes on behind its key"


@pytest.mark.parametrize("name", TABLES)
async def test_each_row_is_in_exactly_one_range(database: Database, name: str) -> None:
    await sql(database, TABLES[name])
    await check(database, {}, divided=name not in ("empty", "one row"))


@pytest.mark.parametrize("key", [("a", "b"), ("b",), ("a",)])
async def test_rows_with_null_in_their_key_are_a_range_of_their_own(database: Database, key: tuple[str, ...]) -> None:
    await sql(database, NULLABLE + "; CREATE INDEX ON t (b, id); CREATE INDEX ON t (a, id)")
    await check(database, {"key": key}, divided=True)


@pytest.mark.parametrize("name", TABLES)
async def test_each_row_is_in_exactly_one_shard(database: Database, name: str) -> None:
    await sql(database, TABLES[name])
    count = 3
    found: Counter[object] = Counter()
    for number in range(count):
        async with source(database, table="t", shard=(number, count)) as reader:
            shard = [parts(reader, row) for row in await rows(reader)]
            found.update(shard)
            if name not in ("empty", "one row"):
                assert 0.8 < len(shard) * count / 3000 < 1.2, "shards are of about the same size"
    async with source(database, table="t") as whole:
        assert found == Counter(parts(whole, row) for row in await rows(whole))


async def test_a_shard_is_the_same_whatever_is_written_meanwhile_and_however_it_is_read(database: Database) -> None:
    await sql(database, NULLABLE)
    options = {"table": "t", "key": ("a", "b"), "shard": (1, 3)}
    async with source(database, **options) as reader:
        before = {parts(reader, row) for row in await rows(reader)}
    await sql(database, "INSERT INTO t SELECT g, 7, 'new' FROM generate_series(4000, 5000) g; ANALYZE t")
    async with source(database, readers=4, **options) as reader:
        after = {parts(reader, row) for part in await in_ranges(reader) for row in part}
    assert {row for row in after if "new" not in row} == before


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t2 ENABLE ROW LEVEL SECURITY",
        """ALTER TABLE t DETACH PARTITION t2; DROP TABLE t2; CREATE TABLE t2 (r text NOT NULL, id int NOT NULL);
        ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN ('b')""",
        "CREATE ROLE no_leaf LOGIN PASSWORD 'secret'; GRANT SELECT ON t TO no_leaf",
        """CREATE ROLE no_leaf LOGIN PASSWORD 'secret'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO no_leaf;
        CREATE SCHEMA hidden; ALTER TABLE t2 SET SCHEMA hidden""",
    ],
    ids=["row security", "other order of columns", "no privilege", "no privilege on the schema"],
)
async def test_partitions_are_read_through_their_parent_where_they_would_say_another_thing(
    database: Database, change: str
) -> None:
    await sql(database, TABLES["partitioned"])
    await sql(database, change)
    role = "no_leaf" if "no_leaf" in change else None
    dsn = database.dsn if role is None else f"postgresql://{role}:secret@{database.dsn.rpartition('@')[2]}"
    try:
        async with source(database, dsn=dsn, table="t", readers=2) as reader:
            assert None in reader.relation.leaves.values()
            assert {reach.part.leaf for reach in await divided(reader)} == {None} or not await divided(reader)
            expected = int(await sql(database, "SELECT count(*) FROM t"))
            assert len(await rows(reader)) == expected
    finally:
        if role is not None:
            await sql(database, f"DROP SCHEMA IF EXISTS hidden CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_readers_have_a_connection_each_and_no_more(database: Database) -> None:
    await sql(database, TABLES["histogram"])
    async with source(database, table="t", readers=3, page_size=100) as reader:
        reaches = await divided(reader)
        reading = [reader.pages(None, reach.part) for reach in reaches]
        await asyncio.gather(*(anext(pages) for pages in reading))
        used = await sql(
            database, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'ranges' AND pid <> pg_backend_pid()"
        )
        assert int(used) == 3
        for pages in reading:
            await pages.aclose()


def frozen_request() -> Request:
    return request(table="t", readers=3, page_size=50)


async def test_a_snapshot_shows_every_reader_the_same_instant(database: Database) -> None:
    await sql(database, TABLES["histogram"])
    async with session(database) as opened:
        reader = await PostgresSource.resolve(await opened.freeze(), frozen_request())
        reaches = await divided(reader)
        await sql(database, "DELETE FROM t WHERE id % 2 = 0; INSERT INTO t SELECT -g FROM generate_series(1, 99) g")
        found = [row[0] for reach in reaches async for page in reader.pages(None, reach.part) for row in page.rows]
        assert found == [str(7 * number) for number in range(1, 3001)]
        await reader.close()


async def test_a_snapshot_that_has_gone_ends_the_reading_and_says_so(database: Database) -> None:
    await sql(database, TABLES["histogram"])
    async with session(database) as opened:
        reader = await PostgresSource.resolve(await opened.freeze(), frozen_request())
        pages = reader.pages(None)
        await anext(pages)
        holder = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = 'ranges'"
        assert await sql(database, holder) == "t"
        large = (*("7", None)[: reader.shape.keys], 1 << 20, None)
        with pytest.raises(ReadingBroken, match="the snapshot that this run reads has gone"):
            await reader.body(large)  # that row is not to be blamed for it
        with pytest.raises(ReadingBroken, match="the snapshot that this run reads has gone") as caught:
            [page async for page in pages]
        assert "without" in str(caught.value.hint) or "leave --snapshot out" in str(caught.value.hint)
        await reader.close()


PARTITIONED = """CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE a PARTITION OF t FOR VALUES FROM (0) TO (1000); CREATE TABLE b PARTITION OF t FOR VALUES FROM (1000) TO (2000);
    CREATE TABLE d PARTITION OF t DEFAULT; INSERT INTO t SELECT generate_series(1, 2999)"""


async def numbers(reader: PostgresSource, part: Range) -> list[int]:
    return [int(row[0]) for page in [page async for page in reader.pages(None, part)] for row in page.rows]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("DROP TABLE b", {*range(1, 1000), *range(2000, 3000)}),
        ("ALTER TABLE t DETACH PARTITION b", {*range(1, 1000), *range(2000, 3000)}),
        ("ALTER TABLE b RENAME TO x; ALTER TABLE a RENAME TO b; ALTER TABLE x RENAME TO a", set(range(1, 3000))),
        ("ALTER TABLE b ENABLE ROW LEVEL SECURITY", set(range(1, 3000))),
        ("DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s; ALTER TABLE b SET SCHEMA s", set(range(1, 3000))),
        (
            """BEGIN; ALTER TABLE t DETACH PARTITION d; CREATE TABLE e PARTITION OF t FOR VALUES FROM (2000) TO (2500);
            ALTER TABLE d RENAME TO old; CREATE TABLE d PARTITION OF t DEFAULT; INSERT INTO t TABLE old; DROP TABLE old;
            COMMIT""",
            set(range(1, 3000)),
        ),
    ],
    ids=["dropped", "detached", "names exchanged", "row security", "moved", "split"],
)
async def test_a_checkpoint_s_partitions_are_found_again_whatever_became_of_them(
    database: Database, change: str, left: set[int]
) -> None:
    """As a run does that goes on: the parts of before, and then those that came."""
    await sql(database, PARTITIONED)
    async with source(database, table="t", readers=2) as reader:
        parts_before = [reach.part for reach in await divided(reader)]
        first = set(await numbers(reader, parts_before[0]))
    await sql(database, change)
    async with source(database, table="t", readers=2) as reader:
        found = [number for part in parts_before[1:] for number in await numbers(reader, part)]
        found += [number for part in await reader.further(parts_before) for number in await numbers(reader, part)]
        assert first | set(found) >= left
        assert len(found) == len(set(found)), "none is read twice"


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE b",
        "ALTER TABLE b RENAME TO c",
        "DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s; ALTER TABLE b SET SCHEMA s",
    ],
)
async def test_a_partition_that_goes_or_moves_while_it_is_read_ends_or_is_followed(
    database: Database, change: str
) -> None:
    await sql(database, PARTITIONED)
    async with source(database, table="t", readers=2, page_size=100) as reader:
        part = next(
            reach.part for reach in await divided(reader) if reader.relation.leaves[reach.part.leaf or 0] == "public.b"
        )
        expected = await numbers(reader, part)
        pages = reader.pages(None, part)
        found = len(await anext(pages))
        await sql(database, change)
        found += sum([len(page) async for page in pages])
        assert found == (100 if change == "DROP TABLE b" else len(expected))


@pytest.mark.parametrize("readers", [1, 3])
async def test_a_key_whose_bounds_cannot_be_had_is_read_all_the_same(database: Database, readers: int) -> None:
    """The texts of an array's bounds cannot be taken back as an array of texts."""
    await sql(
        database,
        "CREATE TABLE t (id int[] PRIMARY KEY); INSERT INTO t SELECT ARRAY[g, 1] FROM generate_series(1, 3000) g; ANALYZE t",
    )
    async with source(database, table="t", readers=readers) as reader:
        assert sum(map(len, await in_ranges(reader))) == 3000


async def test_where_the_server_takes_fewer_connections_there_are_fewer_readers(database: Database) -> None:
    await sql(
        database,
        TABLES["histogram"] + "; CREATE ROLE two LOGIN PASSWORD 'secret' CONNECTION LIMIT 2; GRANT SELECT ON t TO two",
    )
    try:
        async with source(
            database, dsn=f"postgresql://two:secret@{database.dsn.rpartition('@')[2]}", table="t", readers=4
        ) as reader:
            said = await reader.widen()
            assert said is not None
            assert said.startswith("2 of 4 readers have a connection; a further one was refused: ")
            reading = [reader.pages(None, reach.part) for reach in await reader.divide()]
            assert await asyncio.gather(*(anext(pages) for pages in reading))
            for pages in reading:
                await pages.aclose()
    finally:
        await sql(database, "DROP OWNED BY two; DROP ROLE two")


async def test_a_shard_is_read_along_the_index_too(database: Database) -> None:
    await sql(
        database,
        "CREATE TABLE t (id uuid PRIMARY KEY, x text); INSERT INTO t SELECT gen_random_uuid(), repeat('x', 100)"
        " FROM generate_series(1, 20000); ANALYZE t",
    )
    async with source(database, table="t", shard=(0, 2)) as reader:
        statement = reader._keyset.page(0, ("80000000-0000-0000-0000-000000000000",), 1000, 1000)
        plan = await reader._read(Statement(f"EXPLAIN {statement.sql}", statement.arguments))
        text = "\n".join(row[0] for row in plan)
        assert "Sort" not in text, text
        assert reader.estimated_rows == pytest.approx(10000, rel=0.1)
