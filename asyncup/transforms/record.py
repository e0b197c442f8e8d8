"""A row as a user's function sees it: a mapping from column to value that copies nothing and decodes only what is looked at."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asyncup.decoding import Decoder, decoder, parse
from asyncup.model import Column, Key, Row, RowShape


@dataclass(frozen=True)
class Layout:
    """How a row becomes a mapping. Frozen, and plain enough to travel to another process.

    Attributes:
        key: the names of the key's columns, in its order.
        shape: where the parts of a row lie.
        body: the column that the body is; None where it is the row as JSON.
        columns: the source's columns, in their order.
        large_object: the body is the large object whose oid that column holds.
    """

    key: tuple[str, ...]
    shape: RowShape
    body: Column | None
    columns: tuple[Column, ...]
    large_object: bool = False

    def view(self) -> View:
        """What all records of this layout share."""
        names = {name: position for position, name in enumerate(self.key)}
        names.update((column.name, self.shape.keys + position) for position, column in enumerate(self.shape.columns))
        texts = tuple(names.items())
        return View(
            key=len(self.key),
            texts=dict(texts),
            body=None if self.body is None else self.body.name,
            is_text=self.body is not None and self.body.base != "bytea" and not self.large_object,
            decoders={column.name: decoder(column) for column in self.columns},
        )


@dataclass(frozen=True, slots=True)
class View:
    """A layout made ready: where a column's text lies in a row, and how a JSON value of it is decoded."""

    key: int
    texts: Mapping[str, int]
    body: str | None
    is_text: bool
    decoders: Mapping[str, Decoder]

    def __call__(self, row: Row) -> Record:
        """The row as a mapping."""
        return Record(self, row)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that a record of a body's column has."""
        return tuple(dict.fromkeys((*self.texts, *((self.body,) if self.body is not None else ()))))


class Record(Mapping[str, Any]):
    """One row: its columns by name.

    Where the body is the row as JSON (`--body row`), every column is there, as a Python value: `int`, `float`,
    `Decimal`, `bool`, `str`, `bytes`, `date`, `time`, `datetime`, `timedelta`, `UUID`, lists of those, JSON as it was
    parsed; `None` for NULL. A value that Python cannot hold, such as an infinite date, is its text. JSON is parsed at the
    first look at a column, and a column decoded when it is looked at.

    Where the body is a column, that column is there (`bytes` for `bytea`, `str` for any other type), and as text the
    columns of the key and of the templates.
    """

    __slots__ = ("_found", "_parsed", "_row", "_view")

    def __init__(self, view: View, row: Row) -> None:
        self._view = view
        self._row = row
        self._parsed: dict[str, Any] | None = None
        self._found: dict[str, Any] | None = None

    @property
    def body(self) -> bytes | None:
        """The bytes that would be the object without a transform; None where they are NULL."""
        found: bytes | None = self._row[-1]
        return found

    @property
    def key(self) -> Key:
        """The pagination key: each column as Postgres writes it."""
        return tuple(self._row[: self._view.key])

    def __getitem__(self, name: str) -> Any:
        """The value of a column.

        Raises:
            KeyError: there is no such column; names the one that was probably meant.
        """
        return self._text(name) if self._view.body is not None else self._decoded(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.names if self._view.body is not None else self._columns())

    def __len__(self) -> int:
        return len(self._view.names if self._view.body is not None else self._columns())

    def __contains__(self, name: object) -> bool:
        return name in (self._view.names if self._view.body is not None else self._columns())

    def __repr__(self) -> str:
        if self._view.body is None and self._parsed is None:
            body = self._row[-1]
            return f"<Record {'NULL' if body is None else _short(body)}>"
        shown = [f"{name}={_short(self[name])}" for name in list(self)[:8]]
        return f"<Record {', '.join(shown)}{', …' if len(self) > 8 else ''}>"

    def _text(self, name: str) -> str | bytes | None:
        """A column of a record whose body is a column."""
        view = self._view
        if name == view.body:
            body: bytes | None = self._row[-1]
            return str(body, "utf-8") if view.is_text and body is not None else body
        position = view.texts.get(name)
        if position is None:
            raise KeyError(_missing(name, view.names, also="--body row gives every column"))
        text: str | None = self._row[position]
        return text

    def _decoded(self, name: str) -> Any:
        """A column of a record whose body is the row as JSON."""
        found = self._found
        if found is None:
            found = self._found = {}
        elif name in found:
            return found[name]
        try:
            value = self._columns()[name]
        except KeyError:
            raise KeyError(_missing(name, tuple(self._columns()))) from None
        if value is not None and (decode := self._view.decoders.get(name)) is not None:
            with contextlib.suppress(ValueError, ArithmeticError):  # what Python cannot hold stays its text
                value = decode(value)
        found[name] = value
        return value

    def _columns(self) -> dict[str, Any]:
        parsed = self._parsed
        if parsed is None:
            body: bytes | None = self._row[-1]
            parsed = self._parsed = {} if body is None else parse(body)
        return parsed


def _missing(name: object, names: tuple[str, ...], also: str | None = None) -> str:
    near = difflib.get_close_matches(str(name), names, n=1)
    there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:20])}{', …' if names[20:] else ''}"
    return f"there is no column {name!r} here; {there}{f' ({also})' if also and not near else ''}"


def _short(value: object) -> str:
    """A value for a person, never much of a large one."""
    if isinstance(value, bytes | str) and len(value) > 40:
        return f"{value[:32]!r}… ({len(value):,} {'bytes' if isinstance(value, bytes) else 'characters'})"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}…"
