"""Keyset pagination as SQL: which key is chosen, and that statements compare on the server and leave no row out."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.errors import SourceRefused
from asyncup.model import Column, Key
from asyncup.names import quote
from asyncup.sources.keyset import AGAIN, TWICE, KeyChoice, Keyset, Relation, Statement, choose_key

ID = Column("id", "bigint", "int8", not_null=True)
TENANT = Column("tenant", "text", "text", not_null=True)
CREATED = Column("created", "timestamp with time zone", "timestamptz")
RANK = Column("Rank", "numeric", "numeric")
SCORE = Column("score", "double precision", "float8")
EXTRA = Column("extra", "integer", "int4")
BODY = Column("body", "bytea", "bytea")
DOC = Column("doc", "jsonb", "jsonb")
COLUMNS = (ID, TENANT, CREATED, RANK, SCORE, EXTRA, BODY, DOC)


def table(*unique_keys: tuple[str, ...], columns: tuple[Column, ...] = COLUMNS, is_query: bool = False) -> Relation:
    return Relation("public.docs", '"public"."docs"', "docs", columns, unique_keys, is_query, "shop")


def keyset(
    *key: Column,
    proven: bool = True,
    body: str | None = "body",
    where: str | None = None,
    columns: tuple[Column, ...] = (),
) -> Keyset:
    return Keyset(table(("id",)), KeyChoice(key, proven), columns, body, () if where is None else (where,))


def conditions(statement: Statement) -> list[str]:
    """The conditions of a statement's WHERE, in order; none of those used here has an AND of its own."""
    match = re.search(r"\nWHERE (.*?)(?:\nWINDOW|\nORDER BY|\Z)", statement.sql, re.DOTALL)
    return match[1].split(" AND ") if match else []


def order(statement: Statement) -> str:
    match = re.search(r"\nORDER BY (.*)\nLIMIT", statement.sql)
    assert match is not None
    return match[1]


# --- the key ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unique_keys", "requested", "chosen"),
    [
        # the primary key comes first among the unique keys
        ([("id",)], None, ["id"]),
        ([("tenant", "id"), ("id",)], None, ["tenant", "id"]),
        # what a unique index covers is taken as it is, in the order asked for
        ([("id",)], ["id"], ["id"]),
        ([("id",), ("tenant",)], ["tenant"], ["tenant"]),
        ([("tenant", "id")], ["id", "tenant"], ["id", "tenant"]),
        ([("id",)], ["created", "id"], ["created", "id"]),
        ([("id",)], ["id", "created"], ["id", "created"]),
        # what none covers gets the primary key behind it, so that ties are never lost
        ([("id",)], ["created"], ["created", "id"]),
        ([("tenant", "id")], ["created"], ["created", "tenant", "id"]),
        ([("tenant", "id")], ["id"], ["id", "tenant"]),
        ([("id",), ("tenant", "created")], ["tenant"], ["tenant", "id"]),
        ([("id",)], ["created", "created", "id"], ["created", "id"]),
    ],
)
def test_the_pagination_key_of_a_table_always_tells_all_rows_apart(
    unique_keys: list[tuple[str, ...]], requested: list[str] | None, chosen: list[str]
) -> None:
    choice = choose_key(table(*unique_keys), requested)
    assert [column.name for column in choice.columns] == chosen
    assert choice.proven
    assert any(set(unique) <= set(chosen) for unique in unique_keys)


def test_the_key_of_a_query_is_taken_as_it_is_and_proven_by_nothing() -> None:
    choice = choose_key(table(("id",), is_query=True), ["created", "created"])
    assert choice == KeyChoice((CREATED,), proven=False)


@pytest.mark.parametrize("requested", [None, ["created"]])
def test_a_table_whose_rows_cannot_be_told_apart_is_refused_with_what_would_mend_it(
    requested: list[str] | None,
) -> None:
    with pytest.raises(SourceRefused, match="no primary key and no unique index") as caught:
        choose_key(table(), requested)
    assert 'ALTER TABLE "public"."docs" ADD PRIMARY KEY' in (caught.value.hint or "")


def test_a_key_with_too_many_columns_that_may_be_null_is_refused() -> None:
    choose_key(table(("id",)), ["created", "Rank", "score"])
    with pytest.raises(SourceRefused, match="4 of its key columns may be NULL") as caught:
        choose_key(table(("id",)), ["created", "Rank", "score", "extra"])
    assert "created, Rank, score, extra" in caught.value.message
    assert "--key of NOT NULL columns" in (caught.value.hint or "")


# --- the pages --------------------------------------------------------------------------------------------------


