"""Templates: text with `{column}` or `{column:spec}` in it, compiled to a function from row to text.

`{column}` renders the text that Postgres gave. A format spec decodes the value first. `{{` and `}}` are literal
braces. Columns only: no attributes, no indexing, no conversions, no code.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from asyncup.errors import RowRefused, TemplateRefused
from asyncup.model import Row, RowShape
from asyncup.names import parse_identifiers, written

INTEGERS = frozenset({"int2", "int4", "int8", "oid"})
FLOATS = frozenset({"float4", "float8"})
TEMPORAL = frozenset({"date", "timestamp", "timestamptz", "time"})
_NUMBERED = re.compile(r"[0-9]+")
_NAME = re.compile(r'"(?:[^"]|"")+"|[^\W\d][\w$]*')
#: Wider than any object key or header may be; without a bound one spec could take all memory.
_MAX_WIDTH = 1024
DIRECTIVE = re.compile(r"%(.)", re.DOTALL)
#: A quote, or a character that a backslash makes an ordinary one.
_QUOTE = re.compile(r'\\.|"', re.DOTALL)

#: Where a column lies in a row, and how its text is formatted, if at all.
_Part = tuple[int, Callable[[str], str] | None]


def _time(text: str) -> dt.time:
    """A time of day; `24:00:00`, another value than `00:00:00` to Postgres, is none (Python 3.14 would take it)."""
    if text.startswith("24"):
        raise ValueError("hour must be in 0..23")
    return dt.time.fromisoformat(text)


def _format_date(value: dt.date, spec: str) -> str:
    """Like `format`, with four digits for every year: C libraries differ on those before 1000."""
    if value.year < 1000:
        spec = DIRECTIVE.sub(lambda found: f"{value.year:04d}" if found[1] == "Y" else found[0], spec)
    return format(value, spec)


_DECODERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(INTEGERS, int),
    **dict.fromkeys(FLOATS, float),
    "numeric": decimal.Decimal,
    "date": dt.date.fromisoformat,
    "timestamp": dt.datetime.fromisoformat,
    "timestamptz": dt.datetime.fromisoformat,
    "time": _time,
}
_FORMATS: dict[str, Callable[[Any, str], str]] = dict.fromkeys(("date", "timestamp", "timestamptz"), _format_date)
_SAMPLES: dict[str, str] = {
    **dict.fromkeys((*INTEGERS, *FLOATS, "numeric"), "7"),
    "date": "2000-01-31",
    "timestamp": "2000-01-31 23:59:59.5",
    "timestamptz": "2000-01-31 23:59:59.5+00",
    "time": "23:59:59.5",
}


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`{name:spec}`; an empty spec stands for the text as it is."""

    name: str
    spec: str = ""

    def __str__(self) -> str:
        return "{" + written(self.name) + (":" + self.spec if self.spec else "") + "}"


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: literals and placeholders in turn, beginning and ending with a literal (maybe empty)."""

    text: str
    literals: tuple[str, ...]
    placeholders: tuple[Placeholder, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it names, each once, in order."""
        return tuple(dict.fromkeys(placeholder.name for placeholder in self.placeholders))


