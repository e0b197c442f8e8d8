"""From text to wire: what standards and S3 say of a header's value, read back by somebody else's decoder."""

from __future__ import annotations

import re
import sys
import unicodedata
from email.header import decode_header
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.errors import RowRefused
from asyncup.model import Column, RowShape
from asyncup.render.headers import compile_headers
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.headervalues import MAX_TAG_VALUE, metadata_value, tag_fault
from asyncup.render.template import parse_template

SHAPE = RowShape(0, (Column("name", "text", "text"), Column("n", "integer", "int4")))
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
#: A quoted string (RFC 9110, section 5.6.4) and an extended value (RFC 8187, section 3.2).
GRAMMAR = re.compile(
    r"""attachment; filename="((?:[ !#-\[\]-~]|\\["\\])*)"(?:; filename\*=UTF-8''([\w.~%-]+))?""", re.ASCII
)


def metadata(text: str) -> str:
    return metadata_value(text, "x-amz-meta-a", "--metadata")


def disposition(name: str, template: str = 'attachment; filename="{name}.pdf"') -> str:
    templates = HeaderTemplates.parse(content_type="", content_disposition=template)
    headers = compile_headers(templates, SHAPE, parse_template("{n}"), "")
    return dict(headers((name, "7", 0, b""), "7"))["content-disposition"]


def test_metadata_in_ascii_is_sent_as_it_is() -> None:
    assert metadata("The quick, =?brown?= fox") == "The quick, =?brown?= fox"
    assert not metadata("")


def test_metadata_beyond_ascii_is_an_encoded_word_of_utf_8_in_base64() -> None:
    assert metadata("ÄMÄZÕÑ S3") == "=?UTF-8?B?w4RNw4Raw5XDkSBTMw==?="


def test_metadata_that_looks_like_an_encoded_word_is_encoded_itself() -> None:
    meant = "=?UTF-8?B?aGk=?="
    ((decoded, charset),) = decode_header(metadata(meant))
    assert decoded.decode(charset or "") == meant


@given(TEXT.filter(lambda text: not text.isascii()))
def test_metadata_beyond_ascii_reads_back_as_the_text_it_was(text: str) -> None:
    words = metadata(text).split(" ")
    assert all(len(word) <= 75 for word in words)
    assert "".join(decoded.decode(charset or "") for word in words for decoded, charset in decode_header(word)) == text
    # a decoder that joins the words first sees the same
    ((whole, charset),) = decode_header(" ".join(words))
    assert whole.decode(charset or "") == text


@pytest.mark.parametrize("value", ["é\n", "é\r\nx: y", "\x85", "é\0", "é\x7f", "\ud800"])
def test_metadata_with_control_characters_is_refused_encoded_or_not(value: str) -> None:
    with pytest.raises(RowRefused, match="control character"):
        metadata(value)


@pytest.mark.parametrize("value", [" x", "x "])
def test_metadata_whose_blanks_http_would_drop_is_refused(value: str) -> None:
    with pytest.raises(RowRefused, match="blanks at its ends"):
        metadata(value)
    assert metadata(value + "é").startswith("=?UTF-8?B?")


def test_a_tag_takes_letters_numbers_and_spaces_of_every_script() -> None:
    different = [
        hex(point)
        for point in range(sys.maxunicode + 1)
        if (tag_fault(chr(point), MAX_TAG_VALUE) is None)
        != (unicodedata.category(chr(point))[0] in "LZN" or chr(point) in "_.:/=+-@")
    ]
    assert different == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x" * 256, None),
        ("x" * 257, "is 257 characters long; S3 takes 256"),
        ("é" * 256, None),
        ("𝒳" * 128, None),  # two places each in UTF-16
        ("𝒳" * 128 + "x", "is 257 characters long; S3 takes 256"),
    ],
)
def test_a_tag_is_measured_as_s3_keeps_it_in_utf_16(text: str, fault: str | None) -> None:
    assert tag_fault(text, MAX_TAG_VALUE) == fault


def test_a_file_name_beyond_ascii_is_sent_in_both_forms() -> None:
    assert disposition("Größe 1") == (
        """attachment; filename="Gr__e 1.pdf"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%201.pdf"""
    )
    assert disposition("ü", """inline; FileName="{name}"; x=y""") == (
        """inline; FileName="_"; filename*=UTF-8''%C3%BC; x=y"""
    )


@given(TEXT)
def test_a_file_name_reads_back_as_its_row_has_it(name: str) -> None:
    sent = GRAMMAR.fullmatch(disposition(name))
    assert sent is not None
    quoted, starred = sent.groups()
    if starred is None:
        assert re.sub(r"\\(.)", r"\1", quoted) == f"{name}.pdf"
    else:
        assert unquote(starred, errors="strict") == f"{name}.pdf"
        assert not name.isascii()


@pytest.mark.parametrize(
    ("name", "template", "value"),
    [
        ('a"b\\c', 'attachment; filename="{name}"', 'attachment; filename="a\\"b\\\\c"'),
        ('x"; filename="y', 'attachment; filename="{name}"', 'attachment; filename="x\\"; filename=\\"y"'),
        ('ü"\\', 'attachment; filename="{name}"', """attachment; filename="_\\"\\\\"; filename*=UTF-8''%C3%BC%22%5C"""),
        ('a"b', "{name}", 'a"b'),
        ('a"b', '"x"; {name}', '"x"; a"b'),
        ('a"b', '"\\"{name}"', '"\\"a\\"b"'),
        ('a"b', 'filename="{n:03d}-{name:>5}"', 'filename="007-  a\\"b"'),
    ],
)
def test_a_value_in_quotes_cannot_end_them(name: str, template: str, value: str) -> None:
    assert disposition(name, template) == value


@pytest.mark.parametrize(
    "template", ["attachment; filename={name}", '{name}; filename="x"', """inline; filename*=UTF-8''{name}"""]
)
def test_a_name_beyond_ascii_outside_of_quotes_is_refused(template: str) -> None:
    with pytest.raises(RowRefused, match="cannot be sent as a header"):
        disposition("größe", template)


def test_who_has_a_name_beyond_ascii_is_told_to_quote_it() -> None:
    with pytest.raises(RowRefused) as caught:
        disposition("größe", "attachment; filename={name}")
    assert """--content-disposition 'attachment; filename="{column}"'""" in (caught.value.hint or "")