def test_a_page_by_the_primary_key_reads_exactly_like_this() -> None:
    assert keyset(ID, columns=(TENANT,)).page(0, ("41",), 100, 65536) == Statement(
        "SELECT p.k0, p.c0, octet_length(p.body), CASE WHEN octet_length(p.body) <= $1::int THEN p.body END\n"
        'FROM (SELECT "docs"."id"::text AS k0, "docs"."tenant"::text AS c0, "docs"."body" AS body\n'
        'FROM "public"."docs" AS "docs"\n'
        'WHERE ("docs"."id") > ($2::text::bigint)\n'
        'ORDER BY "docs"."id"\n'
        "LIMIT 100) AS p",
        (65536, "41"),
    )


def test_the_first_page_has_no_condition() -> None:
    statement = keyset(ID).page(0, None, 7, 1)
    assert "WHERE" not in statement.sql
    assert statement.arguments == (1,)


def test_a_composite_key_is_compared_as_a_row_with_each_column_s_own_type() -> None:
    statement = keyset(TENANT, ID).page(0, ("a", "1"), 10, 1)
    assert conditions(statement) == ['("docs"."tenant", "docs"."id") > ($2::text::text, $3::text::bigint)']
    assert order(statement) == '"docs"."tenant", "docs"."id"'
    assert statement.arguments == (1, "a", "1")


def test_rows_with_a_null_in_the_key_are_read_in_a_phase_of_their_own() -> None:
    pages = keyset(CREATED, ID)
    assert pages.phases == ((False, False), (True, False))
    assert conditions(pages.page(0, None, 10, 1)) == ['"docs"."created" IS DISTINCT FROM NULL']
    assert order(pages.page(0, None, 10, 1)) == '"docs"."created", "docs"."id"'
    later = pages.page(1, (None, "7"), 10, 1)
    assert conditions(later) == ['"docs"."created" IS NOT DISTINCT FROM NULL', '("docs"."id") > ($2::text::bigint)']
    assert order(later) == '"docs"."created", "docs"."id"', "as an index has it"
    assert later.arguments == (1, "7")


@pytest.mark.parametrize("key", [(ID,), (CREATED, ID), (CREATED, ID, RANK), (SCORE, CREATED, RANK, ID)])
def test_every_pattern_of_nulls_has_exactly_one_phase(key: tuple[Column, ...]) -> None:
    pages = keyset(*key)
    nullable = sum(not column.not_null for column in key)
    assert len(set(pages.phases)) == len(pages.phases) == 2**nullable
    for number, pattern in enumerate(pages.phases):
        row: Key = tuple(None if null else "1" for null in pattern)
        assert pages.phase_of(row) == number
        statement = pages.page(number, row, 10, 1)
        for column, null in zip(key, pattern, strict=True):
            is_null = f'"docs".{quote(column.name)} IS NOT DISTINCT FROM NULL'
            is_not_null = f'"docs".{quote(column.name)} IS DISTINCT FROM NULL'
            found = conditions(statement)
            assert (is_null in found, is_not_null in found) == (null, not null and not column.not_null)
        assert len(statement.arguments) == 1 + sum(not null for null in pattern)


def test_a_key_that_nothing_proves_reads_the_last_row_again_to_see_whether_another_shares_it() -> None:
    pages = keyset(CREATED, proven=False)
    assert pages.phases == ((False,),)
    first, second = pages.page(0, None, 10, 1), pages.page(0, ("2024-01-01",), 10, 1)
    assert conditions(first) == []
    assert conditions(second) == ['("docs"."created") >= ($2::text::timestamp with time zone)']
    # the flag itself is judged on a real server; here, that each page can raise the flags that it must
    assert f"THEN {AGAIN}" not in first.sql
    assert f"= ($2::text::timestamp with time zone) THEN {AGAIN}" in second.sql
    for statement in (first, second):
        assert f"THEN {TWICE}" in statement.sql
        assert order(statement) == '"docs"."created"'


@pytest.mark.parametrize(
    ("body", "expression"),
    [
        ("body", '"docs"."body" AS body'),  # bytes stay bytes: nothing is fetched from TOAST to learn their size
        ("doc", 'convert_to("docs"."doc"::text, \'UTF8\') AS body'),
        (None, "convert_to(row_to_json(\"docs\".*)::text, 'UTF8') AS body"),
    ],
)
def test_the_body_is_made_into_bytes_by_the_server(body: str | None, expression: str) -> None:
    assert f"{expression}\nFROM" in keyset(ID, body=body).page(0, None, 1, 1).sql


