"""What a bucket holds: listed page by page, looked at, and compared with what a row comes to. Nothing here writes.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html. A page of 1,000 objects takes botocore
75 ms to parse, most of it for dates that nobody looks at, on the event loop; so its entries are taken out before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from botocore.exceptions import ClientError

from asyncup.errors import AsyncupError, ConnectionLost, DestinationRefused, ObjectMissing
from asyncup.flow.retry import Retrier
from asyncup.model import Likeness, Listed, Upload
from asyncup.sinks.s3.client import ControlClient
from asyncup.sinks.s3.compatible import arguments
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.etags import agrees_by_checksum, expected_etag
from asyncup.sinks.s3.integrity import THREAD_BYTES
from asyncup.sinks.s3.settings import S3Settings

#: Bytes of an object that are compared at a time.
_CHUNK = 256 << 10
_LIST = "list"
#: Statuses that may mean several things, and an answer to HEAD has no body that could say which.
_MUTE = frozenset({400, 403})
#: What is said to requests that are not permitted.
_DENIED = frozenset({"AccessDenied", "403", "Forbidden"})
#: Where the answer to a listing of ours is to leave its entries.
_taken: ContextVar[list[Sequence[Listed]] | None] = ContextVar("asyncup_listing", default=None)


class S3Objects:
    """The objects of one bucket. `retrier` tries the pages of a listing again; everything else is one attempt."""

    def __init__(self, settings: S3Settings, control: ControlClient, retrier: Retrier) -> None:
        self._settings = settings
        self._control = control
        self._retrier = retrier
        self._always = {"Bucket": settings.bucket, **arguments(settings.request_headers())}
        self._trusts_etags = settings.verify_etag and not settings.bucket.endswith("--x-s3")
        self._has_checksums: bool | None = None
        control.client.meta.events.register(
            "before-parse.s3.ListObjectsV2", _take_entries, unique_id="asyncup-take-entries"
        )

    async def pages(self, prefix: str) -> AsyncGenerator[Sequence[Listed], None]:
        """See `Objects.pages`. The next page is asked for while the last one is looked at."""
        following: asyncio.Task[tuple[Sequence[Listed], str | None]] | None = self._ask(prefix, None)
        try:
            while following is not None:
                listed, token = await following
                following = None if token is None else self._ask(prefix, token)
                if listed:
                    yield listed
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait({following})

    async def look(self, key: str) -> Listed | None:
        """See `Objects.look`."""
        answer = await self._head(key)
        return None if answer is None else _described(key, answer)

    async def compare(self, upload: Upload, listed: Listed, *, deep: bool = False) -> Likeness | str:
        """See `Objects.compare`.

        An ETag that does not agree is not yet a difference: with a KMS key, which only a look at the object shows, it
        is no MD5. There, and where it never is one, a checksum that S3 keeps decides, if there is one.
        """
        key, body = upload.key, upload.body
        if listed.size != len(body):
            return _sizes(listed.size, body)
        if deep:
            return await self._download(key, body)
        expected = await self._expected(listed.etag, body)
        if expected is not None and expected == listed.etag:
            return Likeness.BYTES
        if not self._settings.verify_etag or (expected is None and self._has_checksums is False):
            return Likeness.SIZE
        try:
            return await self._look_closer(key, body)
        except DestinationRefused as refused:  # who may list need not be allowed to look
            return Likeness.SIZE if expected is None else f"{_etags(listed.etag, expected)} ({refused.message})"

    async def _look_closer(self, key: str, body: bytes) -> Likeness | str:
        answer = await self._head(key)
        if answer is None:
            raise ObjectMissing("compare", key, "the object has gone since it was listed")
        now = _described(key, answer)
        if now.size != len(body):
            return _sizes(now.size, body)
        expected = await self._expected(now.etag, body)
        if expected is not None and expected == now.etag:
            return Likeness.BYTES  # it was replaced since
        agrees = await asyncio.to_thread(agrees_by_checksum, answer, body)
        if agrees is not None:
            self._has_checksums = True
            return Likeness.BYTES if agrees else "the checksum that S3 keeps is not that of the row's bytes"
        is_hidden = answer.get("SSECustomerAlgorithm") or str(answer.get("ServerSideEncryption")).startswith("aws:kms")
        if expected is None or is_hidden:
            self._has_checksums = bool(self._has_checksums)
            return Likeness.SIZE
        return _etags(now.etag, expected)

    async def _expected(self, etag: str | None, body: bytes) -> str | None:
        if etag is None or not self._trusts_etags:
            return None
        if len(body) <= THREAD_BYTES:
            return expected_etag(etag, body)
        return await asyncio.to_thread(expected_etag, etag, body)

    async def _head(self, key: str) -> Any | None:
        try:
            try:
                return await self._call("head_object", 0, Key=key, ChecksumMode="ENABLED")
            except ClientError as exc:
                if _status(exc) not in _MUTE:
                    raise
            return await self._ask_aloud(key)
        except ClientError as exc:
            if _status(exc) == 404:
                return None
            raise _mapped(exc, "look at", key) from exc
        except Exception as exc:
            raise _mapped(exc, "look at", key) from exc

    async def _ask_aloud(self, key: str) -> Any:
        """Ask as HEAD does, by a request whose refusal has a body: only that says that a token or a clock is to be mended.

        It takes the same permission (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html). It is
        answered where somebody who asked at the same time has mended it; checksums are not among what it tells.
        """
        try:
            answer = await self._call("get_object", 0, Key=key, Range="bytes=0-0")
        except ClientError as exc:
            if _status(exc) != 416:
                raise
            answer = await self._call("get_object", 0, Key=key)  # an object of no bytes
        answer["Body"].close()
        whole = str(answer.get("ContentRange") or "").rpartition("/")[2]
        return {**answer, "ContentLength": int(whole)} if whole.isdecimal() else answer

    async def _download(self, key: str, body: bytes) -> Likeness | str:
        """Compare every byte, a chunk at a time."""
        view, done = memoryview(body), 0
        try:
            answer = await self._call("get_object", len(body), Key=key)
            async with asyncio.timeout(self._settings.patience(len(body))), answer["Body"] as stream:
                while chunk := await stream.read(_CHUNK):
                    if view[done : done + len(chunk)] != chunk:
                        first = next((i for i, byte in enumerate(chunk, done) if i >= len(body) or byte != body[i]), 0)
                        return f"its bytes differ from the row's from byte {first:,} on"
                    done += len(chunk)
        except ClientError as exc:
            if _status(exc) == 404:
                raise ObjectMissing("read", key, "the object has gone since it was listed") from exc
            raise _mapped(exc, "read", key) from exc
        except Exception as exc:
            raise _mapped(exc, "read", key) from exc
        return Likeness.BYTES if done == len(body) else _sizes(done, body)

    # --- a page -----------------------------------------------------------------------------------------------

    def _ask(self, prefix: str, token: str | None) -> asyncio.Task[tuple[Sequence[Listed], str | None]]:
        asked = self._retrier.run(self._page, (prefix, token))
        return asyncio.create_task(asked, name="asyncup-listing")

    async def _page(self, asked: tuple[str, str | None]) -> tuple[Sequence[Listed], str | None]:
        """One page, and what to ask for the next one with; None behind the last."""
        prefix, token = asked
        place = f"s3://{self._settings.bucket}/{prefix}"
        given = {} if token is None else {"ContinuationToken": token}
        found: list[Sequence[Listed]] = []
        _taken.set(found)
        try:
            answer = await self._call("list_objects_v2", 0, Prefix=prefix, EncodingType="url", **given)
        except Exception as exc:
            raise _mapped(exc, _LIST, place) from exc
        finally:
            _taken.set(None)
        following = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
        if not found or (answer.get("IsTruncated") and following in (None, token)):
            raise ConnectionLost(_LIST, place, "the answer is not a page of a listing")
        return found[0], following

    async def _call(self, operation: str, size: int, **given: Any) -> Any:
        return await self._control.call(operation, self._settings.patience(size), **self._always, **given)


def _take_entries(response_dict: dict[str, Any], **_: Any) -> None:
    """Leave the entries of a listing of ours with whoever asked for it, and the rest to botocore."""
    found = _taken.get()
    if found is None or response_dict["status_code"] != 200:
        return
    try:
        # what botocore would do next with the same bytes, with the same parser
        root = ET.fromstring(response_dict["body"])  # noqa: S314
        if _name(root) != "ListBucketResult":
            return
        encoded, listed, rest = False, [], []
        for child in root:
            if _name(child) == "Contents":
                entry = {_name(part): part.text or "" for part in child}
                listed.append(Listed(entry["Key"], int(entry["Size"]), entry.get("ETag", "").strip('"') or None))
            else:
                encoded = encoded or (_name(child) == "EncodingType" and child.text == "url")
                rest.append(child)
    except (ET.ParseError, KeyError, ValueError):
        return  # no page of a listing; so nothing is found
    root[:] = rest
    response_dict["body"] = ET.tostring(root)
    found.append([Listed(unquote_plus(key), size, etag) for key, size, etag in listed] if encoded else listed)


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _described(key: str, answer: Any) -> Listed:
    etag = str(answer.get("ETag") or "").strip('"')
    return Listed(key, int(answer.get("ContentLength") or 0), etag or None)


def _sizes(size: int, body: bytes) -> str:
    return f"it has {size:,} bytes, and the row {len(body):,}"


def _etags(etag: str | None, expected: str) -> str:
    return f"its ETag is {etag}, and that of the row's bytes {expected}"


def _status(exc: ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _mapped(exc: Exception, op: str, subject: str) -> AsyncupError:
    if isinstance(exc, AsyncupError):
        return exc
    error = from_botocore(exc, op, subject, accepted=op != _LIST)
    if isinstance(exc, ClientError) and exc.response.get("Error", {}).get("Code") in _DENIED:
        need = (
            "s3:ListBucket" if op == _LIST else "s3:GetObject (and s3:ListBucket, or what is missing looks forbidden)"
        )
        return DestinationRefused(op, subject, error.message, f"the credentials need {need}")
    return error
