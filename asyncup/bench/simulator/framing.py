"""Where one request ends and the next begins (RFC 9112), as cheaply as Python can: a search or two for each request.

Only what decides about framing is read. Bodies have a Content-Length; chunked ones are refused, as S3 refuses them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

END_OF_HEAD = b"\r\n\r\n"
#: Bytes of a request line and its headers, together. S3 takes 8 KB of headers.
HEAD_LIMIT = 64 << 10

_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|connection|expect):[ \t]*([^\r]*)", re.IGNORECASE)


class BadRequest(Exception):
    """The bytes are no request that could be answered; nothing after them can be understood either."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Head(NamedTuple):
    """What a request says before its body. `length` is that of the body, in bytes."""

    method: str
    target: str
    length: int
    closes: bool
    expects_continue: bool


def read_head(raw: bytes) -> Head:
    """Read a request line and headers, without the blank line that ends them.

    Raises:
        BadRequest: they are not HTTP/1.1, or their body has no length.
    """
    line, _, _ = raw.partition(b"\r\n")
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(400, "BadRequest", "An error occurred when parsing the HTTP request.")
    method, target, version = parts
    length, closes, expects_continue = 0, version == "HTTP/1.0", False
    for name, value in _FRAMING.findall(raw):
        match name.lower():
            case b"content-length":
                text = value.strip()
                if not text.isdigit():
                    raise BadRequest(400, "BadRequest", "The Content-Length is not a number.")
                length = int(text)
            case b"connection":
                closes = value.strip().lower() == b"close"
            case b"expect":
                expects_continue = value.strip().lower() == b"100-continue"
            case _:  # chunks
                raise BadRequest(
                    501, "NotImplemented", "A header you provided implies functionality that is not implemented"
                )
    return Head(method, target, length, closes, expects_continue)


def read_fields(raw: bytes) -> dict[str, str]:
    """Header values by lower-case names, as Latin-1, which gives every byte back; repeated ones are joined by commas."""
    fields: dict[str, str] = {}
    for line in raw.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")  # Latin-1 has other blanks, which UTF-8 needs
        fields[name] = f"{fields[name]},{value}" if name in fields else value
    return fields
