"""`--body lo:COLUMN`: the object is the large object whose oid the column holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import BodyRefused, SourceRefused
from asyncup.model import is_deferred
from tests.conftest import Database
from tests.integration.reading import check_exactly_once, emptied, prepared, rows, source, sql, values

PAGE = 64 << 10
SLICE = 20_000


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "large_objects") as database:
        yield database


@pytest.fixture
def database(room: Database) -> Database:
    room.sql("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    return emptied(room)


async def fill(database: Database, *sizes: int, kind: str = "oid") -> None:
    await sql(
        database,
        f"CREATE DOMAIN lo AS oid; CREATE TABLE t (n int PRIMARY KEY, b {kind});"
        "INSERT INTO t SELECT n, lo_from_bytea(0, convert_to(rpad('', size, n || ' bytes '), 'UTF8')) "
        f"FROM unnest('{{{','.join(map(str, sizes))}}}'::int[]) WITH ORDINALITY AS q(size, n)",
    )


def expected(*sizes: int) -> list[bytes]:
    return [(b"%d bytes " % n * size)[:size] for n, size in enumerate(sizes, 1)]


def reading(database: Database, **options: Any) -> Any:
    given = {"table": "t", "body": "b", "large_object": True, "memory": 1, "slice_bytes": SLICE, **options}
    return source(database, **given)


async def read(reader: Any, row: Any) -> bytes:
    async with reader.stream(row, 1).open() as (size, slices):
        body = b"".join([piece async for piece in slices])
    assert size == len(body)
    return body


@pytest.mark.parametrize("kind", ["oid", "lo"])
@pytest.mark.parametrize("what", [{}, {"table": None, "query": "TABLE t", "key": ("n",)}], ids=["table", "query"])
async def test_a_body_is_all_of_its_large_object(database: Database, kind: str, what: dict[str, Any]) -> None:
    share = PAGE // (4 + bool(what))  # of a query one row is read again
    sizes = (0, 1, 2047, 2048, 2049, share - 1, share, share + 1, SLICE, 2 * SLICE, 2 * SLICE + 1, 500_000)
    await fill(database, *sizes, kind=kind)
    async with reading(database, page_size=4, **what) as reader:
        assert reader.body_type == "oid"
        found = await rows(reader)
        assert [row[-2] for row in found] == list(sizes)
        assert [is_deferred(row) for row in found] == [size > share for size in sizes]
        assert [await reader.body(row) for row in found] == expected(*sizes)
        assert [await read(reader, row) for row in found] == expected(*sizes)
        assert [row[-1] for row in found if not is_deferred(row)] == expected(*sizes)[:7]


async def test_rows_come_once_and_in_order_and_null_is_no_body(database: Database) -> None:
    await fill(database, 5, 100_000, 7)
    await sql(database, "INSERT INTO t VALUES (0, NULL), (9, NULL)")
    reader = await check_exactly_once(
        database, ["0", "1", "2", "3", "9"], column="n", table="t", body="b", large_object=True
    )
    assert reader.body_type == "oid"
    async with reading(database) as opened:
        assert [row[-2] for row in await rows(opened)] == [None, 5, 100_000, 7, None]


MISSING = "SELECT lo_unlink(b) FROM t WHERE n IN (3, 4, 9)"
FOREIGN = "CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT SELECT ON t TO {role};"


@pytest.mark.parametrize("page_size", [1, 3, None])
@pytest.mark.parametrize("what", [{}, {"table": None, "query": "TABLE t", "key": ("n",)}], ids=["table", "query"])
async def test_a_large_object_that_is_missing_costs_its_row_and_no_other(
    database: Database, page_size: int | None, what: dict[str, Any]
) -> None:
    sizes = (*(1000 + n for n in range(8)), 90_000, 80_000)
    await fill(database, *sizes)
    await sql(database, MISSING)
    async with reading(database, page_size=page_size, **what) as reader:
        found = await rows(reader)
        assert [row[0] for row in found] == [str(n) for n in range(1, 11)]
        for row, body in zip(found, expected(*sizes), strict=True):
            if row[0] in ("3", "4", "9"):
                for way in (reader.body, lambda row: read(reader, row)):
                    with pytest.raises(BodyRefused, match="does not exist"):
                        await way(row)
            else:
                assert await reader.body(row) == body


async def test_a_large_object_that_may_not_be_read_costs_its_row_and_select_on_it_is_enough(database: Database) -> None:
    role = "reader_of_large_objects"
    await fill(database, 1000, 2000, 90_000)
    await sql(database, FOREIGN.format(role=role))
    try:
        for oid in await values(database, "SELECT b::text FROM t WHERE n IN (1, 3)"):
            await sql(database, f"GRANT SELECT ON LARGE OBJECT {oid} TO {role}")
        dsn = database.dsn.replace(database.dsn.split("//")[1].split("@")[0], f"{role}:secret")
        async with reading(database, dsn=dsn) as reader:
            found = await rows(reader)
            bodies = expected(1000, 2000, 90_000)
            assert await reader.body(found[0]) == bodies[0]
            with pytest.raises(BodyRefused, match="permission denied for large object"):
                await reader.body(found[1])
            assert await read(reader, found[2]) == bodies[2]
    finally:
        await sql(database, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_column_of_another_type_is_refused_with_its_type(database: Database) -> None:
    await sql(database, 'CREATE TABLE t (n int PRIMARY KEY, "B" text)')
    with pytest.raises(SourceRefused, match="is text, not the oid of a large object") as refused:
        async with reading(database, body="B"):
            pass
    assert refused.value.hint == '--body "B" takes the column\'s own value'
