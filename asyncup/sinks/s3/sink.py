"""Objects in S3 through botocore's client: every feature, one attempt per call."""

from __future__ import annotations

import asyncio
from typing import Any

from botocore.exceptions import ClientError

from asyncup.errors import ConnectionLost, DestinationRefused
from asyncup.model import Receipt, Upload
from asyncup.sinks.s3.client import ControlClient, S3Settings, open_client
from asyncup.sinks.s3.errors import from_botocore

#: An attempt has this long for each MiB of its body beyond `--attempt-timeout`, so that large objects can pass.
SECONDS_PER_MIB = 1.0


class S3Sink:
    """Puts objects into one bucket."""

    def __init__(self, settings: S3Settings, control: ControlClient) -> None:
        self._bucket = settings.bucket
        self._timeout = settings.attempt_timeout
        self._control = control
        self._put_object = control.client.put_object
        self._accepted = False

    @classmethod
    async def open(cls, settings: S3Settings) -> S3Sink:
        """Connect nothing yet, but resolve region, endpoint and credentials.

        Raises:
            DestinationRefused: they cannot be resolved.
        """
        return cls(settings, await open_client(settings))

    @property
    def is_aws(self) -> bool:
        """True where AWS's prices hold."""
        return self._control.is_aws

    @property
    def endpoint_url(self) -> str:
        """Where it talks to, as botocore resolved it."""
        return self._control.endpoint_url

    async def check(self) -> None:
        """See `Sink.check`. A refusal to list proves nothing about writing, so only a missing bucket is final."""
        subject = f"s3://{self._bucket}"
        try:
            async with asyncio.timeout(min(self._timeout, 10.0)):
                await self._control.client.head_bucket(Bucket=self._bucket)
        except ClientError as exc:
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status == 404:
                raise DestinationRefused(
                    "check bucket",
                    subject,
                    f"there is no bucket {self._bucket} at {self._control.endpoint_url}",
                    "check the bucket's name in --to, and --endpoint-url and --region",
                ) from exc
            if status in (400, 401, 403, 405):
                return
            raise from_botocore(exc, "check bucket", subject) from exc
        except Exception as exc:
            raise from_botocore(exc, "check bucket", subject) from exc

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        arguments: dict[str, Any] = {"Bucket": self._bucket, "Key": upload.key, "Body": upload.body}
        for name, value in upload.headers:
            arguments[_ARGUMENTS[name]] = value
        size = len(upload.body)
        try:
            async with asyncio.timeout(self._timeout + size / (1 << 20) * SECONDS_PER_MIB):
                answer = await self._put_object(**arguments)
        except Exception as exc:  # botocore lets some errors of aiohttp and of the network through as they are
            raise from_botocore(exc, "put", upload.key, accepted=self._accepted) from exc
        metadata = answer.get("ResponseMetadata", {})
        # S3 names an ETag and sends no body; a 200 with another body comes from something in between
        empty = metadata.get("HTTPHeaders", {}).get("content-length") == "0"
        if metadata.get("HTTPStatusCode") != 200 or not (answer.get("ETag") or empty):
            raise ConnectionLost("put", upload.key, "the answer does not say that the object is stored")
        self._accepted = True
        return Receipt(upload.key, size, answer.get("ETag"))

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._control.stack.aclose()


_ARGUMENTS = {"content-type": "ContentType"}
