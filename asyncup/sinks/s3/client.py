"""The control lane: an aiobotocore client that does exactly one attempt per call.

botocore finds credentials, region and endpoint, as every AWS tool does. What it would do behind our back is off:
its own retries, checksums that other providers refuse, chunked bodies, `Expect: 100-continue`, which costs a round trip
for every object, and following a redirect, after which a success says nothing about the object.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import botocore
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore import handlers
from botocore.exceptions import BotoCoreError, ClientError

from asyncup.errors import DestinationRefused
from asyncup.sinks.s3.errors import from_botocore

#: A region for servers that have none; requests to them must be signed with one all the same.
FALLBACK_REGION = "us-east-1"
CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach S3; None leaves the choice to botocore. `attempt_timeout` in seconds."""

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: str = "auto"
    ca_bundle: str | None = None
    no_sign_request: bool = False
    connections: int = 64
    attempt_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class ControlClient:
    """A client, what closes it, and where it talks to."""

    client: Any
    stack: AsyncExitStack
    endpoint_url: str
    region: str

    @property
    def is_aws(self) -> bool:
        return ".amazonaws.com" in self.endpoint_url


class _PlainSession(AIOHTTPSession):  # type: ignore[misc, unused-ignore]  # stubs may be there or not
    """Hands redirects to botocore as answers. aiohttp would follow them, a 303 even with a GET."""

    async def _get_session(self, proxy_url: str | None) -> SimpleNamespace:
        session = await super()._get_session(proxy_url)  # type: ignore[misc, unused-ignore]
        return SimpleNamespace(request=partial(session.request, allow_redirects=False))


async def open_client(settings: S3Settings) -> ControlClient:
    """Make a client.

    Raises:
        DestinationRefused: the settings, the profile or the credentials are of no use.
    """
    place = f"s3://{settings.bucket}"
    try:
        session, region = await asyncio.to_thread(_session, settings)
        config = AioConfig(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=settings.attempt_timeout,
            max_pool_connections=settings.connections,
            retries={"mode": "standard", "total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            signature_version=botocore.UNSIGNED if settings.no_sign_request else None,
            s3={"addressing_style": settings.addressing},
            connector_args={"keepalive_timeout": 4},
            http_session_cls=_PlainSession,
        )
        context = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=settings.endpoint_url,
            verify=settings.ca_bundle,
            config=config,
        )
        # credentials and service descriptions are read from files here, and programs are run: all that in a thread, on
        # a loop of its own; the client makes its connections with the first request, on the loop of the caller
        client: Any = await asyncio.to_thread(asyncio.run, context.__aenter__())
    except (BotoCoreError, ClientError) as exc:
        raise from_botocore(exc, "connect", place) from exc
    except ValueError as exc:
        raise DestinationRefused("connect", place, str(exc), "check --endpoint-url, --region and --profile") from exc
    except OSError as exc:
        raise DestinationRefused("find credentials", place, str(exc), "check --profile and ~/.aws/config") from exc
    stack = AsyncExitStack()
    stack.push_async_exit(context)
    client.meta.events.unregister("before-call.s3", handlers.add_expect_header)
    return ControlClient(client, stack, client.meta.endpoint_url, region)


def _session(settings: S3Settings) -> tuple[AioSession, str]:
    """A session and its region. botocore does not know AWS_REGION, which the other tools of AWS look at first.

    Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    """
    session = AioSession(profile=settings.profile)
    region = settings.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    return session, region or FALLBACK_REGION
