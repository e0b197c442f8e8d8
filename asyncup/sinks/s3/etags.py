"""What the ETag of an object would be if it held these bytes, where that can be known.

The MD5 of the body for an object that came in one request and is not encrypted with a KMS key; for one that came in
parts the MD5 of the MD5s of its parts, and their number.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (ETag).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import md5, sha1, sha256
from typing import Protocol
from zlib import crc32

from asyncup.sinks.s3.multipart import part_size
from asyncup.sinks.s3.settings import PART_BYTES

_MD5 = re.compile(r"[0-9a-f]{32}")
_OF_PARTS = re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})")


class Digest(Protocol):
    """What is told of a body from its pieces, taken in one after the other."""

    def update(self, piece: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class EtagDigest:
    """The ETag of a body, without quotes. `part` is how large its parts were, None when it came in one piece."""

    def __init__(self, part: int | None) -> None:
        self._part = part
        self._room = part or 0
        self._md5 = md5(usedforsecurity=False)
        self._digests: list[bytes] = []

    @classmethod
    def like(cls, etag: str, size: int, least: int = PART_BYTES) -> EtagDigest | None:
        """The ETag of a body of `size` bytes if it was sent as `etag` says; None when that cannot be told.

        A multipart ETag does not say how large the parts were: only asyncup's own size is tried, for parts of `least`
        bytes.
        """
        if _MD5.fullmatch(etag):
            return cls(None)
        found, part = _OF_PARTS.fullmatch(etag), part_size(size, least)
        if found is None or max(1, -(-size // part)) != int(found[1]):
            return None
        return cls(part)

    def update(self, piece: bytes) -> None:
        """Take in the next piece of the body, of any size."""
        if self._part is None:
            self._md5.update(piece)
            return
        view = memoryview(piece)
        while view:
            if not self._room:
                self._end_part()
            fits = view[: self._room]
            self._md5.update(fits)
            self._room -= len(fits)
            view = view[len(fits) :]

    def value(self) -> str:
        """The ETag of what was taken in; then nothing more is."""
        if self._part is None:
            return self._md5.hexdigest()
        self._end_part()
        return f"{md5(b''.join(self._digests), usedforsecurity=False).hexdigest()}-{len(self._digests)}"

    def _end_part(self) -> None:
        self._digests.append(self._md5.digest())
        self._md5, self._room = md5(usedforsecurity=False), self._part or 0


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, piece: bytes) -> None:
        self._value = crc32(piece, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_CHECKSUMS: dict[str, Callable[[], Digest]] = {
    "ChecksumCRC32": _Crc32,
    "ChecksumSHA256": sha256,
    "ChecksumSHA1": lambda: sha1(usedforsecurity=False),
}


class KeptChecksum:
    """A checksum of the whole object that S3 keeps, and that of a body to hold against it."""

    def __init__(self, given: str, digest: Digest) -> None:
        self._given = given
        self._digest = digest
        self.update = digest.update

    @classmethod
    def of(cls, answer: Mapping[str, str]) -> KeptChecksum | None:
        """The one that an answer names, in botocore's names; None when there is none to use.

        One that ends in a number of parts is a checksum of checksums.
        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
        """
        for name, make in _CHECKSUMS.items():
            given = answer.get(name)
            if given and "-" not in given and answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
                return cls(given, make())
        return None

    @property
    def agrees(self) -> bool:
        """Whether it is that of what was taken in."""
        return b64encode(self._digest.digest()).decode() == self._given
