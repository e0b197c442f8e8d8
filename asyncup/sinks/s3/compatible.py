"""The compatible lane: PUTs through botocore's client, for whatever the wire lane cannot reach. One attempt per call."""

from __future__ import annotations

from typing import Any

from asyncup.errors import AsyncupError, ConnectionLost
from asyncup.model import Headers, Receipt, Upload
from asyncup.sinks.s3.client import ControlClient
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.integrity import THREAD_BYTES, Integrity, Seal
from asyncup.sinks.s3.settings import S3Settings

_METADATA = "x-amz-meta-"
#: botocore's names for request headers.
_ARGUMENTS = {
    "cache-control": "CacheControl",
    "content-disposition": "ContentDisposition",
    "content-encoding": "ContentEncoding",
    "content-language": "ContentLanguage",
    "content-type": "ContentType",
    "if-none-match": "IfNoneMatch",
    "x-amz-acl": "ACL",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-checksum-sha256": "ChecksumSHA256",
    "x-amz-expected-bucket-owner": "ExpectedBucketOwner",
    "x-amz-request-payer": "RequestPayer",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
    "x-amz-storage-class": "StorageClass",
    "x-amz-tagging": "Tagging",
}


def arguments(*groups: Headers) -> dict[str, Any]:
    """Request headers as arguments of botocore's operations."""
    found: dict[str, Any] = {}
    for name, value in (pair for group in groups for pair in group):
        if name.startswith(_METADATA):
            found.setdefault("Metadata", {})[name.removeprefix(_METADATA)] = value
        else:
            found[_ARGUMENTS[name]] = value
    return found


class CompatibleLane:
    """PUTs into one bucket through botocore."""

    def __init__(self, settings: S3Settings, control: ControlClient, integrity: Integrity) -> None:
        self._settings = settings
        self._control = control
        self._integrity = integrity
        #: Whether the destination has taken an object; from then on a refusal is the row's.
        self.accepted = False

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        body: bytes  # a streamed one goes in parts
        key, body, size = upload.key, upload.body, len(upload.body)  # type: ignore[assignment]
        given = arguments(self._settings.object_headers(), upload.headers)
        answer, seal = await self._send("put", "put_object", key, body, given)
        etag = answer.get("ETag")
        # S3 names an ETag and sends no body; a 200 with another body comes from something in between
        if not (etag or answer["ResponseMetadata"].get("HTTPHeaders", {}).get("content-length") == "0"):
            raise _not_stored("put", key)
        self._check(seal, etag, answer, "put", key)
        self.accepted = True
        return Receipt(key, size, etag)

    async def put_part(self, key: str, upload_id: str, number: int, body: memoryview) -> tuple[str, str | None]:
        """Store one part of a multipart upload; its ETag and its checksum.

        Raises:
            AsyncupError: as for `put`.
        """
        given = {"UploadId": upload_id, "PartNumber": number}
        # botocore takes no memoryview; the copy is a part's, and lasts as long as its request; of a streamed body a part
        # has its bytes to itself
        whole = body.obj if isinstance(body.obj, bytes) and len(body.obj) == len(body) else bytes(body)
        answer, seal = await self._send("put part", "upload_part", key, whole, given)
        etag = answer.get("ETag")
        if not etag:
            raise _not_stored("put part", key)
        self._check(seal, etag, answer, "put part", key)
        return etag, seal.checksum

    async def close(self) -> None:
        """Nothing is this lane's own."""

    async def _send(
        self, op: str, operation: str, key: str, body: bytes, given: dict[str, Any]
    ) -> tuple[dict[str, Any], Seal]:
        settings, integrity = self._settings, self._integrity
        seal = await integrity.seal_apart(body) if len(body) > THREAD_BYTES else integrity.seal(body)
        given |= arguments(settings.request_headers())
        if integrity.header is not None and seal.checksum is not None:
            given |= arguments(((integrity.header, seal.checksum),))
        try:
            answer = await self._control.call(
                operation, settings.patience(len(body)), Bucket=settings.bucket, Key=key, Body=body, **given
            )
        except AsyncupError:
            raise
        except Exception as exc:  # botocore lets some errors of aiohttp and of the network through as they are
            raise from_botocore(exc, op, key, accepted=self.accepted) from exc
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") != 200:
            raise _not_stored(op, key)
        return answer, seal

    def _check(self, seal: Seal, etag: str | None, answer: dict[str, Any], op: str, key: str) -> None:
        if not self._integrity.agrees(seal, etag):
            self._integrity.judge(seal, etag, answer.get("ServerSideEncryption"), op, key)


def _not_stored(op: str, key: str) -> ConnectionLost:
    return ConnectionLost(op, key, "the answer does not say that the object is stored")
