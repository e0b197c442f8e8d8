"""The renderer: everything that turns one row into one upload, compiled once for a run."""

from __future__ import annotations

from collections.abc import Callable

from asyncup.errors import RowRefused
from asyncup.model import Row, RowShape, Streamed, Upload, tuple_of
from asyncup.names import written
from asyncup.render.headers import compile_headers, with_own
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.objectkey import check_object_key
from asyncup.render.template import Template, compile_template
from asyncup.render.uniqueness import compile_guard


class Renderer:
    """Row to upload. `on_null` is what to do with a row whose body is NULL: skip, empty or fail.

    `fallback` is the content type where neither a template nor the object key's extension says one; a `suffix` behind that
    extension says nothing of what it is, since it is of its encoding.
    """

    def __init__(
        self,
        shape: RowShape,
        key: Template,
        *,
        headers: HeaderTemplates | None = None,
        fallback: str = "application/octet-stream",
        suffix: str = "",
        on_null: str = "skip",
        allow_collisions: bool = False,
    ) -> None:
        self._shape = shape
        self._template = key
        self._key = compile_template(key, shape)
        self._headers = compile_headers(headers or HeaderTemplates(), shape, key, fallback, suffix)
        self._guard: Callable[[Row], None] | None = None if allow_collisions else compile_guard(key, shape)
        self._on_null = on_null

    def render(self, row: Row) -> Upload | None:
        """The row's upload, or None when it is to be skipped.

        Raises:
            RowRefused: this row cannot become an object.
        """
        body: bytes | Streamed | None = row[-1]
        if body is None:
            body = self.body(row)
            if body is None:
                return None
        key = self._key(row)
        if key is None:
            raise RowRefused("render", self._template.text, f"{self._null(row)}, which the object key needs, is NULL")
        check_object_key(key)
        if self._guard is not None:
            self._guard(row)
        return tuple_of(Upload, (key, body, self._headers(row, key)))

    def body(self, row: Row) -> bytes | Streamed | None:
        """See `protocols.Renderer.body`."""
        body: bytes | Streamed | None = row[-1]
        if body is not None:
            return body
        if self._on_null == "fail":
            raise RowRefused(
                "render",
                "body",
                "the body is NULL",
                "use --on-null skip or --on-null empty if that is as it should be",
            )
        return None if self._on_null == "skip" else b""

    def finish(self, row: Row, product: bytes | Streamed | Upload) -> Upload:
        """See `protocols.Renderer.finish`.

        An upload's own headers go over those of the templates; its key is checked as any other is, but nothing tells whether
        another row has the same one.
        """
        if not isinstance(product, Upload):
            upload = self.render((*row[:-2], len(product), product))
            assert upload is not None  # noqa: S101 - it has a body
            return upload
        check_object_key(product.key)
        return product._replace(headers=with_own(self._headers(row, product.key), product.headers))

    def _null(self, row: Row) -> str:
        """The first column of the object key that is NULL in this row."""
        return next(written(name) for name in self._template.names if row[self._shape.index(name)] is None)

    def key_of(self, row: Row) -> str | None:
        """The row's object key for a message, None when it has none."""
        try:
            return self._key(row)
        except RowRefused:
            return None
