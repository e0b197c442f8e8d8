"""Texts of flags, variables and files made values, and values made such texts again; and what an option is called there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit

from asyncup.errors import UsageError
from asyncup.names import parse_identifiers

#: What is stored with an object beside its key and body.
OBJECT_OPTIONS = (
    "content_type",
    "cache_control",
    "content_disposition",
    "content_language",
    "metadata",
    "tag",
    "storage_class",
    "sse",
    "sse_kms_key_id",
    "acl",
    "checksum",
)

MIB = 1 << 20
_UNITS = {
    "": 1,
    "B": 1,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_NUMBERS = frozenset(
    {
        "page_size",
        "readers",
        "limit",
        "concurrency",
        "max_concurrency",
        "max_attempts",
        "max_failures",
        "compress_level",
        "executor_workers",
        "pack_rows",
    }
)
#: Numbers that `auto` leaves to asyncup.
_AUTOMATIC = frozenset({"page_size", "concurrency"})
_SIZES = frozenset({"memory", "max_bandwidth", "pack_bytes"})
_DURATIONS = frozenset({"attempt_timeout", "drain_timeout", "lag", "timeout", "transform_timeout"})
#: What a rate counts.
_RATES = {"max_rate": "requests", "min_rate": "objects"}
_TEXTS = frozenset(OBJECT_OPTIONS) - {"metadata", "tag"} | {"expected_bucket_owner", "request_payer", "s3_client"}
_PASSWORD = re.compile(r"password\s*=\s*(?:'((?:[^'\\]|\\.)*)|((?:[^\s\\]|\\.)+))")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)


def parse_size(text: str | int) -> int:
    """Bytes from `64MiB`, `64MB`, `1.5GiB` or a plain number of bytes. Raises ValueError."""
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError(f"{text!r} is not a size; write it as 64MiB, 64MB or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_duration(text: str | float) -> float:
    """Seconds from `2`, `2s`, `1m30s`, `500ms`, `1h`, `1d`. Raises ValueError."""
    if isinstance(text, (int, float)):
        return float(text)
    stripped = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", stripped):
        return float(stripped)
    match = _DURATION.fullmatch(stripped)
    if match is None or not stripped:
        raise ValueError(f"{text!r} is not a duration; write it as 2, 2s, 1m30s, 500ms, 1h or 1d")
    days, hours, minutes, seconds, millis = (float(group) if group else 0.0 for group in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + millis / 1000


def as_typed(option: str, value: Any) -> str:
    """A value as a person would type it: `8MiB`, `5m`; the same to `Config.of`."""
    if option in _SIZES and isinstance(value, int) and value:
        unit = next(unit for unit in ("TiB", "GiB", "MiB", "KiB", "") if not value % _UNITS[unit.upper()])
        return f"{value // _UNITS[unit.upper()]}{unit}"
    if option in _DURATIONS and isinstance(value, (int, float)) and 0 < value * 1000 == round(value * 1000):
        text, left = "", round(value * 1000)
        for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
            text += f"{left // length}{unit}" if left >= length else ""
            left %= length
        return text
    return str(value)


def grammar(option: str) -> str | None:
    """A regular expression of the texts that a number, a size or a duration may be written as; None for other options."""
    if option in _SIZES:
        return _SIZE.pattern
    if option in _DURATIONS:
        return rf"\d+(?:\.\d+)?|{_DURATION.pattern}"
    if option in _RATES:
        return r"\d+(?:\.\d+)?"
    if option == "expect_rows":
        return r"\d+(?::\d*)?|:\d+"
    if option in _NUMBERS:
        return r"auto|\d+" if option in _AUTOMATIC else r"\d+"
    return None


def parse_shard(text: str) -> tuple[int, int]:
    """The number and the count from `0/4`. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no shard; write it as I/N, such as 0/4, 1/4, 2/4 and 3/4 for four machines")
    number, count = int(match[1]), int(match[2])
    if not count:
        raise ValueError(f"{text!r} is no shard: N must be at least 1, and I is counted from 0, such as 0/1")
    if not number < count:
        raise ValueError(
            f"there is no shard {number} of {count}; they count from 0, so the last one is {count - 1}/{count}"
        )
    return number, count


