"""Small JSON documents in a bucket, read and written by the control client: state that is kept in S3.

Writes can be conditional (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). One call is one
attempt; what is refused here is refused to the state, not to rows, and its messages say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from asyncup.errors import ConfigError, Disposition, RowRefused, StateRefused
from asyncup.model import Document
from asyncup.sinks.s3.client import ControlClient, open_client
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.settings import S3Settings

R = TypeVar("R")

#: Seconds for one request: what is sent and read is a few kilobytes, or a thousand dead letters.
_PATIENCE = 10.0
#: More than any document of ours has.
_LARGEST = 64 << 20
_HINTS = {
    403: "the credentials need s3:GetObject, s3:PutObject and s3:DeleteObject below {place}, and s3:ListBucket on its bucket",
    404: "check the bucket's name in --state, and --endpoint-url and --region",
}


class S3Documents:
    """The documents of one bucket. `prefix` is only for messages."""

    def __init__(self, settings: S3Settings, control: ControlClient, prefix: str) -> None:
        self._settings = settings
        self._control = control
        self._place = f"s3://{settings.bucket}/{prefix}".rstrip("/")
        self._is_conditional = True

    @classmethod
    async def open(cls, settings: S3Settings, prefix: str) -> S3Documents:
        """Find credentials and the endpoint; nothing is asked of the bucket yet.

        Raises:
            DestinationRefused: they cannot be had.
        """
        return cls(settings, await open_client(settings), prefix)

    async def get(self, key: str) -> Document | None:
        """The document, or None when there is none."""

        async def work() -> Document | None:
            try:
                found = await self._call("get_object", Key=key)
            except ClientError as exc:
                if _code(exc) == "NoSuchKey" or (_status(exc) == 404 and _code(exc) in ("404", "")):
                    return None
                raise
            async with found["Body"] as body:
                if found["ContentLength"] > _LARGEST:
                    reason = f"it has {found['ContentLength']:,} bytes, so it is nothing that asyncup keeps"
                    raise StateRefused("read state", f"s3://{self._settings.bucket}/{key}", reason)
                content = await body.read()
            date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
            return Document(content, found["ETag"], _seconds(found.get("LastModified")), _seconds(date))

        return await self._attempt(work, "read state", key)

    async def put(self, key: str, content: bytes, *, etag: str | None = None, new: bool = False) -> str | None:
        """Write the document; its ETag, or None when another version is there than the condition allows."""
        given: dict[str, Any] = {"Key": key, "Body": content, "ContentType": "application/json"}
        settings = self._settings
        if settings.sse is not None:
            given["ServerSideEncryption"] = settings.sse
        if settings.sse_kms_key_id is not None:
            given["SSEKMSKeyId"] = settings.sse_kms_key_id
        condition = {"IfMatch": etag} if etag is not None else {"IfNoneMatch": "*"} if new else {}

        async def work() -> str | None:
            try:
                answer = await self._call("put_object", **given, **(condition if self._is_conditional else {}))
            except ClientError as exc:
                if condition and _code(exc) == "NotImplemented":
                    self._is_conditional = False
                    answer = await self._call("put_object", **given)
                elif condition and (_status(exc) == 412 or _code(exc) == "NoSuchKey"):
                    return None
                else:
                    raise
            return str(answer["ETag"])

        return await self._attempt(work, "write state", key)

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Remove the document, or leave it alone where it is another version than that of `etag`."""
        condition = {} if etag is None or not self._is_conditional else {"IfMatch": etag}

        async def work() -> None:
            try:
                await self._call("delete_object", Key=key, **condition)
            except ClientError as exc:
                if _status(exc) not in (404, 412):
                    raise

        await self._attempt(work, "remove state", key)

    async def keys(self, prefix: str) -> AsyncGenerator[str, None]:
        """The keys that begin with `prefix` and have no slash behind it."""
        given: dict[str, Any] = {"Prefix": prefix, "Delimiter": "/"}
        while True:

            async def work() -> Any:
                return await self._call("list_objects_v2", **given)

            page = await self._attempt(work, "list state", prefix)
            for entry in page.get("Contents", ()):
                yield entry["Key"]
            if not page.get("IsTruncated"):
                return
            given["ContinuationToken"] = page["NextContinuationToken"]

    async def close(self) -> None:
        """Close the client. Never raises."""
        await self._control.stack.aclose()

    async def _call(self, operation: str, **given: Any) -> Any:
        settings = self._settings
        if settings.expected_bucket_owner is not None:
            given["ExpectedBucketOwner"] = settings.expected_bucket_owner
        if settings.request_payer is not None:
            given["RequestPayer"] = settings.request_payer
        return await self._control.call(operation, _PATIENCE, Bucket=settings.bucket, **given)

    async def _attempt(self, work: Callable[[], Awaitable[R]], op: str, key: str) -> R:
        subject = f"s3://{self._settings.bucket}/{key}"
        try:
            async with asyncio.timeout(_PATIENCE):
                return await work()
        except ConfigError:
            raise
        except Exception as exc:
            error = from_botocore(exc, op, subject)
            if error.disposition is Disposition.RETRY or not isinstance(error, (ConfigError, RowRefused)):
                raise error from exc
            hint = _HINTS.get(_status(exc)) if isinstance(exc, ClientError) else None
            hint = hint.format(place=self._place) if hint is not None else error.hint
            raise StateRefused(error.op, subject, error.message, hint) from exc


def _code(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code") or "")


def _status(exc: ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _seconds(moment: Any) -> float | None:
    """Seconds since 1970 of what botocore has parsed already, or of a date as HTTP writes it (RFC 9110, section 5.6.7)."""
    if isinstance(moment, str):
        try:
            moment = parsedate_to_datetime(moment)
        except ValueError:
            return None
    return moment.timestamp() if isinstance(moment, datetime) else None
