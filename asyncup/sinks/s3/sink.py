"""The S3 sink: small objects through the lane that fits, large ones in parts through the same lane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import botocore
from botocore.exceptions import ClientError

from asyncup.errors import DestinationRefused
from asyncup.flow.ending import Grace
from asyncup.flow.retry import Retrier
from asyncup.model import Receipt, Streamed, Upload
from asyncup.sinks.s3.client import ControlClient, open_client
from asyncup.sinks.s3.compatible import CompatibleLane
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.integrity import Integrity
from asyncup.sinks.s3.listing import S3Objects
from asyncup.sinks.s3.multipart import Multipart
from asyncup.sinks.s3.providers import provider_of
from asyncup.sinks.s3.removal import Removal
from asyncup.sinks.s3.resolve import Route, WireUnfit, open_wire, route
from asyncup.sinks.s3.settings import S3Settings
from asyncup.sinks.s3.unsent import UnsentClient, UnsentCompatible, UnsentWire
from asyncup.sinks.s3.wire import WireLane

#: What `asyncup init` writes where nobody named a bucket.
_PLACEHOLDER = "BUCKET"


class S3Sink:
    """Puts objects into one bucket. `say` is told, once, what the user should know about the way there."""

    def __init__(
        self,
        settings: S3Settings,
        control: ControlClient,
        retrier: Retrier | None = None,
        say: Callable[[str], None] = lambda _: None,
        grace: Grace | None = None,
    ) -> None:
        self._settings = settings
        self._part_bytes = settings.part_bytes
        self._control = control
        self._retrier = retrier or Retrier.once()
        self._grace = grace or Grace()
        self._say = control.clock.say = say
        self._lane: WireLane | CompatibleLane | None = None
        self._multipart: Multipart
        self._opening = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        settings: S3Settings,
        retrier: Retrier | None = None,
        say: Callable[[str], None] = lambda _: None,
        grace: Grace | None = None,
        *,
        sends: bool = True,
    ) -> S3Sink:
        """Connect nothing yet, but resolve region and endpoint.

        `retrier` tries the parts of large objects again; `grace` is how long they may take to be aborted.
        One that does not send makes and signs every request all the same; only questions reach the bucket.

        Raises:
            DestinationRefused: they cannot be resolved.
            Unreachable: nobody gave credentials in time.
        """
        control = await open_client(settings)
        return cls(settings, control if sends else UnsentClient.over(control), retrier, say, grace)

    @property
    def is_aws(self) -> bool:
        """True where AWS's prices hold, those of buckets for general use: other kinds have prices of their own."""
        bucket = self._settings.bucket
        return self._control.is_aws and not bucket.endswith("--x-s3") and ":s3-outposts:" not in bucket

    @property
    def honours_conditions(self) -> bool | None:
        """Whether `If-None-Match: *` is known to keep a PUT from replacing an object; None when nobody promises it."""
        return provider_of(urlsplit(self._control.endpoint_url).hostname or "").honours_conditions

    @property
    def endpoint_url(self) -> str:
        """Where it talks to, as botocore resolved it."""
        return self._control.endpoint_url

    @property
    def unsent(self) -> int:
        """How many requests that write were made and not sent, since that was asked for."""
        lane = self._lane
        made = self._control.made if isinstance(self._control, UnsentClient) else 0
        return made + (lane.made if isinstance(lane, UnsentWire) else 0)

    async def route(self) -> Route:
        """How objects will travel; nothing is sent. For after `check`, which finds the bucket's region.

        Raises:
            DestinationRefused: no request can be made of the settings and the credentials.
        """
        lane, _ = await self._open_lane()
        await lane.close()
        return await route("wire" if isinstance(lane, WireLane) else "botocore", self._settings, self._control)

    def objects(self, retrier: Retrier) -> S3Objects:
        """What the bucket holds, asked through this sink's client; `retrier` tries the pages of a listing again."""
        return S3Objects(self._settings, self._control, retrier)

    def removal(self, retrier: Retrier) -> Removal:
        """What removes objects of the bucket, asked through this sink's client; `retrier` tries each request again."""
        return Removal(self._settings, self._control, retrier)

    async def check(self) -> None:
        """See `Sink.check`. A refusal to list proves nothing about writing, so only a missing bucket is final."""
        settings, subject = self._settings, f"s3://{self._settings.bucket}"
        try:
            await self._control.head_bucket(settings)
        except ClientError as exc:
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status == 404:
                raise DestinationRefused(
                    "check bucket",
                    subject,
                    f"there is no bucket {settings.bucket} at {self._control.endpoint_url}",
                    "asyncup makes none: check the bucket's name in --to, and --endpoint-url and --region"
                    if settings.bucket != _PLACEHOLDER
                    else f"write your bucket's name in place of {_PLACEHOLDER}",
                ) from exc
            if status not in (400, 401, 403, 405):
                raise from_botocore(exc, "check bucket", subject) from exc
        except Exception as exc:
            raise from_botocore(exc, "check bucket", subject) from exc

    def put(self, upload: Upload) -> Coroutine[Any, Any, Receipt]:
        """See `Sink.put`."""
        if self._lane is None:
            return self._first_put(upload)
        body = upload.body
        is_whole = len(body) < self._part_bytes and body.__class__ is not Streamed  # of which the size may not be known
        return self._lane.put(upload) if is_whole else self._multipart.put(upload)

    async def close(self) -> None:
        """See `Sink.close`."""
        await self.close_lane()
        await self._control.stack.aclose()

    async def close_lane(self) -> None:
        """Close the connections of the uploads, and leave the control client to others that use it."""
        if self._lane is not None:
            await self._lane.close()

    async def _first_put(self, upload: Upload) -> Receipt:
        """Choose the lane, now that the check has shown botocore the bucket's region."""
        async with self._opening:
            if self._lane is None:
                lane, algorithm = await self._open_lane()
                self._multipart = Multipart(
                    self._settings, self._control, lane, algorithm, self._retrier, self._say, self._grace
                )
                self._lane = lane
        return await self.put(upload)

    async def _open_lane(self) -> tuple[WireLane | CompatibleLane, str | None]:
        settings, control = self._settings, self._control
        url = urlsplit(control.endpoint_url)
        is_express = settings.bucket.endswith("--x-s3")  # whose ETags are no MD5
        integrity = Integrity(
            provider_of(url.hostname or ""),
            checksum=settings.checksum,
            tls=url.scheme == "https",
            signed=control.client.meta.config.signature_version is not botocore.UNSIGNED,
            verify_etag=settings.verify_etag and not is_express,
        )
        if settings.s3_client == "wire":
            try:
                kind = UnsentWire if isinstance(control, UnsentClient) else WireLane
                return await open_wire(settings, control, integrity, kind), integrity.algorithm
            except WireUnfit as why:
                self._say(f"uploads go through botocore's client, which is slower: {why}")
        compatible = UnsentCompatible if isinstance(control, UnsentClient) else CompatibleLane
        return compatible(settings, control, integrity), integrity.algorithm
