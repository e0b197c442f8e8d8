"""The renderer: from row to upload, with the headers that it may have, or the reason why there is none."""

from __future__ import annotations

import mimetypes

import pytest

from asyncup.errors import RowRefused, TemplateRefused
from asyncup.model import Column, RowShape, Upload
from asyncup.render.contenttype import fallback_content_type
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.renderer import Renderer
from asyncup.render.template import parse_template

SHAPE = RowShape(1, (Column("name", "text", "text"), Column("mime", "text", "text"), Column("id", "bigint", "int8")))


def renderer(key: str = "{name}", content_type: str | None = None, **options: object) -> Renderer:
    headers = HeaderTemplates.parse(content_type=content_type)
    return Renderer(SHAPE, parse_template(key), headers=headers, **options)  # type: ignore[arg-type]


def row(name: str | None = "a", mime: str | None = None, body: bytes | None = b"body") -> tuple[object, ...]:
    return ("1", name, mime, "7", None if body is None else len(body), body)


def content_type(upload: Upload | None) -> str | None:
    assert upload is not None
    return dict(upload.headers).get("content-type")


def test_an_upload_has_the_row_s_body_as_it_came_and_its_object_key() -> None:
    body = bytes(range(256))
    upload = renderer("docs/{name}.bin").render(row(body=body))
    assert upload == Upload("docs/a.bin", body, (("content-type", "application/octet-stream"),))
    assert upload.body is body


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.html", "text/html"),
        ("a.HTML", "text/html"),
        ("a.css", "text/css"),
        ("a.js", "text/javascript"),
        ("a.mjs", "text/javascript"),
        ("a.json", "application/json"),
        ("a.svg", "image/svg+xml"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("a.woff2", "font/woff2"),
        ("a.md", "text/markdown"),
        ("a.yaml", "application/yaml"),
        ("a.pdf", "application/pdf"),
        ("deep/er/a.b.txt", "text/plain"),
        # what is compressed is a compressed file: it is stored as it is, without a content encoding
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.txt.bz2", "application/x-bzip2"),
        ("a.xz", "application/x-xz"),
        ("a.json.br", "application/x-brotli"),
        # no extension, or none that says anything
        ("a", None),
        ("a.", None),
        ("a.html/b", None),
        ("a.unheard-of", None),
        ("a.html?x", None),
        ("a.html ", None),
        ("a.;html", None),
    ],
)
def test_the_content_type_is_guessed_from_the_extension_else_from_the_body(key: str, expected: str | None) -> None:
    upload = renderer(fallback="application/x-fallback").render(row(key))
    assert content_type(upload) == expected or (expected is None and content_type(upload) == "application/x-fallback")


@pytest.mark.parametrize(
    ("body", "base", "expected"),
    [
        (None, "json", "application/json"),
        ("doc", "jsonb", "application/json"),
        ("doc", "json", "application/json"),
        ("doc", "xml", "application/xml"),
        ("doc", "text", "text/plain"),
        ("doc", "bytea", "application/octet-stream"),
    ],
)
def test_the_fallback_is_what_the_body_s_type_says(body: str | None, base: str, expected: str) -> None:
    assert fallback_content_type(body, base) == expected


def test_this_machine_s_own_table_of_types_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mimetypes.types_map, ".html", "application/x-local")
    monkeypatch.setitem(mimetypes.types_map, ".local", "application/x-local")
    assert content_type(renderer().render(row("a.html"))) == "text/html"
    assert content_type(renderer().render(row("a.local"))) == "application/octet-stream"


@pytest.mark.parametrize(
    ("on_null", "expected"), [("skip", None), ("empty", Upload("a", b"", (("content-type", "text/x"),)))]
)
def test_a_null_body_is_skipped_or_sent_empty_as_on_null_says(on_null: str, expected: Upload | None) -> None:
    render = renderer(on_null=on_null, fallback="text/x").render
    assert render(row(body=None)) == expected
    assert render(row(body=b"")) == Upload("a", b"", (("content-type", "text/x"),))  # empty is not NULL


def test_a_null_body_fails_its_row_with_on_null_fail() -> None:
    with pytest.raises(RowRefused, match="the body is NULL") as caught:
        renderer(on_null="fail").render(row(body=None))
    assert "--on-null" in (caught.value.hint or "")


@pytest.mark.parametrize("key", ["{name}", "{name}/{id}", "{name:>3}"])
def test_a_row_whose_object_key_needs_a_null_fails(key: str) -> None:
    render = renderer(key)
    with pytest.raises(RowRefused, match="name, which the object key needs, is NULL"):
        render.render(row(None))
    assert render.key_of(row(None)) is None


def test_a_skipped_row_needs_no_object_key() -> None:
    assert renderer().render(row(None, body=None)) is None


@pytest.mark.parametrize("name", ["", "..", "a/../b", "x" * 1025, "a\nb"])
def test_a_row_whose_object_key_is_refused_fails_and_can_still_be_named(name: str) -> None:
    render = renderer()
    with pytest.raises(RowRefused, match="the object key"):
        render.render(row(name))
    assert render.key_of(row(name)) == name


def test_a_row_whose_value_cannot_be_formatted_has_no_object_key_to_be_named_by() -> None:
    shape = RowShape(0, (Column("day", "date", "date"),))
    render = Renderer(shape, parse_template("{day:%Y}"), allow_collisions=True)
    assert render.key_of(("infinity", 0, b"")) is None


def test_a_template_that_does_not_fit_its_columns_is_refused_when_the_renderer_is_made() -> None:
    with pytest.raises(TemplateRefused, match="does not fit a column of type text"):
        renderer("{name:d}")
    with pytest.raises(TemplateRefused, match="does not fit a column of type text"):
        renderer(content_type="{mime:%Y}")
    with pytest.raises(TemplateRefused, match=r"{day:d} renders nothing of a date: its format has no %"):
        Renderer(RowShape(0, (Column("day", "date", "date"),)), parse_template("{day:d}"), allow_collisions=True)
