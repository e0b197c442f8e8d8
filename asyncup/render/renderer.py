"""The renderer: everything that turns one row into one upload, compiled once for a run."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable

from asyncup.errors import RowRefused
from asyncup.model import Headers, Row, RowShape, Upload
from asyncup.names import written
from asyncup.render.objectkey import check_object_key
from asyncup.render.template import Template, compile_template
from asyncup.render.uniqueness import compile_guard

#: What a body is called when neither a template nor the key's extension says it, by the column's type.
_FALLBACKS = {"json": "application/json", "jsonb": "application/json", "xml": "application/xml", "text": "text/plain"}
_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}
#: Types that older tables of Python lack, or name otherwise.
_NEWER_TYPES = {
    ".avif": "image/avif",
    ".js": "text/javascript",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".rst": "text/x-rst",
    ".rtf": "text/rtf",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_HEADER_VALUE = 1024


def _type_table() -> mimetypes.MimeTypes:
    """Python's own table with the newer types; made at import, since `mimetypes` looks into files when it first is."""
    table = mimetypes.MimeTypes()
    for extension, content_type in _NEWER_TYPES.items():
        table.add_type(content_type, extension)
    return table


_TYPES = _type_table()


def fallback_content_type(body: str | None, base: str) -> str:
    """The content type of a body column of type `base`; a body of None is the row as JSON."""
    return "application/json" if body is None else _FALLBACKS.get(base, "application/octet-stream")


class ContentTypes:
    """Guesses from an object key's extension, each extension looked up once.

    Only Python's own table is used, not the machine's, so that every machine gives the same objects.
    """

    def __init__(self, fallback: str) -> None:
        self._fallback = fallback
        self._known: dict[str, Headers] = {}

    def headers(self, key: str) -> Headers:
        name = key.rpartition("/")[2]
        extension = name.rpartition(".")[2].lower() if "." in name else ""
        known = self._known.get(extension)
        if known is None:
            guess, encoding = _TYPES.guess_type("x." + extension)
            if encoding is not None:
                guess = _ENCODINGS.get(encoding)
            known = (("content-type", guess or self._fallback),)
            if len(self._known) < 10_000:
                self._known[extension] = known
        return known


class Renderer:
    """Row to upload. `on_null` is what to do with a row whose body is NULL: skip, empty or fail."""

    def __init__(
        self,
        shape: RowShape,
        key: Template,
        *,
        content_type: Template | None = None,
        fallback: str = "application/octet-stream",
        on_null: str = "skip",
        allow_collisions: bool = False,
    ) -> None:
        self._shape = shape
        self._template = key
        self._key = compile_template(key, shape)
        self._content_type = compile_template(content_type, shape) if content_type else None
        self._guard: Callable[[Row], None] | None = None if allow_collisions else compile_guard(key, shape)
        self._types = ContentTypes(fallback)
        self._on_null = on_null

    def render(self, row: Row) -> Upload | None:
        """The row's upload, or None when it is to be skipped.

        Raises:
            RowRefused: this row cannot become an object.
        """
        body: bytes | None = row[-1]
        if body is None:
            if self._on_null == "skip":
                return None
            if self._on_null == "fail":
                raise RowRefused(
                    "render",
                    "body",
                    "the body is NULL",
                    "use --on-null skip or --on-null empty if that is as it should be",
                )
            body = b""
        key = self._key(row)
        if key is None:
            raise RowRefused("render", self._template.text, f"{self._null(row)}, which the object key needs, is NULL")
        check_object_key(key)
        if self._guard is not None:
            self._guard(row)
        if self._content_type is None:
            return Upload(key, body, self._types.headers(key))
        content_type = self._content_type(row)
        return Upload(key, body, () if content_type is None else (("content-type", _header(content_type)),))

    def _null(self, row: Row) -> str:
        """The first column of the object key that is NULL in this row."""
        return next(written(name) for name in self._template.names if row[self._shape.index(name)] is None)

    def key_of(self, row: Row) -> str | None:
        """The row's object key for a message, None when it has none."""
        try:
            return self._key(row)
        except RowRefused:
            return None


def _header(value: str) -> str:
    """Refuse what could not be a header's value (RFC 9110, section 5.5), a second header or request among it."""
    if not value.isascii() or not value.isprintable() or len(value) > _HEADER_VALUE or value != value.strip():
        raise RowRefused(
            "render",
            "content-type",
            f"{value[:80]!r} cannot be sent as a header: printable ASCII, at most {_HEADER_VALUE} characters",
            "change the value, or --content-type",
        )
    return value
