"""Names are read and written as SQL does it, and a name that does not exist brings up the nearest that does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.names import nearest, parse_identifiers, quote, written

#: Every name that PostgreSQL can hold, but for its length.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("id", ("id",)),
        ("ID", ("id",)),
        ('"ID"', ("ID",)),
        ("a,b , c", ("a", "b", "c")),
        (' Tenant ,"We, ird" ', ("tenant", "We, ird")),
        ('"say ""hi"""', ('say "hi"',)),
        ("_x$1", ("_x$1",)),
        ("größe", ("größe",)),
        # PostgreSQL folds ASCII letters and no others: the column is called É, and the Kelvin sign is no k
        ("ÉTÉ", ("ÉtÉ",)),
        ("\u212a", ("\u212a",)),
        ("a,a", ("a", "a")),
    ],
)
def test_unquoted_names_fold_to_lower_case_and_quoted_ones_are_taken_as_they_are(
    text: str, names: tuple[str, ...]
) -> None:
    assert parse_identifiers(text) == names


@pytest.mark.parametrize(
    "text", ["", " ", ",", "a,", ",a", "a,,b", "a b", "a.b", "1a", "$a", '"', '""', '"a', 'a"b"', "a-b", "a;b", "(a)"]
)
def test_what_is_no_list_of_names_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write them as in SQL|separate names with commas"):
        parse_identifiers(text)


@given(st.lists(NAMES, min_size=1))
def test_quoted_or_written_names_are_read_back_unchanged(names: list[str]) -> None:
    assert parse_identifiers(",".join(map(quote, names))) == tuple(names)
    assert parse_identifiers(", ".join(map(written, names))) == tuple(names)


@pytest.mark.parametrize(
    ("name", "text"), [("id", "id"), ("a_1$", "a_1$"), ("Id", '"Id"'), ("1a", '"1a"'), ("é", '"é"'), ('"', '""""')]
)
def test_a_name_is_written_with_quotes_only_where_it_must(name: str, text: str) -> None:
    assert written(name) == text


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("contant", ["id", "content"], "did you mean content?"),
        ("ID", ["id", "x"], "did you mean id?"),
        ("slug", ["Slug"], 'did you mean "Slug"?'),
        ("zzz", ["b", "We ird", "a"], 'there are: "We ird", a, b'),
        ("zzz", [], "there are none"),
    ],
)
def test_the_hint_is_the_nearest_name_or_those_that_there_are(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint


def test_a_long_list_of_names_is_cut_off() -> None:
    hint = nearest("zzz", [f"column_{number:02d}" for number in range(30)])
    assert hint.endswith("column_19, …")
