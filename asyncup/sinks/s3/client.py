"""The control lane: an aiobotocore client that does exactly one attempt per call.

botocore finds credentials, region and endpoint, as every AWS tool does. What it would do behind our back is off:
its own retries, checksums that other providers refuse, chunked bodies, and `Expect: 100-continue`, which costs a
round trip for every object.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import botocore
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import handlers
from botocore.exceptions import BotoCoreError

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


async def open_client(settings: S3Settings) -> ControlClient:
    """Make a client.

    Raises:
        DestinationRefused: the settings, the profile or the credentials are of no use.
    """
    try:
        session = await asyncio.to_thread(_session, settings)
        region = settings.region or session.get_config_variable("region")
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
        )
        stack = AsyncExitStack()
        client = await stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=region or FALLBACK_REGION,
                endpoint_url=settings.endpoint_url,
                verify=settings.ca_bundle,
                config=config,
            )
        )
    except (BotoCoreError, ValueError) as exc:
        raise from_botocore(exc, "connect", f"s3://{settings.bucket}") from exc
    client.meta.events.unregister("before-call.s3", handlers.add_expect_header)
    return ControlClient(client, stack, client.meta.endpoint_url, region or FALLBACK_REGION)


def _session(settings: S3Settings) -> AioSession:
    """A session whose service description is in memory, so that nothing is read from disk on the event loop."""
    session = AioSession(profile=settings.profile)
    loader = session.get_component("data_loader")
    loader.load_service_model("s3", "service-2")
    loader.load_service_model("s3", "endpoint-rule-set-1")
    loader.load_data("endpoints")
    loader.load_data("partitions")
    loader.load_data("sdk-default-configuration")
    return session
