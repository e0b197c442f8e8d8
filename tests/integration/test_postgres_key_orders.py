"""Whatever the key, the filter and the size of a page: the pages are the rows in the server's own order, each once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncup.embedded.postgres import EmbeddedPostgres
from tests.conftest import Database
from tests.integration.reading import prepared, rows, source, sql

#: Columns with few values each, so that there are ties: those that may be NULL, and those that may not.
NULLABLE = {
    "f": ("float8", ["NaN", "Infinity", "-0", "0", "5e-324", None]),
    "d": ("date", ["infinity", "0044-03-15 BC", "9999-12-31", "20000-01-01", None]),
    "p": ("pair", ["(1,)", "(,)", "(1,2)", "(,2)", None]),
    "s": ("text", ["", " ", "a", "B", "ä", None]),
}
FILLED = {
    "m": ("numeric", ["NaN", "1.0", "1.00", "-1e300", "1e-30"]),
    "v": ("interval", ["1 month", "30 days", "-1 day +1 hour", "0"]),
    "r": ("int4range", ["empty", "(,)", "[1,2)", "[1,)"]),
    "a": ("text[]", ["{}", "{NULL}", "{a,NULL}", '{""}']),
    "y": ("bytea", ["", "\\x00", "\\xff"]),
}
COLUMNS = NULLABLE | FILLED
ROWS = 60


@pytest.fixture(scope="module")
def mixed(postgres: EmbeddedPostgres) -> Iterator[Database]:
    dice = random.Random(5)
    columns = [f"{name} {kind}{' NOT NULL' * (name in FILLED)}" for name, (kind, _) in COLUMNS.items()]
    drawn = [[dice.choice(values) for _, values in COLUMNS.values()] for _ in range(ROWS)]
    literals = [", ".join("NULL" if value is None else f"'{value}'" for value in row) for row in drawn]
    text = (
        f"CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id int PRIMARY KEY, {', '.join(columns)});"
        f"INSERT INTO t VALUES {', '.join(f'({number}, {row})' for number, row in enumerate(literals))}"
    )
    with prepared(postgres, "key_orders", text) as database:
        yield database


NAMES = st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=4, unique=True).filter(
    lambda names: sum(name in NULLABLE for name in names) <= 3
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=NAMES,
    sizes=st.integers(1, ROWS),
    resumed=st.integers(0, ROWS - 1),
    where=st.sampled_from([None, "id % 3 > 0"]),
)
async def test_pages_are_the_rows_in_the_order_of_the_server(
    mixed: Database, names: list[str], sizes: int, resumed: int, where: str | None
) -> None:
    asyncio.get_running_loop().set_debug(False)  # a stack for each of hundreds of statements
    order = ", ".join([*(f"{name} IS NOT DISTINCT FROM NULL" for name in names), *names, "id"])
    expected = (await sql(mixed, f"SELECT id FROM t WHERE {where or 'true'} ORDER BY {order}")).splitlines()
    async with source(mixed, table="t", key=tuple(names), where=where, page_size=sizes) as reader:
        found = await rows(reader)
        assert [row[len(names)] for row in found] == expected
        place = resumed % len(found)
        behind = await rows(reader, reader.shape.key(found[place]))
        assert [row[len(names)] for row in behind] == expected[place + 1 :]
    query = f"SELECT * FROM t WHERE {where or 'true'}"
    nothing = " AND ".join(f"{name} IS DISTINCT FROM NULL" for name in names)
    async with source(mixed, query=query, key=(*names, "id"), where=nothing, page_size=sizes) as paged:
        page_by_page = [row[: len(names) + 1] for row in await rows(paged)]
        at_once = [row[: len(names) + 1] async for page in paged.at_once().pages(None) for row in page.rows]
    in_order = await sql(
        mixed, f"SELECT id FROM t WHERE {where or 'true'} AND {nothing} ORDER BY {', '.join(names)}, id"
    )
    assert [row[-1] for row in page_by_page] == in_order.splitlines()
    assert at_once == page_by_page
