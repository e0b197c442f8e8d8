"""A sink that a user could write: boto3, which blocks, behind `put(upload)`. Its settings are those of the environment."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config

from asyncup.sinks.largebody import LargeBody

#: The headers that the renderer makes, as boto3 calls them.
NAMES = {"content-type": "ContentType", "cache-control": "CacheControl", "x-amz-tagging": "Tagging"}


class BotoSink:
    """Puts objects into a bucket. boto3 repeats nothing: asyncup does."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        settings = Config(
            retries={"total_max_attempts": 1}, max_pool_connections=32, request_checksum_calculation="when_required"
        )
        self._client = boto3.client("s3", config=settings)

    def check(self) -> None:
        """See `Target`."""
        self._client.head_bucket(Bucket=self._bucket)

    def put(self, upload: Any) -> str | None:
        """See `Target`."""
        said = {NAMES[name]: value for name, value in upload.headers if name in NAMES}
        if isinstance(upload.body, LargeBody):
            self._client.upload_fileobj(upload.body, self._bucket, upload.key, ExtraArgs=said)
            return None
        answer = self._client.put_object(Bucket=self._bucket, Key=upload.key, Body=upload.body, **said)
        return str(answer["ETag"])

    def close(self) -> None:
        """See `Target`."""
        self._client.close()


def factory() -> BotoSink:
    """For `--to python:tests.boto_sink:factory/…`."""
    return BotoSink(os.environ["BUCKET"])
