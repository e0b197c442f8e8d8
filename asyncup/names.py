"""Names as SQL writes them, and the nearest one to a name that does not exist."""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Collection

_IDENTIFIER = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\W\d][\w$]*))\s*')
#: PostgreSQL folds no other letters than these in UTF-8: `É` stays `É`.
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


def parse_identifiers(text: str) -> tuple[str, ...]:
    """Column names written as in SQL, with commas: `id, "We ird"`. Unquoted names fold to lower case.

    Raises ValueError.
    Source: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
    """
    names, position = [], 0
    while True:
        match = _IDENTIFIER.match(text, position)
        if match is None:
            raise ValueError(f'{text!r} is not a list of column names; write them as in SQL: id, "Mixed Case"')
        names.append(_plain(match))
        position = match.end()
        if position == len(text):
            return tuple(names)
        if text[position] != ",":
            raise ValueError(f"{text!r}: unexpected {text[position]!r}; separate names with commas")
        position += 1


def parse_qualified(text: str) -> tuple[str, str]:
    """A schema and a name in it, written as in SQL: `public.docs`, `"My Schema"."Docs"`. Raises ValueError."""
    first = _IDENTIFIER.match(text)
    second = (
        _IDENTIFIER.fullmatch(text, first.end() + 1) if first and text[first.end() : first.end() + 1] == "." else None
    )
    if first is None or second is None:
        raise ValueError(f"{text!r} is no name with its schema; write it as in SQL: schema.name")
    return _plain(first), _plain(second)


def _plain(match: re.Match[str]) -> str:
    """The name that an identifier means."""
    return match[1].replace('""', '"') if match[1] is not None else match[2].translate(_FOLD)


def quote(name: str) -> str:
    """An identifier in double quotes, as SQL takes it whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def written(name: str) -> str:
    """An identifier as a person would write it: quoted only where it must be."""
    return name if _PLAIN.fullmatch(name) else quote(name)


def nearest(name: str, known: Collection[str]) -> str:
    """A hint: the name that was probably meant, or those that there are."""
    folded = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    if near:
        return f"did you mean {written(folded[near[0]])}?"
    if not known:
        return "there are none"
    shown = [written(candidate) for candidate in sorted(known)]
    return "there are: " + ", ".join(shown[:20]) + (", …" if len(shown) > 20 else "")
