"""Headers: which of them an object gets from its row, and what is refused, before the run or for one row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.errors import RowRefused, TemplateRefused, UsageError
from asyncup.model import Column, Headers, RowShape
from asyncup.render.headers import MAX_HEADERS, MAX_METADATA, compile_headers, with_own
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.template import parse_template

SHAPE = RowShape(1, (Column("a", "text", "text"), Column("b", "text", "text"), Column("day", "date", "date")))
SINGLE = {
    "content_type": "content-type",
    "cache_control": "cache-control",
    "content_disposition": "content-disposition",
    "content_language": "content-language",
}
#: A template with one column in it, by the option that it is given to, and the header it becomes.
EVERY = {
    **{option: ("{a}", header) for option, header in SINGLE.items()},
    "metadata": ([("name", "{a}")], "x-amz-meta-name"),
    "tags": ([("key", "{a}")], "x-amz-tagging"),
}


def row(a: str | None = None, b: str | None = None, day: str | None = None) -> tuple[object, ...]:
    return ("1", a, b, day, 4, b"body")


def compiled(key: str = "{a}", fallback: str = "application/x-fallback", **options: Any) -> Callable[..., Headers]:
    return compile_headers(HeaderTemplates.parse(**options), SHAPE, parse_template(key), fallback)


def sent(a: str | None = None, b: str | None = None, day: str | None = None, **options: Any) -> dict[str, str]:
    """The headers of one row, without a guessed content type."""
    headers = compiled(**{"content_type": "", **options})(row(a, b, day), "key")
    assert len(dict(headers)) == len(headers)
    return dict(headers)


@pytest.mark.parametrize(("option", "header"), SINGLE.items())
def test_a_header_is_what_its_template_renders(option: str, header: str) -> None:
    assert sent("x", "y", **{option: "{a}; {b}={{}}"}) == {header: "x; y={}"}
    assert sent(**{option: "the same"}) == {header: "the same"}
    assert sent(day="2026-03-04", **{option: "{day:%d.%m.%Y}"}) == {header: "04.03.2026"}


def test_each_entry_of_metadata_is_a_header_of_its_own() -> None:
    entries = [("Title", "{a}"), ("from", "postgres"), ("x_y.z", "{a}/{b}")]
    assert sent("x", "y", metadata=entries) == {
        "x-amz-meta-title": "x",
        "x-amz-meta-from": "postgres",
        "x-amz-meta-x_y.z": "x/y",
    }


def test_all_tags_are_one_header_that_reads_back_as_a_query() -> None:
    tags = [("team", "data"), ("a b", "{a}"), ("k=v+1", "{b}")]
    value = sent("größe +=/:@._-", "", tags=tags)["x-amz-tagging"]
    assert value == "team=data&a%20b=gr%C3%B6%C3%9Fe%20%2B%3D%2F%3A%40._-&k%3Dv%2B1="
    assert parse_qsl(value, keep_blank_values=True) == [("team", "data"), ("a b", "größe +=/:@._-"), ("k=v+1", "")]


@pytest.mark.parametrize(("template", "header"), EVERY.values(), ids=EVERY)
def test_a_null_in_a_template_leaves_its_header_out(template: Any, header: str) -> None:
    option = next(option for option, value in EVERY.items() if value[1] == header)
    assert sent(None, **{option: template}) == {}


def test_a_null_leaves_out_one_entry_of_metadata_and_one_tag_not_the_others() -> None:
    options = {"metadata": [("a", "{a}"), ("b", "{b}")], "tags": [("a", "x{a}"), ("b", "{b}")]}
    assert sent(None, "y", **options) == {"x-amz-meta-b": "y", "x-amz-tagging": "b=y"}


@pytest.mark.parametrize(("option", "header"), SINGLE.items())
def test_an_empty_text_leaves_a_header_out_but_is_a_value_of_metadata_and_tags(option: str, header: str) -> None:
    assert sent("", **{option: "{a}"}) == {}
    assert sent(**{option: ""}) == {}
    assert sent("", metadata=[("a", "{a}")], tags=[("a", "{a}")]) == {"x-amz-meta-a": "", "x-amz-tagging": "a="}


@pytest.mark.parametrize(("template", "header"), EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("value", ["x\r\nx-amz-acl: public-read", "x\ny: z", "x\r", "\0", "\x1b[31m", "x\x7f", "é\n"])
def test_a_value_that_would_end_its_header_fails_the_row(template: Any, header: str, value: str) -> None:
    option = next(option for option, value in EVERY.items() if value[1] == header)
    with pytest.raises(RowRefused) as caught:
        sent(value, **{option: template})
    assert caught.value.message.isprintable()
    assert caught.value.subject in caught.value.message  # a dead letter keeps the message alone
    assert caught.value.hint


@pytest.mark.parametrize(("option", "header"), SINGLE.items())
@pytest.mark.parametrize("value", ["größe", "日本", "x\x85", "x ", " x", "\tx"])
def test_a_header_is_printable_ascii_without_blanks_at_its_ends(option: str, header: str, value: str) -> None:
    with pytest.raises(RowRefused, match="cannot be sent as a header") as caught:
        sent(value, **{option: "{a}"})
    assert caught.value.subject == header
    assert f"--{header}" in (caught.value.hint or "")


@given(st.text(), st.text(), st.sampled_from(sorted(EVERY)))
def test_whatever_is_in_a_value_a_header_stays_one_line_of_printable_ascii(a: str, b: str, option: str) -> None:
    template, header = EVERY[option]
    try:
        headers = compiled(**{"content_type": "{b}", option: template})(row(a, b), "key")
    except RowRefused:
        return
    assert {name for name, _ in headers} <= {"content-type", header}
    assert all(" " <= char <= "~" for _, value in headers for char in value)


@pytest.mark.parametrize("template", ["x\ny", "größe", " x", "x\r\ny: z"])
@pytest.mark.parametrize("option", SINGLE)
def test_a_constant_that_cannot_be_sent_is_refused_before_the_run(option: str, template: str) -> None:
    with pytest.raises(TemplateRefused, match="cannot be sent as a header") as caught:
        compiled(**{option: template})
    assert caught.value.subject == f"--{SINGLE[option]}"


@pytest.mark.parametrize(
    ("options", "subject"),
    [
        ({"metadata": [("a", "x\ny")]}, "--metadata"),
        ({"metadata": [("a", "{a}"), ("b", "x\ny")]}, "--metadata"),
        ({"metadata": [("a", "{a}"), ("b", "x" * MAX_METADATA)]}, "--metadata"),
        ({"tags": [("a", "x?")]}, "--tag"),
        ({"tags": [("a", "{a}"), ("b", "x" * 257)]}, "--tag"),
        ({"cache_control": "x" * MAX_HEADERS}, "headers"),
        ({"cache_control": "x" * MAX_HEADERS, "content_type": "x"}, "headers"),
        ({"cache_control": "x" * MAX_HEADERS, "key": "{a}.html"}, "headers"),
    ],
)
def test_constants_that_no_row_could_have_are_refused_before_the_run(options: dict[str, Any], subject: str) -> None:
    with pytest.raises(TemplateRefused) as caught:
        compiled(**options)
    assert caught.value.subject == subject


def test_a_format_that_does_not_fit_its_column_is_refused_before_the_run() -> None:
    for option, (template, _) in EVERY.items():
        wrong = "{a:%Y}" if isinstance(template, str) else [("name", "{a:%Y}")]
        with pytest.raises(TemplateRefused, match="does not fit a column of type text"):
            compiled(**{option: wrong})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([""], "cannot be the name"),
        (["a b"], "cannot be the name"),
        (["a:b"], "cannot be the name"),
        (["a\r\nx"], "cannot be the name"),
        (["größe"], "cannot be the name"),
        (["\u212a"], "cannot be the name"),  # the sign for kelvin, whose lower case is a plain k
        (["{a}"], "cannot be the name"),
        (["X-Amz-Meta-title"], "has a prefix"),
        (["title", "other", "Title"], "title is given twice"),
    ],
)
def test_a_name_of_metadata_that_could_not_be_a_header_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        HeaderTemplates.parse(metadata=[(name, "x") for name in names])
    assert (caught.value.subject, caught.value.needs_configuration) == ("--metadata", True)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([""], "is empty"),
        (["a?"], "has characters"),
        (["{a}"], "has characters"),
        (["a\n"], "has characters"),
        (["x" * 129], "is 129 characters long; S3 takes 128"),
        (["🎉" * 65], "has characters|is 130 characters long"),
        (["AWS:x"], "reserved"),
        (["a", "b", "a"], "a is given twice"),
        ([str(number) for number in range(11)], "11 tags; S3 takes 10"),
    ],
)
def test_a_tag_that_s3_would_refuse_is_refused(keys: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        HeaderTemplates.parse(tags=[(key, "x") for key in keys])
    assert caught.value.subject == "--tag"


def test_keys_of_tags_differ_by_case_and_ten_of_full_length_are_taken() -> None:
    keys = ["a", "A", *(str(number) * 128 for number in range(8))]
    assert [key for key, _ in HeaderTemplates.parse(tags=[(key, "") for key in keys]).tags] == keys


def test_metadata_is_measured_as_utf_8_of_names_and_values_without_prefix() -> None:
    entries = [("one", "{a}"), ("two", "é")]
    room = MAX_METADATA - len("one") - len("two") - 2
    assert sent("x" * room, metadata=entries)
    assert sent("é" * (room // 2), metadata=entries)
    for value in ("x" * (room + 1), "é" * (room // 2 + 1)):
        with pytest.raises(RowRefused, match=r"bytes of UTF-8; S3 takes 2,048"):
            sent(value, metadata=entries)


def test_a_row_whose_headers_are_more_than_a_request_takes_fails() -> None:
    room = MAX_HEADERS - len("cache-control") - len("content-language") - 2 * len(": \r\n") - len("en")
    options = {"cache_control": "{a}", "content_language": "en"}
    assert sent("x" * room, **options)
    with pytest.raises(RowRefused, match="the headers are 8,193 bytes long"):
        sent("x" * (room + 1), **options)


def test_the_columns_of_all_templates_are_known_with_the_flag_that_names_them_first() -> None:
    templates = HeaderTemplates.parse(
        content_type="{c}",
        cache_control="{d}",
        content_disposition="{e} {c}",
        content_language="{f}",
        metadata=[("x", "{g}"), ("y", "{h} {g}")],
        tags=[("z", "{i}"), ("w", "x")],
    )
    assert templates.columns() == {
        "c": "--content-type",
        "d": "--cache-control",
        "e": "--content-disposition",
        "f": "--content-language",
        "g": "--metadata x",
        "h": "--metadata y",
        "i": "--tag z",
    }


@pytest.mark.parametrize("option", EVERY)
def test_a_text_that_is_no_template_is_refused(option: str) -> None:
    with pytest.raises(TemplateRefused, match="never closed"):
        HeaderTemplates.parse(**{option: "{a" if option in SINGLE else [("k", "{a")]})


@pytest.mark.parametrize(
    "constant", [{}, {"cache_control": "no-store", "metadata": [("a", "b")], "tags": [("t", "v")]}]
)
def test_rows_without_headers_of_their_own_share_one_value_for_each_extension(constant: dict[str, Any]) -> None:
    headers = compiled("{a}", **constant)
    html = headers(row("x"), "x.html")
    assert dict(html)["content-type"] == "text/html"
    assert headers(row("y"), "deep/y.html") is html
    assert headers(row("y"), "deep/y.css") is headers(row(), "z.css") is not html
    assert headers(row("y"), "v1.0/y") is headers(row(), "v1.1/z") is headers(row(), "z")
    assert dict(headers(row(), "z")) == {**dict(html), "content-type": "application/x-fallback"}
    typed = compiled("{a}", **constant, content_type="text/x")
    assert typed(row("x"), "x.html") is typed(row("y"), "y")


@pytest.mark.parametrize(
    ("template", "key", "expected"),
    [
        ("{a}.html", "x.css.html", "text/html"),
        ("{a}.tar.gz", "x.tar.gz", "application/gzip"),
        ("v1.0/{a}/index.css", "v1.0/x.html/index.css", "text/css"),
        ("{a}/plain", "x.html/plain", "application/x-fallback"),
        ("{a}.", "x.html.", "application/x-fallback"),
        ("fixed.css", "fixed.css", "text/css"),
        ("fixed", "fixed", "application/x-fallback"),
        ("{a}html", "x.html", "text/html"),
    ],
)
def test_a_template_that_says_the_extension_decides_as_its_keys_would(template: str, key: str, expected: str) -> None:
    for option in ({}, {"cache_control": "{b}"}):
        assert dict(compiled(template, **option)(row(b="x"), key))["content-type"] == expected


@given(st.lists(st.text(st.sampled_from("ab./H")), max_size=20))
def test_what_is_remembered_of_extensions_never_changes_a_guess(keys: list[str]) -> None:
    headers = compiled()
    for key in keys:
        assert headers(row(), key) == compiled()(row(), key)


def test_extensions_without_end_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.render.headers._MAX_EXTENSIONS", 2)
    headers = compiled()
    first = headers(row(), "x.html")
    for key in ("x.a1", "x.a2", "x.a3"):
        assert dict(headers(row(), key))["content-type"] == "application/x-fallback"
    assert headers(row(), "y.html") is first
    assert headers(row(), "y.a3") is not headers(row(), "y.a3")


@pytest.mark.parametrize(
    ("own", "fault"),
    [
        ((("x-amz-meta-a\r\nx-amz-acl: public-read\r\nx", "v"),), "no header that"),
        ((("x-amz-meta-a b", "v"),), "no header that"),
        ((("x-amz-meta-", "v"),), "no header that"),
        ((("x-amz-acl", "public-read"),), "no header that"),
        ((("content-type", "a/b\r\nx: y"),), "cannot be sent"),
        ((("content-type", "a/b"), ("content-type", "c/d")), "twice"),
        ((("x-amz-meta-a", "x" * 3000),), "metadata"),
    ],
)
def test_a_header_of_a_users_function_is_one_header_or_fails_its_row(own: Any, fault: str) -> None:
    with pytest.raises(RowRefused, match=fault):
        with_own((), own)


def test_headers_of_a_users_function_are_written_as_those_of_flags_are() -> None:
    own = (("x-amz-meta-a", "ü"), ("content-disposition", 'inline; filename="ü.txt"'))
    templates = (("content-type", "a/b"), ("x-amz-meta-a", "old"))
    assert with_own(templates, own) == (
        ("content-type", "a/b"),
        ("x-amz-meta-a", "=?UTF-8?B?w7w=?="),
        ("content-disposition", "inline; filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt"),
    )
