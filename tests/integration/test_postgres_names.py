"""Names are taken as they are: whatever a schema, a table, a column or a type is called, nothing of it is run as SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from tests.conftest import Database
from tests.integration.reading import (
    check_exactly_once,
    prepared,
    read,
    rows,
    source,
    sql,
)

NAMES = [
    "plain",
    "Mixed Case",
    'we"ird',
    '"',
    "it's",
    "select",
    "naïve ☃",
    "x" * 63,
    "é" * 31,
    "a.b",
    "a AS b",
    "$1",
    "back\\slash",
    " \t\n",
    "); DROP TABLE victim; --",
    '" FROM pg_authid; --',
    # names that the statements of the reader use themselves
    *("p", "q", "w", "k0", "c0", "v0", "again", "body", "row"),
]

#: Columns beside the one under test, called like the reader's own.
OTHERS = ("k0", "c0", "v0", "p", "q", "w", "again", "body")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def columns(name: str) -> list[str]:
    return list(dict.fromkeys([name, *OTHERS]))


@pytest.fixture(scope="module")
def named(postgres: EmbeddedPostgres) -> Iterator[Database]:
    text = 'CREATE TABLE victim (); CREATE TABLE docs (n int PRIMARY KEY); CREATE TABLE "DOCS" (x int PRIMARY KEY);'
    for name in NAMES:
        table, others = f"{quoted(name)}.{quoted(name)}", columns(name)[1:]
        text += (
            f"CREATE SCHEMA {quoted(name)}; CREATE TABLE {table} ({quoted(name)} int PRIMARY KEY"
            + "".join(f", {quoted(other)} text" for other in others)
            + f"); INSERT INTO {table} SELECT n{f', {chr(39)}x{chr(39)} || n' * len(others)} FROM generate_series(1, 4) n;"
        )
    with prepared(postgres, "names", text) as database:
        yield database
        assert database.sql("SELECT to_regclass('victim')") == "victim"


@pytest.mark.parametrize("kind", ["table", "query"])
@pytest.mark.parametrize("name", NAMES)
async def test_rows_are_read_from_a_schema_a_table_and_a_column_called(named: Database, name: str, kind: str) -> None:
    table = f"{quoted(name)}.{quoted(name)}"
    what = {"table": table} if kind == "table" else {"query": f"SELECT * FROM {table}"}
    options = {"key": (name, "c0"), "columns": ("p", name), "where": f"{quoted(name)} > 1", "page_size": 2}
    expected = [{other: n if other == name else f"x{n}" for other in columns(name)} for n in (2, 3, 4)]
    async with source(named, **what, **options) as reader:
        found, shape = await rows(reader), reader.shape
        assert [shape.key(row) for row in found] == [
            tuple(str(row[part]) for part in dict.fromkeys((name, "c0"))) for row in expected
        ]
        assert [row[shape.index("p")] for row in found] == [str(row["p"]) for row in expected]
        assert [row[shape.index(name)] for row in found] == ["2", "3", "4"]
        assert [json.loads(row[-1]) for row in found] == expected
        assert json.loads(await reader.body(found[0]) or b"") == expected[0]
    assert [row[-1] for row in await read(named, **what, **options, body=name)] == [b"2", b"3", b"4"]


@pytest.mark.parametrize("written", ["docs", "DOCS", '"docs"', "public.docs", 'PUBLIC . "docs"', " docs "])
async def test_a_table_is_named_as_in_sql(named: Database, written: str) -> None:
    async with source(named, table=written) as reader:
        assert reader.relation.label == "public.docs"
        assert reader.relation.names == ("n",)


async def test_a_bare_name_is_looked_up_in_the_search_path(database: Database) -> None:
    await sql(
        database,
        "CREATE SCHEMA sales; CREATE TABLE t (n int PRIMARY KEY); CREATE TABLE sales.t (n int PRIMARY KEY, x int);"
        f"ALTER DATABASE {database.name} SET search_path = sales, public",
    )
    async with source(database, table="t") as reader:
        assert reader.relation.label == "sales.t"
    async with source(database, table="public.t") as reader:
        assert reader.relation.names == ("n",)


async def test_a_label_is_written_as_in_sql(named: Database) -> None:
    async with source(named, table='"we""ird"."we""ird"') as reader:
        assert reader.relation.label == '"we""ird"."we""ird"'
    async with source(named, table="plain.plain") as reader:
        assert reader.relation.label == "plain.plain"


async def test_the_type_of_a_key_may_have_any_name_in_any_schema(named: Database) -> None:
    await sql(
        named,
        """
        CREATE SCHEMA "o'dd"; CREATE TYPE "o'dd"."ty""pe; --" AS ENUM ('one', 'two', 'three');
        CREATE TABLE typed (k "o'dd"."ty""pe; --" PRIMARY KEY, n int); INSERT INTO typed VALUES ('three', 3), ('one', 1), ('two', 2)
        """,
    )
    await check_exactly_once(named, ["1", "2", "3"], table="typed")
    await check_exactly_once(named, ["1", "2", "3"], query="SELECT * FROM typed", key=("k",))


async def test_columns_that_were_dropped_shift_nothing(named: Database) -> None:
    await sql(
        named,
        "CREATE TABLE shorter (gone int, n int, also int, b text, UNIQUE (gone), PRIMARY KEY (b, n)); ALTER TABLE shorter DROP gone,"
        "DROP also, ADD late int DEFAULT 7; INSERT INTO shorter SELECT n, n / 3 FROM generate_series(1, 9) n",
    )
    await check_exactly_once(named, [str(n) for n in range(1, 10)], table="shorter")
    assert [row[-1] for row in await read(named, table="shorter", body="late")] == [b"7"] * 9