def parse_expected(text: str) -> tuple[int | None, int | None]:
    """The least and the most rows from `10:20`, `10:`, `:20`, or `10` for so many; None where it says none. Raises ValueError."""
    if isinstance(text, str) and re.fullmatch(r"\s*\d{1,18}\s*", text):
        return int(text), int(text)
    match = re.fullmatch(r"\s*(\d{0,18})\s*:\s*(\d{0,18})\s*", text) if isinstance(text, str) else None
    if match is None or not (match[1] or match[2]):
        raise ValueError(f"{text!r} is no range of rows; write it as MIN:MAX, MIN:, :MAX or N, such as 1:")
    least, most = (int(bound) if bound else None for bound in match.groups())
    if least is not None and most is not None and least > most:
        raise ValueError(f"{text!r} holds no number: {least:,} is more than {most:,}")
    return least, most


def flag(option: str) -> str:
    """The flag of an option: `page_size` → `--page-size`."""
    return "--" + option.replace("_", "-")


def environment(option: str) -> str:
    """The environment variable of an option: `page_size` → `ASYNCUP_PAGE_SIZE`."""
    return "ASYNCUP_" + option.upper()


def usage(option: str, message: str, hint: str | None = None) -> UsageError:
    """A value that cannot be meant. A message that is nothing without its subject begins with the flag."""
    if message.startswith(("must ", "is empty", "cannot be ", "has no meaning", "names no ")):
        message = f"{flag(option)} {message}"
    return UsageError("read flags", flag(option), message, hint)


def parsed(option: str, value: Any) -> Any:
    """The value of an option, of the type that it has in a configuration. Raises ValueError."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("it is not valid UTF-8") from None
    if option in _TEXTS and not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    if option in _SIZES:
        return parse_size(value)
    if option in _RATES:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{value!r} is not a number of {_RATES[option]} a second") from None
    if option in _DURATIONS:
        return parse_duration(value)
    if option in ("key", "pack_by"):
        return parse_identifiers(value) if isinstance(value, str) else tuple(value)
    if option in ("metadata", "tag"):
        return _pairs(value)
    if option in _AUTOMATIC and value == "auto":
        return None
    if option == "shard":
        return "{}/{}".format(*parse_shard(value))
    if option == "expect_rows":
        return ":".join("" if bound is None else str(bound) for bound in parse_expected(value))
    if option == "transform" and not callable(value) and not isinstance(value, str):
        raise ValueError(f"{value!r} is no function, and no text such as package.module:function")
    if option in _NUMBERS:
        try:
            return int(value)
        except (TypeError, ValueError):
            if option == "concurrency":
                raise ValueError(f"{value!r} is not a whole number, and not auto") from None
            raise ValueError(f"{value!r} is not a whole number") from None
    return value


def _pairs(value: str | Mapping[str, str] | Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Names and values from `name=value` texts, one text of them with one in each line, or a mapping.

    Raises ValueError.
    """
    if isinstance(value, Mapping):
        if not all(isinstance(text, str) for pair in value.items() for text in pair):
            raise ValueError(f"{dict(value)!r} has names or values that are not texts")
        return tuple(value.items())
    pairs = []
    for text in filter(None, value.splitlines()) if isinstance(value, str) else value:
        name, equals, template = text.partition("=") if isinstance(text, str) else ("", "", "")
        if not equals:
            raise ValueError(f"{text!r} is not written as name=value")
        pairs.append((name, template))
    return tuple(pairs)


def secrets_of(dsn: str | None) -> tuple[str, ...]:
    """The secret texts of a connection string, as they are written and as they are meant; no output may hold them."""
    if not dsn:
        return ()
    found = re.findall(r"password=([^&\s]+)", dsn)
    for quoted, plain in _PASSWORD.findall(dsn):
        found += [quoted or plain, re.sub(r"\\(.)", r"\1", quoted or plain)]
    try:
        found.append(urlsplit(dsn).password or "")
    except ValueError:
        found.append(dsn)
    return tuple({text for secret in found for text in (secret, unquote(secret), unquote_plus(secret)) if text})
