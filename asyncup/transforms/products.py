"""What a user's function may give, made plain: exact bytes and texts, which cross to another process without surprises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from asyncup.model import Headers, Products, Streamed, Upload

#: What may be given, as a person reads it.
ALLOWED = "bytes, str, an Upload, an iterable of those, or None to skip the row"


class NotAllowed(Exception):
    """A function gave something that no object can be made of; the text says what."""


def products(made: Any) -> Products:
    """What was given as a row's products; a generator runs here.

    Raises:
        NotAllowed: it is nothing of what is allowed.
        Exception: whatever a generator raises.
    """
    if type(made) is bytes:
        return (made,)
    if made is None:
        return ()
    if isinstance(made, Upload | str | bytes | bytearray | memoryview):
        return (_product(made),)
    if isinstance(made, Mapping) or not isinstance(made, Iterable):
        raise NotAllowed(f"the transform gave {_a(made)}, not {ALLOWED}{_why(made)}")
    return tuple(_product(one, within=made) for one in made)


def _product(made: Any, within: Any = None) -> bytes | Upload:
    if isinstance(made, Upload):
        return _upload(made)
    if isinstance(made, str | bytes | bytearray | memoryview):
        return _bytes(made)
    if within is not None and isinstance(within, tuple) and hasattr(within, "_fields"):
        raise NotAllowed(f"the transform gave {_a(within)}, not {ALLOWED}")
    raise NotAllowed(f"the transform gave {_a(within)} with {_a(made)} in it, not {ALLOWED}{_why(made)}")


def _upload(made: Upload) -> Upload:
    key, body, headers = made
    if not isinstance(key, str):
        raise NotAllowed(f"the transform gave an Upload whose key is {_a(key)}, not str")
    if isinstance(body, Streamed) or not isinstance(body, str | bytes | bytearray | memoryview):
        raise NotAllowed(f"the transform gave an Upload whose body is {_a(body)}, not bytes or str")
    return Upload(str(key), _bytes(body), _headers(headers))


def _bytes(made: str | bytes | bytearray | memoryview) -> bytes:
    if isinstance(made, str):
        try:
            return made.encode()
        except UnicodeEncodeError as exc:
            raise NotAllowed(f"the transform gave a str that UTF-8 cannot hold: {exc.reason}") from None
    return made if type(made) is bytes else bytes(made)


def _headers(given: Any) -> Headers:
    if isinstance(given, str) or not isinstance(given, Mapping | Iterable):
        raise NotAllowed(f"the transform gave an Upload whose headers are {_a(given)}, not a mapping or pairs")
    pairs: list[tuple[str, str]] = []
    for pair in given.items() if isinstance(given, Mapping) else given:
        try:
            name, value = pair
        except (TypeError, ValueError):
            raise NotAllowed(f"the transform gave an Upload with the header {pair!r:.80}, not a pair of str") from None
        if not isinstance(name, str) or not isinstance(value, str):
            cure = f"; write str({value!r:.40})" if isinstance(value, int | float) else ""
            raise NotAllowed(
                f"the transform gave an Upload with the header {name!r:.80}: {value!r:.80}, not a pair of str{cure}"
            )
        pairs.append((str(name).lower(), str(value)))
    return tuple(pairs)


def _a(made: Any) -> str:
    if made is None:
        return "None"
    kind = type(made).__qualname__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _why(made: Any) -> str:
    """What was probably meant."""
    if hasattr(made, "__await__"):
        return "; write it as async def"
    if isinstance(made, Mapping):
        return "; json.dumps makes a str of it"
    return ""
