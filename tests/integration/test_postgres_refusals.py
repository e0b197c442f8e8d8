"""Every mistake about the source is refused before anything is read: what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import SourceRefused
from tests.conftest import Database
from tests.integration.reading import (
    prepared,
    read,
    source,
    sql,
)

SETUP = """
CREATE TABLE documents (id int PRIMARY KEY, title text, body bytea); INSERT INTO documents VALUES (1, 'one', 'x');
CREATE TABLE "Mixed Case" (id int PRIMARY KEY, "Full Name" text);
CREATE SCHEMA sales; CREATE TABLE sales.orders (id int PRIMARY KEY); CREATE TABLE sales."Re turns" (id int PRIMARY KEY);
CREATE VIEW recent AS SELECT * FROM documents;
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
CREATE SEQUENCE numbers; CREATE SEQUENCE documents_id_seq; CREATE TYPE pair AS (a int, b int);
CREATE TABLE shapeless (id int PRIMARY KEY, shape point, doc json);
CREATE FUNCTION writes() RETURNS int LANGUAGE sql VOLATILE AS
  $$ INSERT INTO documents VALUES (nextval('numbers') + 100, 'written') RETURNING id $$;
"""


@pytest.fixture(scope="module")
def office(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "refusals", SETUP) as database:
        yield database
        assert database.sql("SELECT count(*) FROM documents") == "1"


def table(name: str, message: str, hint: str, **options: Any) -> Any:
    return pytest.param({"table": name, **options}, message, hint, id=name + " ".join(map(str, options.values())))


NAMES = [
    table("documnets", "there is no table documnets", "did you mean documents?"),
    table("public.document", "there is no table public.document", "did you mean documents?"),
    table('"Documents"', 'there is no table "Documents"', "did you mean documents?"),
    table("mixed", "there is no table mixed", 'did you mean "Mixed Case"?'),
    table("mixed case", "there is no table mixed case", 'did you mean "Mixed Case"?'),
    table("sale.orders", "there is no table sale.orders", "did you mean sales.orders?"),
    table("orders", "there is no table orders", "did you mean sales.orders?"),
    table("sales.returns", "there is no table sales.returns", 'did you mean sales."Re turns"?'),
    table("zzz", "there is no table zzz", "there are: "),
    table("a.b.c.d", "too many dotted names", "--table"),
    table("elsewhere.public.documents", "cross-database references", "--table"),
    table("documents_pkey", "it is an index, not a table", "did you mean documents?"),
    table("documents_id_seq", "it is a sequence, not a table", "did you mean documents?"),
    table("pair", "it is a composite type, not a table", "parent"),
    table("parent", "other tables inherit from it", "select * from only"),
    table("recent", "it is a view", "--key"),
    table("recent", "no column idd", "did you mean id?", key=("idd",)),
    table("documents", "public.documents has no column titel", "did you mean title?", key=("titel",)),
    table("documents", "public.documents has no column Title", "did you mean title?", key=("Title",)),
    table("documents", "public.documents has no column contents", "there are: body, id, title", columns=("contents",)),
    table("documents", "public.documents has no column bdoy", "did you mean body?", body="bdoy"),
    table('"Mixed Case"', '"Mixed Case" has no column full_name', 'did you mean "Full Name"?', columns=("full_name",)),
    table("shapeless", "could not identify an ordering operator for type point", "--key", key=("shape", "id")),
    table("shapeless", "could not identify an ordering operator for type json", "--key", key=("doc", "id")),
]


@pytest.mark.parametrize(("what", "message", "hint"), NAMES)
async def test_a_name_is_refused(office: Database, what: dict[str, Any], message: str, hint: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        async with source(office, **what):
            pass
    assert message in str(refused.value)
    assert hint in (refused.value.hint or "")
    assert refused.value.attempts == 1


SQL = {
    "a word in --where": ({"where": "id = = 1"}, 'syntax error at or near "="', "--where"),
    "a column in --where": ({"where": "titel = 'x'"}, 'column "titel" does not exist', "documents.title"),
    "a value in --where": ({"where": "id = 'one'"}, 'invalid input syntax for type integer: "one"', "--where"),
    "a type in --where": ({"where": "title"}, "must be type boolean", "--where"),
    "an aggregate in --where": ({"where": "count(*) > 1"}, "aggregate functions are not allowed in WHERE", "--where"),
    "a word in --query": ({"query": "selct * from documents"}, 'syntax error at or near "selct"', "--query"),
    "a table in --query": ({"query": "select * from documnets"}, 'relation "documnets" does not exist', "--query"),
    "a column in --query": ({"query": "select titel as id from documents"}, 'column "titel" does not exist', "title"),
    "no key column in --query": ({"query": "select title as idd from documents"}, "no column id", "did you mean idd?"),
    "no column in --query": ({"query": "select from documents"}, "no column id", "there are none"),
    "no select": ({"query": "delete from documents returning *"}, "no rows that can be read in pages", "SELECT"),
    "a setting": ({"query": "show all"}, "no rows that can be read in pages", "SELECT"),
    "nothing": ({"query": " ; -- nothing"}, "no rows that can be read in pages", "SELECT"),
    "two statements": ({"query": "select 1 as id; select 2 as id"}, "multiple commands", "--query"),
    "an ambiguous name": (
        {"query": "select id from documents a, documents b"},
        'column reference "id" is ambiguous',
        "--query",
    ),
}


@pytest.mark.parametrize("mistake", SQL)
async def test_sql_is_refused_for(office: Database, mistake: str) -> None:
    options, message, hint = SQL[mistake]
    what = {"query": options["query"], "key": ("id",)} if "query" in options else {"table": "documents", **options}
    with pytest.raises(SourceRefused) as refused:
        async with source(office, **what):
            pass
    assert message in str(refused.value)
    assert hint in (refused.value.hint or "")


WRITES = {
    "a function that writes": "select writes() as id",
    "a sequence": "select nextval('numbers') as id",
    "a row lock": "select id from documents for update",
    "a statement that writes": "with w as (delete from documents returning id) select id from w",
    "a setting": "select id from documents where set_config('transaction_read_only', 'off', true) is not null",
}


@pytest.mark.parametrize("way", WRITES)
async def test_a_query_cannot_write_by(office: Database, way: str) -> None:
    with pytest.raises(SourceRefused, match=r"read-only|read-write|data-modifying"):
        await read(office, query=WRITES[way], key=("id",))
    assert await sql(office, "SELECT count(*), (SELECT last_value FROM numbers) FROM documents") == "1|1"


async def test_a_mistake_that_only_a_row_shows_is_refused_when_it_is_read(office: Database) -> None:
    async with source(office, table="documents", where="1 / (id - 1) > 0") as reader:
        with pytest.raises(SourceRefused, match="division by zero"):
            await anext(reader.pages(None))


async def test_a_table_that_goes_away_while_it_is_read_is_refused_by_name(database: Database) -> None:
    await sql(database, "CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9)")
    async with source(database, table="t", page_size=2) as reader:
        reading = reader.pages(None)
        assert len(await anext(reading)) == 2
        await sql(database, "DROP TABLE t")
        with pytest.raises(SourceRefused, match=r'read public\.t: .*relation "public\.t" does not exist'):
            await anext(reading)
