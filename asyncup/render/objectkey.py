"""What an object key may be.

S3 takes up to 1,024 bytes of UTF-8 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html). Control
characters and `.` or `..` segments are refused here, since clients, proxies and file systems change or drop them on
the way. `//` and a leading `/` are ordinary characters of a key.
"""

from __future__ import annotations

import re

from asyncup.errors import RowRefused

MAX_KEY_BYTES = 1024

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


def check_object_key(key: str) -> None:
    """Refuse an object key that could not be stored under exactly that name.

    Raises:
        RowRefused: with the reason.
    """
    if key.isascii() and key.isprintable() and 0 < len(key) <= MAX_KEY_BYTES and "/." not in key and key[0] != ".":
        return  # nearly every key, at the price of looking at it twice
    if not key:
        raise _refused(key, "the object key is empty")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise _refused(key, "the object key is not text that UTF-8 can hold") from None
    if size > MAX_KEY_BYTES:
        raise _refused(key, f"the object key is {size} bytes long; S3 takes {MAX_KEY_BYTES}")
    if _CONTROL.search(key):
        raise _refused(key, "the object key contains a control character")
    if _DOTS.search(key):
        raise _refused(key, "the object key has a '.' or '..' segment, which clients resolve as a path")


def _refused(key: str, reason: str) -> RowRefused:
    return RowRefused(
        "render",
        key[:200] if key.isprintable() else ascii(key[:150])[1:-1][:200],
        reason,
        "change the value, or the template in --to",
    )
