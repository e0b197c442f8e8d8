"""Templates: what is parsed, what is refused, and what each type renders to."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncup.errors import RowRefused, TemplateRefused
from asyncup.model import Column, RowShape
from asyncup.names import written
from asyncup.render.template import Placeholder, compile_template, parse_template


def render(text: str, base: str, value: str | None, *, name: str = "c") -> str | None:
    """One row with one column of that type, through that template."""
    return compile_template(parse_template(text), RowShape(0, (Column(name, base, base),)))((value,))


@pytest.mark.parametrize(
    ("text", "literals", "placeholders"),
    [
        ("", ("",), ()),
        ("plain", ("plain",), ()),
        ("{id}", ("", ""), (Placeholder("id"),)),
        ("{{id}}", ("{id}",), ()),
        ("{{{id}}}", ("{", "}"), (Placeholder("id"),)),
        ("a}}b{{c", ("a}b{c",), ()),
        ("{a}{b}", ("", "", ""), (Placeholder("a"), Placeholder("b"))),
        ("{ID}/{_x1$}", ("", "/", ""), (Placeholder("id"), Placeholder("_x1$"))),
        ('{"ID"}', ("", ""), (Placeholder("ID"),)),
        ('{"a ""b"" }{:!.[c]"}', ("", ""), (Placeholder('a "b" }{:!.[c]'),)),
        ('{"a}b":>3}', ("", ""), (Placeholder("a}b", ">3"),)),
        ("{id:}", ("", ""), (Placeholder("id"),)),
        ("{at:%H:%M}", ("", ""), (Placeholder("at", "%H:%M"),)),
        ("{größe}", ("", ""), (Placeholder("größe"),)),
        ("{Größe} {ÉTAT}", ("", " ", ""), (Placeholder("größe"), Placeholder("État"))),
    ],
)
def test_a_template_is_literals_and_columns_in_turn(
    text: str, literals: tuple[str, ...], placeholders: tuple[Placeholder, ...]
) -> None:
    template = parse_template(text)
    assert template.literals == literals
    assert template.placeholders == placeholders


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a}b", "single '}' at position 2"),
        ("{id}}", "single '}' at position 5"),
        ("{id", "the brace at position 1 is never closed"),
        ("a/{", "the brace at position 3 is never closed"),
        ('{"id}', "names no column"),
        ('{"id', "never closed"),
        ('{""}', "names no column"),
        ("{}", "'{}' names no column"),
        ("{0}", "'{0}' names no column"),
        ("{:d}", "names no column"),
        ("{ id }", "names no column"),
        ("{$1}", "names no column"),
        ("{id }", "only columns may stand between braces"),
        ("{id.real}", "only columns may stand between braces"),
        ("{id.__class__.__mro__}", "only columns may stand between braces"),
        ("{id[0]}", "only columns may stand between braces"),
        ("{id!r}", "only columns may stand between braces"),
        ("{id+1}", "only columns may stand between braces"),
        ("{now()}", "only columns may stand between braces"),
        ("{a,b}", "only columns may stand between braces"),
        ("{id:{width}}", "a format spec cannot hold a brace"),
        ("{id:{{}", "a format spec cannot hold a brace"),
        ("docs/\udcff/{id}", "not valid UTF-8"),
    ],
)
def test_what_is_no_column_between_braces_is_refused_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(TemplateRefused) as caught:
        parse_template(text)
    assert message in caught.value.message
    assert caught.value.needs_configuration
    str(caught.value).encode()  # it can be printed


@given(st.text(alphabet='{}":ab %!.[]\\\n\udcffé', max_size=12))
@example("{" * 1000)
def test_any_text_is_parsed_or_refused_and_nothing_of_it_is_lost(text: str) -> None:
    try:
        template = parse_template(text)
    except TemplateRefused:
        return
    escaped = [literal.replace("{", "{{").replace("}", "}}") for literal in template.literals]
    again = "".join(
        literal + hole for literal, hole in zip(escaped, [*map(str, template.placeholders), ""], strict=True)
    )
    assert parse_template(again).literals == template.literals
    assert parse_template(again).placeholders == template.placeholders


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_every_name_that_postgres_takes_can_be_written_in_a_template(name: str) -> None:
    template = parse_template("x{" + written(name) + "}y")
    assert template.placeholders == (Placeholder(name),)
    assert template.literals == ("x", "y")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["text", "int8", "timestamptz", "jsonb"]))
def test_without_a_format_spec_a_value_is_rendered_as_postgres_gave_it(value: str, base: str) -> None:
    assert render("<{c}>", base, value) == f"<{value}>"
    assert render("{c}{{}}{c}", base, value) == f"{value}{{}}{value}"


@pytest.mark.parametrize(
    ("spec", "base", "value", "expected"),
    [
        ("08d", "int8", "42", "00000042"),
        ("08d", "int8", "-42", "-0000042"),
        ("d", "int8", "-9223372036854775808", "-9223372036854775808"),
        ("x", "int4", "255", "ff"),
        (",", "int2", "12345", "12,345"),
        ("06", "oid", "16384", "016384"),
        (".2f", "numeric", "1.005", "1.00"),
        ("d", "int8", "9007199254740993", "9007199254740993"),  # a float would have lost the last digit
        (".3f", "numeric", "12345678901234567890.125", "12345678901234567890.125"),
        (".1f", "float8", "2.5", "2.5"),
        (".1f", "float8", "Infinity", "inf"),
        ("%Y/%m/%d", "date", "2024-02-29", "2024/02/29"),
        ("%Y/%m/%d", "date", "0044-03-15", "0044/03/15"),
        ("%%Y %Y%%", "date", "0044-03-15", "%Y 0044%"),
        ("%Y%m%dT%H%M%S", "timestamp", "2024-02-29 23:59:58.5", "20240229T235958"),
        ("%f", "timestamp", "2024-02-29 23:59:58.5", "500000"),
        ("%Y%m%d%z", "timestamptz", "2024-02-29 23:59:58.123456+00", "20240229+0000"),
        ("%Y", "timestamptz", "0999-02-28 23:59:58+00", "0999"),
        ("%H-%M", "time", "09:05:00", "09-05"),
        (">5", "text", "abc", "  abc"),
        (".2", "text", "abc", "ab"),
        ("_<4", "uuid", "u", "u___"),
    ],
)
def test_a_format_spec_decodes_the_value_by_its_type(spec: str, base: str, value: str, expected: str) -> None:
    assert render("{c:" + spec + "}", base, value) == expected


@pytest.mark.parametrize(
    ("spec", "base"),
    [
        ("d", "text"),
        ("%Y", "text"),
        ("08d", "uuid"),
        ("d", "bool"),
        ("d", "numeric"),
        ("d", "float8"),
        (".2", "int8"),
        ("nonsense", "int8"),
        ("99999999999999999999", "int8"),
        ("9223372036854775807", "int8"),
        ("1025", "int8"),
        (".5000f", "numeric"),
        ("2000000000", "text"),
        ("%Y", "interval"),
        ("%Y", "timetz"),
    ],
)
def test_a_format_spec_that_does_not_fit_its_type_is_refused_before_the_run(spec: str, base: str) -> None:
    with pytest.raises(TemplateRefused, match=r"a column of type|more than 1024 characters") as caught:
        render("{c:" + spec + "}", base, "1")
    assert caught.value.subject == "{c:" + spec + "}"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("spec", "base", "value"),
    [
        ("%Y", "date", "infinity"),
        ("%Y", "date", "-infinity"),
        ("%Y", "date", "0044-03-15 BC"),
        ("%Y", "date", "12000-01-31"),
        ("%Y", "timestamp", "infinity"),
        ("%Y", "timestamptz", "294276-12-31 23:59:59+00"),
        ("%H", "time", "24:00:00"),  # midnight at the other end of the day: not 00:00:00
        ("c", "int8", "-1"),
        ("c", "int8", "9223372036854775807"),
    ],
)
def test_a_value_beyond_what_a_format_spec_can_show_fails_its_row_and_names_the_column(
    spec: str, base: str, value: str
) -> None:
    with pytest.raises(RowRefused, match="of column c cannot be formatted") as caught:
        render("{c:" + spec + "}", base, value)
    assert repr(value) in caught.value.message
    assert "{c} without a format spec" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["{c}", "a/{c}.json", "{c:>3}", "{c}-{c}"])
def test_a_null_needs_no_text_and_gives_none(text: str) -> None:
    assert render(text, "text", None) is None


def test_columns_are_found_behind_the_key_wherever_the_template_names_them() -> None:
    shape = RowShape(2, (Column("b", "text", "text"), Column("a", "int8", "int8")))
    form = compile_template(parse_template("{a:03d}/{b}/{a}"), shape)
    assert form(("key 1", "key 2", "x", "7", 0, b"")) == "007/x/7"
    assert parse_template("{a:03d}/{b}/{a}").names == ("a", "b")


def test_a_template_without_columns_is_the_same_for_every_row() -> None:
    form = compile_template(parse_template("text/{{plain}}"), RowShape(0))
    assert form(()) == "text/{plain}"
