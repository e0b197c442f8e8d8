"""Which lane a run's PUTs take, and where to: botocore is asked for one PUT, which is looked at and never sent.

So whatever botocore resolves holds for the wire lane too: endpoints from flags, environment and profiles, addressing
styles, dual-stack and FIPS endpoints, regions that a bucket redirected to.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from botocore.utils import get_environ_proxies

from asyncup.errors import DestinationRefused
from asyncup.sinks.s3.client import ControlClient
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.finding import not_in_time
from asyncup.sinks.s3.framing import Place
from asyncup.sinks.s3.integrity import Integrity
from asyncup.sinks.s3.pool import Origin
from asyncup.sinks.s3.settings import S3Settings
from asyncup.sinks.s3.wire import Location, WireLane

#: A key that needs no encoding.
_KEY = "asyncup"
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/\d{8}/([^/]+)/s3/aws4_request,").match
_REGION = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/\d{8}/([^/]+)/").match


class WireUnfit(Exception):
    """The wire lane cannot serve this run; the text says why."""


class Seen(Exception):
    """Ends a request before it is sent."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


async def open_wire(
    settings: S3Settings, control: ControlClient, integrity: Integrity, lane: type[WireLane] = WireLane
) -> WireLane:
    """A wire lane to where botocore would send a PUT; `lane` is which kind of it.

    Raises:
        WireUnfit: it takes botocore itself to do that.
        DestinationRefused: botocore would not send it at all.
    """
    bucket = settings.bucket
    if bucket.startswith("arn:"):
        raise WireUnfit("the destination is an access point's ARN")
    if bucket.endswith("--x-s3"):
        raise WireUnfit("the bucket is an S3 Express bucket, whose requests are signed for sessions of its own")

    async def locate_again() -> Location:
        await _ask_for_bucket(settings, control)
        try:
            return await _locate(settings, control)
        except WireUnfit as why:
            raise DestinationRefused(
                "put",
                f"s3://{bucket}",
                f"the bucket lives elsewhere: {why}",
                "give its --region, or --s3-client botocore",
            ) from None

    location = await _locate(settings, control)
    return lane(settings, location, integrity, control.credentials, locate_again, control.clock)


@dataclass(frozen=True, slots=True)
class Route:
    """How objects travel: through which lane, to which URL, signed for which region (None where nothing is signed)."""

    lane: str
    url: str
    region: str | None
    addressing: str


async def route(lane: str, settings: S3Settings, control: ControlClient) -> Route:
    """Where botocore would send a PUT; nothing is sent.

    Raises:
        DestinationRefused: it would not send it at all.
    """
    request = await _pattern(settings, control)
    authorization = request.headers.get("Authorization")
    if isinstance(authorization, bytes):
        authorization = authorization.decode("latin-1")
    scope = _REGION(authorization) if authorization else None
    url = str(request.url).removesuffix(_KEY)
    in_path = (urlsplit(url).path.strip("/") or None) is not None
    return Route(lane, url, scope[1] if scope else None, "path" if in_path else "virtual")


async def _locate(settings: S3Settings, control: ControlClient) -> Location:
    request = await _pattern(settings, control)
    url = urlsplit(request.url)
    if url.scheme in get_environ_proxies(request.url):
        raise WireUnfit(f"the environment names a proxy for {url.scheme}")
    authorization = request.headers.get("Authorization")
    if isinstance(authorization, bytes):
        authorization = authorization.decode("latin-1")
    scope = _SCOPE(authorization) if authorization else None
    if authorization and scope is None:
        raise WireUnfit("requests to this destination take another signature than AWS4-HMAC-SHA256")
    try:
        tls = await asyncio.to_thread(_trust, control.authorities) if url.scheme == "https" else None
    except OSError as exc:
        raise DestinationRefused(
            "connect", f"s3://{settings.bucket}", f"TLS failed: {control.authorities}: {exc}", "check --ca-bundle"
        ) from exc
    return Location(
        Place(url.netloc, url.path.removesuffix(_KEY)),
        Origin(url.hostname or "", url.port or (443 if tls is not None else 80), tls),
        scope[1] if scope is not None else "",
    )


async def _ask_for_bucket(settings: S3Settings, control: ControlClient) -> None:
    try:
        await control.head_bucket(settings)
    except ClientError:
        return  # the next PUT will say what is wrong
    except Exception as exc:
        raise from_botocore(exc, "find bucket", f"s3://{settings.bucket}") from exc


async def _pattern(settings: S3Settings, control: ControlClient) -> Any:
    """The request with which botocore would put an object."""

    def look(request: Any, **_: Any) -> None:
        raise Seen(request)

    events = control.client.meta.events
    events.register("before-send.s3.PutObject", look)
    try:
        async with asyncio.timeout(settings.attempt_timeout):
            await control.client.put_object(Bucket=settings.bucket, Key=_KEY, Body=b"")
    except Seen as seen:
        return seen.request
    except TimeoutError as exc:  # nothing is sent, so it waited for credentials
        raise not_in_time(f"s3://{settings.bucket}", settings.attempt_timeout) from exc
    except Exception as exc:
        raise from_botocore(exc, "put", f"s3://{settings.bucket}") from exc
    finally:
        events.unregister("before-send.s3.PutObject", look)
    raise AssertionError("botocore sent a request that it was to show")


def _trust(authorities: str) -> ssl.SSLContext:
    """A context that checks certificates and host names, and takes TLS 1.2 and 1.3."""
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
