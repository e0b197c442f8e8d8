"""Removes objects, many with a request where the server knows how to.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from asyncup.errors import AsyncupError
from asyncup.flow.retry import Retrier
from asyncup.sinks.s3.client import ControlClient
from asyncup.sinks.s3.compatible import arguments
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.settings import S3Settings

#: Keys that one request may name.
TOGETHER = 1_000
_OP = "remove"


class Removal:
    """Removes objects of one bucket; `retrier` tries each request again."""

    def __init__(self, settings: S3Settings, control: ControlClient, retrier: Retrier) -> None:
        self._settings = settings
        self._control = control
        self._retrier = retrier
        self._always = {"Bucket": settings.bucket, **arguments(settings.request_headers())}
        self._takes_many = True

    async def remove(self, keys: Sequence[str], on_removed: Callable[[int], object] = lambda _: None) -> None:
        """Remove the objects of these keys; those that are not there are no error. `on_removed` is told how many are, by and by.

        Raises:
            AsyncupError: one could not be.
        """
        for start in range(0, len(keys), TOGETHER):
            some = left = keys[start : start + TOGETHER]
            if self._takes_many:
                left = await self._retrier.run(self._many, some)
            for key in left:  # which says why, where it cannot be
                await self._retrier.run(self._one, key)
            on_removed(start + len(some))

    async def _many(self, keys: Sequence[str]) -> Sequence[str]:
        """The keys that are left to be removed one by one: all of them where the server does not know how to remove many."""
        asked = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        try:
            answer = await self._call("delete_objects", keys[0], Delete=asked)
        except AsyncupError as error:
            if isinstance(error.__cause__, ClientError) and _status(error.__cause__) in (400, 405, 411, 501):
                self._takes_many = False  # it wants another checksum, or knows of no such thing
                return keys
            raise
        return [fault["Key"] for fault in answer.get("Errors", ())]

    async def _one(self, key: str) -> None:
        await self._call("delete_object", key, Key=key)

    async def _call(self, operation: str, key: str, **given: Any) -> Any:
        subject = f"s3://{self._settings.bucket}/{key}"
        try:
            return await self._control.call(operation, self._settings.attempt_timeout, **self._always, **given)
        except AsyncupError:
            raise
        except Exception as exc:
            raise from_botocore(exc, _OP, subject) from exc


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