@pytest.mark.parametrize("where", ["live", "a = 1 -- only these", "a = 1 OR b = 2"])
def test_a_where_is_one_condition_among_the_others_whatever_it_says(where: str) -> None:
    pages = keyset(CREATED, ID, where=where)
    wrapped = f"(\n{where}\n)"
    assert conditions(pages.page(1, (None, "1"), 1, 1))[-1] == wrapped
    assert conditions(pages.one_body(("2024-01-01", "1")))[-1] == wrapped
    assert pages.everything().sql.endswith(f"\nWHERE {wrapped}")
    assert f"AND {wrapped}\nLIMIT 1" in pages.null_keys().sql
    assert "WHERE" not in keyset(ID).everything().sql


def test_one_body_is_found_by_the_whole_key_nulls_included() -> None:
    statement = keyset(CREATED, ID).one_body((None, "7"))
    assert statement.sql == (
        'SELECT "docs"."body"\nFROM "public"."docs" AS "docs"\n'
        'WHERE "docs"."created" IS NOT DISTINCT FROM NULL AND "docs"."id" = $1::text::bigint'
    )
    assert statement.arguments == ("7",)


def test_a_null_in_any_column_of_an_unproven_key_is_looked_for() -> None:
    statement = keyset(CREATED, RANK, proven=False).null_keys()
    assert (
        'WHERE ("docs"."created" IS NOT DISTINCT FROM NULL OR "docs"."Rank" IS NOT DISTINCT FROM NULL)\nLIMIT 1'
        in statement.sql
    )


def test_chosen_rows_are_joined_to_one_array_for_each_key_column_outside_of_the_condition_s_reach() -> None:
    statement = keyset(CREATED, ID, columns=(TENANT,), where="live -- only").chosen([(None, "7"), ("now", "8")], 99)
    assert statement == Statement(
        "SELECT p.k0, p.k1, p.c0, p.place, octet_length(p.body), "
        "CASE WHEN octet_length(p.body) <= $1::int THEN p.body END\n"
        'FROM (SELECT given.k0, given.k1, "docs"."tenant"::text AS c0, given.place, "docs"."body" AS body\n'
        "FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS given(k0, k1, place)\n"
        'JOIN (SELECT * FROM "public"."docs" AS "docs"\nWHERE (\nlive -- only\n)) AS "docs" '
        'ON "docs"."created" IS NOT DISTINCT FROM given.k0::timestamp with time zone AND '
        '"docs"."id" = given.k1::bigint\n'
        "OFFSET 0) AS p\nORDER BY p.place",
        (99, (None, "now"), ("7", "8")),
    )


def test_a_key_that_nothing_proves_has_no_null_to_be_found() -> None:
    assert "DISTINCT" not in keyset(CREATED, proven=False).chosen([("now",)], 1).sql


HOSTILE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(HOSTILE, HOSTILE, st.lists(HOSTILE, min_size=2, max_size=2), HOSTILE)
def test_names_are_quoted_and_values_are_arguments_whatever_is_in_them(
    alias: str, column: str, key: list[str], body: str
) -> None:
    columns = (Column(column, "text", "text", not_null=True), Column(column + "2", "text", "text", not_null=True))
    relation = Relation("label", "source", alias, (*columns, Column(body + "3", "text", "text")), (), False, "db")
    plain_relation = Relation(
        "l", "source", "t", tuple(Column(f"c{n}", "text", "text", not_null=True) for n in range(3)), (), False, "db"
    )
    pages = Keyset(relation, KeyChoice(columns, proven=True), columns, body + "3")
    plain = Keyset(plain_relation, KeyChoice(plain_relation.columns[:2], proven=True), plain_relation.columns[:2], "c2")
    names = {"c0": column, "c1": column + "2", "c2": body + "3", "t": alias}
    for statement, expected in (
        (pages.page(0, tuple(key), 3, 1), plain.page(0, tuple(key), 3, 1)),
        (pages.one_body(tuple(key)), plain.one_body(tuple(key))),
        (pages.chosen([tuple(key)], 1), plain.chosen([tuple(key)], 1)),
    ):
        # the same statement as for plain names, with the quoted names in their places
        parts = re.split(r'"(c0|c1|c2|t)"', expected.sql)
        rebuilt = "".join(quote(names[part]) if number % 2 else part for number, part in enumerate(parts))
        assert statement.sql == rebuilt
        assert statement.arguments == expected.arguments
        assert [*statement.arguments][-2:] in (key, [(part,) for part in key])


def test_placeholders_are_numbered_through_and_each_has_its_argument() -> None:
    statement = keyset(TENANT, CREATED, ID, columns=(TENANT, RANK)).page(0, ("a", "b", "1"), 5, 99)
    numbers = [int(number) for number in dict.fromkeys(re.findall(r"\$(\d+)", statement.sql))]
    assert all(after == before + 1 for before, after in pairwise(numbers))
    assert len(numbers) == len(statement.arguments) == 4
    assert statement.arguments[0] == 99
