"""What a bucket holds: listed page by page, looked at, and compared with what a row comes to. Nothing here writes.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html. A page of 1,000 objects takes botocore
75 ms to parse, most of it for dates that nobody looks at, on the event loop; so its entries are taken out before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

from botocore.exceptions import ClientError

from asyncup.errors import AsyncupError, ConnectionLost, DestinationRefused, ObjectMissing
from asyncup.flow.retry import Retrier
from asyncup.model import Likeness, Listed, Slices, Streamed, Upload
from asyncup.sinks.s3.client import ControlClient
from asyncup.sinks.s3.compatible import arguments
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.etags import EtagDigest, KeptChecksum
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

    async def first(self, prefix: str) -> tuple[int, bool] | None:
        """How many objects the first page of a listing has, and whether more follow; None where it is not permitted.

        Raises:
            DestinationRefused: the bucket or the credentials are of no use.
            Unreachable, ConnectionLost, ServerFault, Throttled: all attempts were in vain.
        """
        try:
            listed, following = await self._retrier.run(self._page, (prefix, None))
        except DestinationRefused as refused:
            cause = refused.__cause__
            if isinstance(cause, ClientError) and cause.response.get("Error", {}).get("Code") in _DENIED:
                return None
            raise
        return len(listed), following is not None

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
        if deep:
            return await self._download(key, body, listed)
        size, expected = await self._expected(listed, body)
        if size != listed.size:
            return _sizes(listed.size, size)
        if expected is not None and expected == listed.etag:
            return Likeness.BYTES
        if not self._settings.verify_etag or (expected is None and self._has_checksums is False):
            return Likeness.SIZE
        try:
            return await self._look_closer(key, body)
        except DestinationRefused as refused:  # who may list need not be allowed to look
            return Likeness.SIZE if expected is None else f"{_etags(listed.etag, expected)} ({refused.message})"

    async def _look_closer(self, key: str, body: bytes | Streamed) -> Likeness | str:
        answer = await self._head(key)
        if answer is None:
            raise ObjectMissing("compare", key, "the object has gone since it was listed")
        now = _described(key, answer)
        size, expected = await self._expected(now, body)
        if now.size != size:
            return _sizes(now.size, size)
        if expected is not None and expected == now.etag:
            return Likeness.BYTES  # it was replaced since
        kept = KeptChecksum.of(answer)
        if kept is not None:
            self._has_checksums = True
            async with slices_of(body) as read:
                await _take_in(read, kept.update)
            return Likeness.BYTES if kept.agrees else "the checksum that S3 keeps is not that of what the row comes to"
        is_hidden = answer.get("SSECustomerAlgorithm") or str(answer.get("ServerSideEncryption")).startswith("aws:kms")
        if expected is None or is_hidden:
            self._has_checksums = bool(self._has_checksums)
            return Likeness.SIZE
        return _etags(now.etag, expected)

    async def _expected(self, listed: Listed, body: bytes | Streamed) -> tuple[int, str | None]:
        """The size of a body, and what the ETag of that object is if it has these bytes, where that can be told."""
        if not isinstance(body, Streamed):
            digest = self._digest(listed, len(body))
            if digest is not None:
                await _update(digest.update, body)
            return len(body), None if digest is None else digest.value()
        async with body.open() as read:
            digest = self._digest(listed, read.size)
            if digest is not None:
                await _take_in(read, digest.update)
            return read.size, None if digest is None else digest.value()

    def _digest(self, listed: Listed, size: int) -> EtagDigest | None:
        if listed.etag is None or listed.size != size or not self._trusts_etags:
            return None
        return EtagDigest.like(listed.etag, size, self._settings.part_bytes)

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

    async def _download(self, key: str, body: bytes | Streamed, listed: Listed) -> Likeness | str:
        """Compare every byte, a chunk at a time."""
        async with slices_of(body) as read:
            if listed.size != read.size:
                return _sizes(listed.size, read.size)
            try:
                answer = await self._call("get_object", read.size, Key=key)
                async with asyncio.timeout(self._settings.patience(read.size)), answer["Body"] as stream:
                    return await _compared(stream, read)
            except ClientError as exc:
                if _status(exc) == 404:
                    raise ObjectMissing("read", key, "the object has gone since it was listed") from exc
                raise _mapped(exc, "read", key) from exc
            except Exception as exc:
                raise _mapped(exc, "read", key) from exc

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


@asynccontextmanager
async def slices_of(body: bytes | Streamed) -> AsyncGenerator[Slices]:
    """A body as slices; one that is here already is a single one."""
    if isinstance(body, Streamed):
        async with body.open() as read:
            yield read
        return

    async def whole(body: bytes) -> AsyncGenerator[bytes]:
        yield body

    async with aclosing(whole(body)) as slices:
        yield Slices(len(body), slices)


async def _take_in(read: Slices, update: Callable[[bytes], object]) -> None:
    """Give a body to a digest."""
    async for piece in read.slices:
        await _update(update, piece)


async def _update(update: Callable[[bytes], object], piece: bytes) -> None:
    if len(piece) <= THREAD_BYTES:
        update(piece)
    else:
        await asyncio.to_thread(update, piece)


async def _compared(stream: Any, read: Slices) -> Likeness | str:
    """Hold an object's bytes, as they come, against those of a body."""
    done, piece = 0, memoryview(b"")
    while chunk := memoryview(await stream.read(_CHUNK)):
        while chunk:
            if not piece:
                piece = memoryview(await anext(aiter(read.slices), b""))
            both = min(len(piece), len(chunk))
            if not both or piece[:both] != chunk[:both]:
                first = next((n for n in range(both) if piece[n] != chunk[n]), both)
                return f"its bytes differ from the row's from byte {done + first:,} on"
            done, piece, chunk = done + both, piece[both:], chunk[both:]
    return Likeness.BYTES if done == read.size else _sizes(done, read.size)


def _sizes(size: int, wanted: int) -> str:
    return f"it has {size:,} bytes, and should have {wanted:,}"


def _etags(etag: str | None, expected: str) -> str:
    return f"its ETag is {etag}, and that of what the row comes to {expected}"


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
