"""That S3 holds the bytes that were meant: what is sent along for the server to check, and what is checked of its answer.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from hashlib import md5, sha256
from typing import NamedTuple
from zlib import crc32

from asyncup.errors import ConnectionLost, PayloadCorrupted
from asyncup.model import tuple_of
from asyncup.sinks.s3.providers import Provider
from asyncup.sinks.s3.signing import UNSIGNED_PAYLOAD

#: Hashing more than this takes longer than handing it to a thread and back.
THREAD_BYTES = 256 << 10
_MD5_ETAG = 34  # two quotes around 32 hexadecimal digits


class Seal(NamedTuple):
    """What is known of a body's bytes before they are sent.

    Attributes:
        payload: what the signature covers: the SHA-256 in hex, or UNSIGNED-PAYLOAD.
        checksum: the value of the checksum header, None when there is none.
        md5: in hex, None when the ETag is not checked.
    """

    payload: str
    checksum: str | None
    md5: str | None


class Integrity:
    """The checks of one run. `checksum` is crc32, sha256, none, or None for what the provider likes best."""

    def __init__(self, provider: Provider, *, checksum: str | None, tls: bool, signed: bool, verify_etag: bool) -> None:
        chosen = provider.checksum if checksum is None else checksum
        #: crc32, sha256 or None.
        self.algorithm = None if chosen == "none" else chosen
        #: The header that carries it, None for none.
        self.header = f"x-amz-checksum-{self.algorithm}" if self.algorithm else None
        trusted = tls and not provider.signs_tls_payloads and self.algorithm is not None
        self._hashes_payload = signed and not trusted
        self._etag_is_md5 = provider.etag_is_md5 if verify_etag else False

    async def seal_apart(self, body: bytes | memoryview) -> Seal:
        """Seal a long body in a thread."""
        return await asyncio.to_thread(self.seal, body)

    def seal(self, body: bytes | memoryview) -> Seal:
        """Seal a body of up to `THREAD_BYTES` here and now."""
        checksum, payload = None, UNSIGNED_PAYLOAD
        if self._hashes_payload or self.algorithm == "sha256":
            digest = sha256(body)
            if self._hashes_payload:
                payload = digest.hexdigest()
            if self.algorithm == "sha256":
                checksum = b64encode(digest.digest()).decode()
        if self.algorithm == "crc32":
            checksum = b64encode(crc32(body).to_bytes(4, "big")).decode()
        known = None if self._etag_is_md5 is False else md5(body, usedforsecurity=False).hexdigest()
        return tuple_of(Seal, (payload, checksum, known))

    def agrees(self, seal: Seal, etag: str | None) -> bool:
        """Whether the ETag is what was to be expected, or nobody expects anything."""
        if seal.md5 is None:
            return True
        if etag is None or etag[1:-1] != seal.md5:
            return False
        self._etag_is_md5 = True
        return True

    def judge(self, seal: Seal, etag: str | None, encryption: str | None, op: str, subject: str) -> None:
        """Decide what it means that the ETag of an acknowledged object does not agree.

        `encryption` is the answer's `x-amz-server-side-encryption`; with a KMS key an ETag says nothing. A provider
        that promises nothing is held to it once an ETag has agreed, and never asked again if the first one does not.

        Raises:
            PayloadCorrupted: the object is not what was sent.
            ConnectionLost: somebody else answered.
        """
        if encryption not in (None, "AES256") or self._etag_is_md5 is None:
            self._etag_is_md5 = False  # with a KMS key, the run's or the bucket's, it is so for every object
        elif self._etag_is_md5 and etag is None:
            raise ConnectionLost(op, subject, "the answer names no ETag, as every one of this server's does")
        elif self._etag_is_md5 and etag is not None and len(etag) == _MD5_ETAG:
            raise PayloadCorrupted(
                op,
                subject,
                f"S3 answered with the ETag {etag}, but the MD5 of what was sent is {seal.md5}",
                "something between here and S3 changes objects; if this server's ETag is not an MD5: --no-verify-etag",
            )