def parse_template(text: str) -> Template:
    """Parse a template.

    Raises:
        TemplateRefused: an unbalanced brace, something else than a column between them, or bytes that are no text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused(ascii(text), "it is not valid UTF-8", "write it in UTF-8") from None
    literals, placeholders, literal, position = [], [], "", 0
    while position < len(text):
        char = text[position]
        if text.startswith(("{{", "}}"), position):
            literal += char
            position += 2
        elif char == "}":
            raise _refused(text, f"single '}}' at position {position + 1}", "write }} for a literal brace")
        elif char == "{":
            placeholder, position = _placeholder(text, position + 1)
            literals.append(literal)
            placeholders.append(placeholder)
            literal = ""
        else:
            literal += char
            position += 1
    return Template(text, (*literals, literal), tuple(placeholders))


def _placeholder(text: str, start: int) -> tuple[Placeholder, int]:
    name = _NAME.match(text, start)
    end = text.find("}", name.end() if name else start)
    if end < 0:
        raise _refused(text, f"the brace at position {start} is never closed", "write {{ for a literal brace")
    if name is None or _NUMBERED.fullmatch(text[start:end]):
        raise _refused(text, f"{text[start - 1 : end + 1]!r} names no column", "write {column} or {column:spec}")
    rest = text[name.end() : end]
    if rest and not rest.startswith(":"):
        raise _refused(
            text,
            f"{text[start - 1 : end + 1]!r}: only columns may stand between braces",
            "write {column} or {column:spec}; attributes, indexing and conversions are not supported",
        )
    if "{" in rest:
        raise _refused(text, f"{text[start - 1 : end + 1]!r}: a format spec cannot hold a brace")
    return Placeholder(parse_identifiers(name[0])[0], rest[1:]), end + 1


def compile_template(template: Template, shape: RowShape, *, quoted: bool = False) -> Callable[[Row], str | None]:
    """A function that renders a row; None when a column it needs is NULL.

    The function raises RowRefused when a value cannot be decoded for its format spec. With `quoted`, values between
    double quotes of the template are escaped as a quoted string wants it (RFC 9110, section 5.6.4).

    Raises:
        TemplateRefused: a spec does not fit its column's type.
    """
    parts: list[_Part] = [(shape.index(hole.name), formatter(template, hole, shape)) for hole in template.placeholders]
    literals = template.literals
    if quoted:
        parts = _escaped(parts, literals)
    if not parts:
        return lambda _row: literals[0]
    if len(parts) == 1 and parts[0][1] is None:
        index, (before, after) = parts[0][0], literals

        def single(row: Row) -> str | None:
            value = row[index]
            return None if value is None else before + value + after

        return single

    tail = [(index, form, literal) for (index, form), literal in zip(parts, literals[1:], strict=True)]

    def many(row: Row) -> str | None:
        pieces = [literals[0]]
        for index, form, literal in tail:
            value = row[index]
            if value is None:
                return None
            pieces.append(value if form is None else form(value))
            pieces.append(literal)
        return "".join(pieces)

    return many


def _escaped(parts: list[_Part], literals: Sequence[str]) -> list[_Part]:
    """The parts, those between quotes with a form that escapes quotes and backslashes."""
    found, inside = [], False
    for (index, form), literal in zip(parts, literals, strict=False):
        inside ^= _QUOTE.findall(literal).count('"') % 2 == 1
        found.append((index, partial(_escape, form) if inside else form))
    return found


def _escape(form: Callable[[str], str] | None, text: str) -> str:
    return (text if form is None else form(text)).replace("\\", r"\\").replace('"', r"\"")


def formatter(template: Template, hole: Placeholder, shape: RowShape) -> Callable[[str], str] | None:
    """A function from a column's text to its formatted value; None where the text stands as it is.

    Raises:
        TemplateRefused: the spec does not fit the column's type.
    """
    if not hole.spec:
        return None
    base = shape.columns[shape.index(hole.name) - shape.keys].base
    decode, write, spec = _DECODERS.get(base, str), _FORMATS.get(base, format), hole.spec
    plain = Placeholder(hole.name)

    def form(text: str) -> str:
        try:
            return write(decode(text), spec)
        except (ValueError, ArithmeticError, TypeError) as exc:
            raise RowRefused(
                "render",
                str(hole),
                f"the value {text[:80]!r} of column {hole.name} cannot be formatted: {exc}",
                f"use {plain} without a format spec: it renders every value as Postgres writes it",
            ) from None

    if base in TEMPORAL and "%" not in spec:
        raise _refused(
            template.text,
            f"{hole} renders nothing of a {base}: its format has no %",
            f"such as {Placeholder(hole.name, '%Y/%m/%d' if base != 'time' else '%H-%M')}, or {plain} for all of it",
        )
    widths = re.findall(r"\d+", spec) if base not in TEMPORAL else []
    if any(len(width) > 9 or int(width) > _MAX_WIDTH for width in widths):
        raise _refused(template.text, f"{hole} asks for more than {_MAX_WIDTH} characters", "give a smaller width")
    try:
        form(_SAMPLES.get(base, "text"))
    except RowRefused as exc:
        raise _refused(
            template.text,
            f"{hole} does not fit a column of type {base}: {exc.__context__}",
            f"leave the format spec out: {plain}",
        ) from None
    return form


def _refused(text: str, message: str, hint: str | None = None) -> TemplateRefused:
    return TemplateRefused("parse template", text, message, hint)
