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
from zlib import crc32

from asyncup.sinks.s3.multipart import parts_of

_MD5 = re.compile(r"[0-9a-f]{32}")
_OF_PARTS = re.compile(r"[0-9a-f]{32}-([1-9][0-9]{0,4})")

_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "ChecksumCRC32": lambda body: crc32(body).to_bytes(4, "big"),
    "ChecksumSHA256": lambda body: sha256(body).digest(),
    "ChecksumSHA1": lambda body: sha1(body, usedforsecurity=False).digest(),
}


def expected_etag(etag: str, body: bytes) -> str | None:
    """The ETag of `body` if it was sent as `etag` says, without quotes; None when that cannot be told.

    A multipart ETag does not say how large the parts were: only asyncup's own size is tried.
    """
    if _MD5.fullmatch(etag):
        return md5(body, usedforsecurity=False).hexdigest()
    found = _OF_PARTS.fullmatch(etag)
    if found is None or not body:
        return None
    digests = [md5(part.body, usedforsecurity=False).digest() for part in parts_of(body)]
    if len(digests) != int(found[1]):
        return None
    return f"{md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def agrees_by_checksum(answer: Mapping[str, str], body: bytes) -> bool | None:
    """Whether a checksum of the whole object, in botocore's names, is that of `body`; None when there is none to use.

    One that ends in a number of parts is a checksum of checksums.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
    """
    for name, digest in _CHECKSUMS.items():
        given = answer.get(name)
        if given and "-" not in given and answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
            return b64encode(digest(body)).decode() == given
    return None
