"""Values of Postgres out of the JSON that `row_to_json` makes of them, by the type of their column. Pure.

JSON knows numbers, texts, truth values and lists; what is more than that comes as the text that Postgres writes. JSON is
to be parsed with `parse_float=Decimal`, so that a `numeric` loses nothing.
Source: https://www.postgresql.org/docs/current/functions-json.html, `to_json`.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

from asyncup.model import Column

#: From a value of the parsed JSON to the value that Python has for it.
Decoder = Callable[[Any], Any]

#: `IntervalStyle` postgres, without the years and months, whose length nobody knows.
_INTERVAL = re.compile(r"(?:([-+]?\d+) days? ?)?(?:([-+]?)(\d+):(\d\d):(\d\d(?:\.\d{1,6})?))?")


def parse(record: bytes) -> dict[str, Any]:
    """The columns of a row as JSON, not yet decoded by their types.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        found = json.loads(record, parse_float=Decimal)
    except ValueError as exc:
        if isinstance(exc, json.JSONDecodeError | UnicodeDecodeError):
            raise
        found = json.loads(record, parse_float=Decimal, parse_int=Decimal)  # more digits than Python reads as an int
    if not isinstance(found, dict):
        raise ValueError(f"it is no object: {found!r:.80}")  # noqa: TRY004 - a value that came in, not an argument
    return found


def decoder(column: Column) -> Decoder:
    """From the JSON value of that column, never null, to a Python value; what has no type of its own there stays as it is.

    int, float, Decimal (`numeric`), bool, str, bytes (`bytea`), date, time, datetime, timedelta (`interval`), UUID, lists of
    those, and JSON as it was parsed.

    The function raises ValueError for a value that Python cannot hold: infinity, a year that is not between 1 and 9999,
    months, 24:00.
    """
    return _by_base(column.base)


@lru_cache
def _by_base(base: str) -> Decoder:
    if base.startswith("_"):  # what Postgres calls the type of arrays
        element = _by_base(base[1:])
        return _as_it_is if element is _as_it_is else lambda value: _list(element, value)
    return _DECODERS.get(base, _as_it_is)


def _list(element: Decoder, value: Any) -> Any:
    if isinstance(value, list):
        return [_list(element, inner) for inner in value]
    return None if value is None else element(value)


def _as_it_is(value: Any) -> Any:
    return value


def _int(value: Any) -> int:
    return int(value)


def _decimal(value: Any) -> Decimal:
    return Decimal(value)


def _float(value: Any) -> float:
    return float(value)


def _bytes(value: str) -> bytes:
    if not value.startswith("\\x"):
        raise ValueError("it is not written in hexadecimal digits")
    return bytes.fromhex(value[2:])


def _datetime(value: str) -> dt.datetime:
    return dt.datetime.fromisoformat(_plain(value))


def _date(value: str) -> dt.date:
    return dt.date.fromisoformat(_plain(value))


def _time(value: str) -> dt.time:
    if value.startswith("24"):
        raise ValueError("a day of Python's ends before 24:00")
    return dt.time.fromisoformat(value)


def _plain(value: str) -> str:
    """A date, with or without a time, whose year has four digits: `fromisoformat` would read others in its own way."""
    if value[4:5] != "-" or value.endswith("BC"):
        raise ValueError("Python has no such date")
    return value


def _interval(value: str) -> dt.timedelta:
    found = _INTERVAL.fullmatch(value)
    if not value or found is None:
        raise ValueError("Python has no intervals of months")
    days, sign, hours, minutes, seconds = found.groups()
    length = dt.timedelta()
    if hours is not None:
        whole, _, fraction = seconds.partition(".")
        micros = int(fraction.ljust(6, "0")) if fraction else 0
        length = dt.timedelta(hours=int(hours), minutes=int(minutes), seconds=int(whole), microseconds=micros)
    try:
        return dt.timedelta(days=int(days or 0)) + (-length if sign == "-" else length)
    except OverflowError as exc:
        raise ValueError(str(exc)) from None


_DECODERS: dict[str, Decoder] = {
    "int2": _int,
    "int4": _int,
    "int8": _int,
    "float4": _float,
    "float8": _float,
    "numeric": _decimal,
    "bytea": _bytes,
    "date": _date,
    "time": _time,
    "timetz": _time,
    "timestamp": _datetime,
    "timestamptz": _datetime,
    "interval": _interval,
    "uuid": uuid.UUID,
}
