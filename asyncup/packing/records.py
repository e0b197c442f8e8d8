"""The row as JSON, taken apart without loss: numbers stay as they were written, members in their order.

What Python's own decoding would change comes through: `numeric` values of any length, a float's digits, members of a
`json` value that have one name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from asyncup.errors import RowRefused
from asyncup.model import Column

#: A `json` value may hold escapes that are no characters (https://www.postgresql.org/docs/current/datatype-json.html).
_HALVES = re.compile("[\ud800-\udfff]")


class Number(str):
    """A number, as JSON wrote it."""

    __slots__ = ()


#: Text to value: an object is a tuple of pairs, an array a list, a number a Number.
_decode = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Number, object_pairs_hook=tuple).decode


def compact(value: Any) -> str:
    """A value as JSON without whitespace. Raises ValueError where it is nested too deeply."""
    try:
        return _compact(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _compact(value: Any) -> str:
    if isinstance(value, Number):
        return value
    if isinstance(value, str):
        return encode_basestring_ascii(value) if _HALVES.search(value) else encode_basestring(value)
    if isinstance(value, list):
        return f"[{','.join(map(_compact, value))}]"
    if isinstance(value, tuple):
        return f"{{{','.join([f'{_compact(name)}:{_compact(part)}' for name, part in value])}}}"
    return "null" if value is None else "true" if value else "false"


def compile_reader(columns: tuple[Column, ...], name: str) -> Callable[[bytes | None], list[Any]]:
    """A function from a row as JSON to the values of the columns, in their order; `name` is the format's, for messages.

    The function raises RowRefused for what is not such a row.
    """
    names = [column.name for column in columns]
    expected = frozenset(names)

    def read(record: bytes | None) -> list[Any]:
        try:
            members = dict(_decode(str(record or b"", "utf-8")))
        except RecursionError:
            raise refused(name, "it is nested too deeply") from None
        except (ValueError, TypeError) as exc:
            raise refused(name, f"it is not a row as JSON: {exc}") from None
        if members.keys() != expected:
            odd = ", ".join(sorted(members.keys() ^ expected))
            raise refused(
                name,
                f"its columns are no longer those that the run began with: {odd}",
                "the table was changed meanwhile; begin anew with --restart",
            )
        return [members[one] for one in names]

    return read


def refused(name: str, message: str, hint: str | None = None) -> RowRefused:
    """A row that cannot be in a pack of that format."""
    return RowRefused("pack", name, message, hint)
