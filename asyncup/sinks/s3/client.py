"""The control client: an aiobotocore client that does exactly one attempt per call.

botocore finds credentials, region and endpoint, as every AWS tool does. What it would do behind our back is off:
its own retries, checksums that other providers refuse, chunked bodies, `Expect: 100-continue`, which costs a round trip
for every object, and following a redirect, after which a success says nothing about the object.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import AsyncExitStack
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import botocore
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore import handlers
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.httpsession import get_cert_path
from botocore.loaders import create_loader

from asyncup.errors import AsyncupError, DestinationRefused
from asyncup.sinks.s3.clock import ServerClock
from asyncup.sinks.s3.errors import EXPIRED, SKEWED, from_botocore
from asyncup.sinks.s3.finding import Turn, find_again, in_a_thread, not_in_time, open_session
from asyncup.sinks.s3.providers import AWS, provider_of
from asyncup.sinks.s3.requestlog import RequestLog
from asyncup.sinks.s3.settings import S3Settings
from asyncup.sinks.s3.signing import Credentials

#: A region for servers that have none; requests to them must be signed with one all the same.
FALLBACK_REGION = "us-east-1"
CONNECT_TIMEOUT = 10.0


class ControlClient:
    """A client, what closes it, and where it talks to. `authorities` is the file of those that TLS trusts.

    `patience` is how many seconds credentials may take to be found.
    """

    def __init__(
        self, client: Any, profile: str | None, stack: AsyncExitStack, authorities: str, patience: float
    ) -> None:
        self.client = client
        self.stack = stack
        self.endpoint_url: str = client.meta.endpoint_url
        self.authorities = authorities
        self.clock = ServerClock()
        self.clock.govern(client.meta.events)
        self._profile = profile
        self._patience = patience
        self.told: RequestLog | None = None
        self._refused: Credentials | None = None
        self._renewing = Turn()

    @property
    def is_aws(self) -> bool:
        return provider_of(urlsplit(self.endpoint_url).hostname or "") is AWS

    async def call(self, operation: str, patience: float, **given: Any) -> Any:
        """One request, in so many seconds.

        Credentials that S3 called expired are renewed before the next one, and a clock that is wrong is corrected.

        Raises:
            ClientError: S3's refusal; and whatever botocore and the network raise.
            DestinationRefused, Unreachable: credentials cannot be had.
        """
        used = await self.credentials(self._refused)
        try:
            async with asyncio.timeout(patience):
                return await getattr(self.client, operation)(**given)
        except ClientError as exc:
            code = exc.response.get("Error", {}).get("Code")
            if code in EXPIRED:
                self._refused = used
            elif code in SKEWED:
                self.clock.learn(exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date"))
            raise
        except Exception as exc:
            if self.told is not None:
                self.told.unanswered(exc)
            raise

    async def head_bucket(self, settings: S3Settings) -> None:
        """Ask for the bucket. botocore follows a redirect to its region, and knows that from then on.

        Raises:
            ClientError: S3's refusal; and whatever botocore and the network raise.
        """
        owner = {"ExpectedBucketOwner": settings.expected_bucket_owner} if settings.expected_bucket_owner else {}
        # a redirect that leads nowhere is followed for ever
        async with asyncio.timeout(min(settings.attempt_timeout, 10.0)):
            await self.client.head_bucket(Bucket=settings.bucket, **owner)

    async def credentials(self, refused: Credentials | None = None) -> Credentials | None:
        """The current credentials, renewed when that is due, or None when requests go without.

        botocore keeps what it has until a moment that it was told beforehand. `refused` are credentials that S3 would
        not take any more: as long as they are the current ones they are looked for anew, as at the start of a run, by
        the first one who asks; the others wait for what it finds.

        Raises:
            DestinationRefused: they cannot be had.
            Unreachable: nobody gave them in time.
        """
        if self.client.meta.config.signature_version is botocore.UNSIGNED:
            return None
        signer = self.client._request_signer  # noqa: SLF001 - whose credentials no other way can change
        try:
            if refused is None:
                return await self._current(signer)
            async with self._renewing.taken():
                return await self._look_again(signer, refused)
        except TimeoutError as exc:
            raise not_in_time(self.endpoint_url, self._patience) from exc
        except AsyncupError:
            raise
        except Exception as exc:  # programs and files that credentials come from can fail in every way
            raise _without_credentials(exc, self.endpoint_url) from exc

    async def _current(self, signer: Any) -> Credentials:
        async with asyncio.timeout(self._patience):
            return await _frozen(signer._credentials)  # noqa: SLF001

    async def _look_again(self, signer: Any, refused: Credentials) -> Credentials:
        try:
            if await self._current(signer) == refused:
                found = await in_a_thread(find_again(self._profile), self._patience)
                signer._credentials = found or signer._credentials  # noqa: SLF001
            return await self._current(signer)
        except TimeoutError as exc:
            raise not_in_time(self.endpoint_url, self._patience) from exc


async def _frozen(found: Any) -> Credentials:
    if found is None:
        raise NoCredentialsError
    frozen = await found.get_frozen_credentials()
    return Credentials(frozen.access_key or "", frozen.secret_key or "", frozen.token)


def _without_credentials(exc: Exception, subject: str) -> AsyncupError:
    if isinstance(exc, (BotoCoreError, ClientError, OSError)):
        return from_botocore(exc, "find credentials", subject)
    reason = f"{exc.__class__.__name__}: {exc}"
    return DestinationRefused("find credentials", subject, reason, "check the profile that they come from")


class _PlainSession(AIOHTTPSession):  # type: ignore[misc, unused-ignore]  # stubs may be there or not
    """Hands redirects to botocore as answers. aiohttp would follow them, a 303 even with a GET."""

    async def _get_session(self, proxy_url: str | None) -> SimpleNamespace:
        session = await super()._get_session(proxy_url)  # type: ignore[misc, unused-ignore]
        return SimpleNamespace(request=partial(session.request, allow_redirects=False, middlewares=(_once,)))


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a conditional request once, whatever becomes of its connection.

    aiohttp sends a PUT again when a connection of its pool turns out to be closed. The answer to the second one would
    hide that the first one was carried out, so for these the error is made one that aiohttp does not mend.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        if "If-None-Match" not in request.headers:
            raise
        raise aiohttp.ClientPayloadError(str(exc)) from exc


async def open_client(settings: S3Settings) -> ControlClient:
    """Make a client.

    Raises:
        DestinationRefused: the settings, the profile or the credentials are of no use.
        Unreachable: nobody gave credentials in time.
    """
    place = f"s3://{settings.bucket}"
    try:
        session, region, authorities = await asyncio.to_thread(_session, settings)
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
        access_key, secret_key = settings.keys or (None, None)
        context = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=settings.endpoint_url,
            verify=authorities,
            config=config,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )
        # credentials and service descriptions are read from files here, and programs are run: all that in a thread, on
        # a loop of its own; the client makes its connections with the first request, on the loop of the caller
        client: Any = await in_a_thread(context.__aenter__(), settings.attempt_timeout)
    except TimeoutError as exc:
        raise not_in_time(place, settings.attempt_timeout) from exc
    except (BotoCoreError, ClientError) as exc:
        raise from_botocore(exc, "connect", place) from exc
    except ValueError as exc:
        url = settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL") or ""
        whole = "://" in url or not url
        hint = "check --endpoint-url, --region and --profile" if whole else f"write --endpoint-url as https://{url}"
        raise DestinationRefused("connect", place, str(exc), hint) from exc
    except OSError as exc:
        raise DestinationRefused("find credentials", place, str(exc), "check --profile and ~/.aws/config") from exc
    stack = AsyncExitStack()
    stack.push_async_exit(context)
    if settings.bucket.startswith("arn:") and provider_of(urlsplit(client.meta.endpoint_url).hostname or "") is not AWS:
        await stack.aclose()
        raise DestinationRefused(
            "connect",
            settings.bucket,
            f"an access point is AWS's, and the endpoint is {client.meta.endpoint_url}",
            "leave --endpoint-url and AWS_ENDPOINT_URL out, or name a bucket",
        )
    if urlsplit(client.meta.endpoint_url).username is not None:  # it would be kept in checkpoints, password and all
        await stack.aclose()
        raise DestinationRefused("connect", place, "the endpoint has a user name", "leave it out of --endpoint-url")
    client.meta.events.unregister("before-call.s3", handlers.add_expect_header)
    control = ControlClient(client, settings.profile, stack, authorities, settings.attempt_timeout)
    control.told = RequestLog.open(settings.bucket)
    if control.told is not None:
        control.told.watch(client.meta.events)
    return control


def _session(settings: S3Settings) -> tuple[AioSession, str, str]:
    """A session, its region, and the file of the authorities that it trusts.

    botocore does not know AWS_REGION, which the other tools of AWS look at first.

    Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
    """
    session = open_session(settings.profile)
    session.register_component("data_loader", _descriptions(session.get_config_variable("data_path")))
    region = settings.region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if settings.ca_bundle is not None:
        _check_authorities(settings.ca_bundle)
    authorities = settings.ca_bundle or session.get_config_variable("ca_bundle") or _system_authorities()
    return session, region or FALLBACK_REGION, authorities


@cache
def _descriptions(folders: str | None) -> Any:
    """Service descriptions, megabytes of JSON, which are the same for every client of this process."""
    return create_loader(folders)


def _check_authorities(file: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except (ssl.SSLError, OSError) as exc:
        reason = f"{file} holds no certificates that TLS could trust: {exc}"
        raise DestinationRefused("connect", "--ca-bundle", reason, "give a file of certificates in PEM form") from exc


def _system_authorities() -> str:
    """The file of the authorities that this system trusts, or the one that botocore brings where there is none."""
    found = ssl.get_default_verify_paths().cafile
    return found if found is not None else str(get_cert_path(True))
