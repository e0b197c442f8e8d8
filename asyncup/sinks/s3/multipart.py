"""Objects in parts: those that are too large for one request (from 16 MiB on), a few parts at a time.

Every request has the attempts of any other; a part that fails does not send the others again, and goes again as it is
held. Of a streamed body only the parts in flight are held; where its reading fails, all of it begins anew. An upload that
does not come to its end is aborted, since S3 keeps and charges its parts for ever:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from asyncup.errors import AsyncupError, ConnectionLost
from asyncup.flow.ending import Grace, to_its_end
from asyncup.flow.retry import Retrier
from asyncup.model import UNTOLD, Receipt, Slices, Streamed, Upload
from asyncup.sinks.s3.client import ControlClient
from asyncup.sinks.s3.compatible import arguments
from asyncup.sinks.s3.errors import from_botocore
from asyncup.sinks.s3.settings import MAX_PARTS, MIB, PART_BYTES, S3Settings

#: Parts of one object in flight at a time.
PARTS_IN_FLIGHT = 4
#: Seconds for an abort, where the run's end leaves it so many.
ABORT_SECONDS = 5.0
_CONDITIONS = ("if-none-match",)
#: What requests about an upload as a whole are called; those about a part are `put part`.
_OP = "put multipart"


class PartLane(Protocol):
    """Whoever sends a part. `accepted` is True once the destination has taken an object."""

    accepted: bool

    async def put_part(self, key: str, upload_id: str, number: int, body: memoryview) -> tuple[str, str | None]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """One part, numbered from 1."""

    number: int
    body: memoryview


def part_size(size: int, least: int = PART_BYTES) -> int:
    """How large the parts of an object of `size` bytes are, but for the last one."""
    return max(least, -(-size // MAX_PARTS // MIB) * MIB)


def parts_of(body: bytes, least: int = PART_BYTES) -> Iterator[Part]:
    """Cut a body into equal parts, the last one shorter; none is copied."""
    size = part_size(len(body), least)
    view = memoryview(body)
    for number, start in enumerate(range(0, len(view), size), 1):
        yield Part(number, view[start : start + size])


async def parts_of_slices(body: Slices, size: int = PART_BYTES) -> AsyncGenerator[Part, None]:
    """The same parts of a body that is read slice by slice, each of `size` bytes; who takes one holds it alone.

    One of no bytes is one part, since an upload without any is refused.
    """
    number, missing, pieces = 1, size, [memoryview(b"")]

    def part() -> list[Part]:
        made = [Part(number, memoryview(b"".join(pieces)))]
        pieces.clear()
        return made

    async for piece in body.slices:
        rest = memoryview(piece)
        del piece
        while rest:
            pieces.append(rest[:missing])
            missing, rest = missing - len(pieces[-1]), rest[missing:] or memoryview(b"")
            if not missing:
                made = part()
                yield made.pop()
                number, missing = number + 1, size
    if missing < size or number == 1:
        made = part()
        yield made.pop()


class Multipart:
    """Puts large objects into one bucket.

    `say` is told of uploads that could not be aborted; `grace` is how long the end of the run leaves that.
    """

    def __init__(
        self,
        settings: S3Settings,
        control: ControlClient,
        lane: PartLane,
        algorithm: str | None,
        retrier: Retrier,
        say: Callable[[str], None],
        grace: Grace,
    ) -> None:
        self._settings = settings
        self._control = control
        self._lane = lane
        self._algorithm = algorithm
        self._retrier = retrier
        self._say = say
        self._grace = grace
        #: keys whose upload may have begun without that S3 said what it is called
        self._unheard: set[str] = set()
        self._part_bytes = settings.part_bytes
        self._always = {"Bucket": settings.bucket, **arguments(settings.request_headers())}

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        if not isinstance(upload.body, Streamed):
            parts = parts_of(upload.body, self._part_bytes)

            async def take() -> Part | None:
                return next(parts, None)

            return await self._put(upload, take, PARTS_IN_FLIGHT)
        async with upload.body.open() as body:
            size = part_size(len(upload.body) if body.size == UNTOLD else body.size, self._part_bytes)
            senders = max(1, min(PARTS_IN_FLIGHT, upload.body.window // size))
            async with aclosing(parts_of_slices(body, size)) as made:
                turn = asyncio.Lock()

                async def make() -> Part | None:
                    async with turn:
                        return await anext(made, None)

                return await self._put(upload, make, senders)

    async def _put(self, upload: Upload, take: Callable[[], Awaitable[Part | None]], senders: int) -> Receipt:
        """Send the parts that `take` gives, until it gives none; `senders` of them at a time."""
        try:
            upload_id = await self._retrier.run(self._create, upload)
        finally:
            self._name_unheard(upload.key)
        try:
            done, size = await self._send_parts(upload, upload_id, take, senders)
            etag = await self._retrier.run(lambda _: self._complete(upload, upload_id, size, done), None)
        except BaseException:
            await to_its_end(self._abort(upload.key, upload_id), "asyncup-abort-multipart")
            raise
        if etag is None:
            raise ConnectionLost("put", upload.key, "S3 no longer knows the multipart upload: it begins anew")
        self._lane.accepted = True
        return Receipt(upload.key, size, etag)

    async def _create(self, upload: Upload) -> str:
        headers = tuple(pair for pair in upload.headers if pair[0] not in _CONDITIONS)
        given = arguments(self._settings.object_headers(), headers)
        if self._algorithm is not None:
            given["ChecksumAlgorithm"] = self._algorithm.upper()
        creating = asyncio.create_task(
            self._call("create_multipart_upload", upload.key, 0, **given), name="asyncup-create-multipart"
        )
        try:
            answer = await asyncio.shield(creating)
        except asyncio.CancelledError:
            await to_its_end(self._abandon(upload.key, creating), "asyncup-abort-multipart")
            raise
        except ConnectionLost:
            self._unheard.add(upload.key)
            raise
        upload_id = answer.get("UploadId")
        if not upload_id:
            self._unheard.add(upload.key)
            raise ConnectionLost(_OP, upload.key, "the answer names no multipart upload")
        return str(upload_id)

    async def _send_parts(
        self, upload: Upload, upload_id: str, take: Callable[[], Awaitable[Part | None]], senders: int
    ) -> tuple[list[dict[str, Any]], int]:
        """Send all parts; what S3 wants to be told of them at the end, in their order, and the bytes of them all."""
        done: list[dict[str, Any]] = []
        size = 0

        async def put(part: Part) -> dict[str, Any]:
            etag, checksum = await self._lane.put_part(upload.key, upload_id, part.number, part.body)
            sums = {} if self._algorithm is None else {f"Checksum{self._algorithm.upper()}": checksum}
            return {"PartNumber": part.number, "ETag": etag, **sums}

        async def send() -> None:
            nonlocal size
            while (part := await take()) is not None:
                size += len(part.body)
                done.append(await self._retrier.run(put, part))
                del part  # before the next one is made

        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(senders):
                    group.create_task(send(), name=f"asyncup-part-sender-{number}")
        except BaseExceptionGroup as errors:
            failure = errors.exceptions[0]  # raised in here, it and the group would know each other, and the parts
        if failure is not None:
            try:
                raise failure
            finally:
                del failure
        return sorted(done, key=lambda part: int(part["PartNumber"])), size

    async def _complete(self, upload: Upload, upload_id: str, size: int, parts: list[dict[str, Any]]) -> str | None:
        """Put the parts together. S3 may say 200 first and then that it failed, so only an ETag is a success.

        None when S3 does not know the upload: an attempt whose answer was lost has completed it, or somebody aborted
        it. Which of them it was nobody can tell, so the object is sent again.
        """
        given = arguments(tuple(pair for pair in upload.headers if pair[0] in _CONDITIONS))
        try:
            answer = await self._call(
                "complete_multipart_upload",
                upload.key,
                size,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                **given,
            )
        except AsyncupError as error:
            if _is_gone(error.__cause__):
                return None
            raise
        etag = answer.get("ETag")
        if not etag:
            raise ConnectionLost(_OP, upload.key, "the answer does not say that the object is stored")
        return str(etag)

    async def _call(self, operation: str, key: str, size: int, **given: Any) -> Any:
        try:
            return await self._control.call(operation, self._settings.patience(size), Key=key, **self._always, **given)
        except AsyncupError:
            raise
        except Exception as exc:
            raise from_botocore(exc, _OP, key, accepted=self._lane.accepted) from exc

    async def _abandon(self, key: str, creating: asyncio.Task[Any]) -> None:
        """Abort an upload that nobody waits for any more, as soon as S3 has said what it is called."""
        try:
            async with self._grace.timeout(ABORT_SECONDS):
                answer = await creating
        except (TimeoutError, ConnectionLost):
            self._unheard.add(key)
        except AsyncupError:
            return  # S3 would not begin it
        else:
            if upload_id := answer.get("UploadId"):  # without one, the request would delete the object
                await self._abort(key, upload_id)

    def _name_unheard(self, key: str) -> None:
        """Say how to find what may have begun, once for all attempts at an object."""
        if key in self._unheard:
            self._unheard.discard(key)
            self._say(
                "a multipart upload may have begun that S3 did not answer for; it would be kept for ever: "
                + self._command("list-multipart-uploads", prefix=key)
            )

    async def _abort(self, key: str, upload_id: str) -> None:
        try:
            async with self._grace.timeout(ABORT_SECONDS):
                await self._control.call(
                    "abort_multipart_upload", ABORT_SECONDS, Key=key, UploadId=upload_id, **self._always
                )
        except Exception as exc:  # noqa: BLE001 - said, not raised: another error is under way
            if _is_gone(exc):
                return
            self._say(
                f"a multipart upload could not be aborted ({str(exc) or 'no answer in time'}), and S3 keeps and charges "
                "its parts: " + self._command("abort-multipart-upload", key=key, upload_id=upload_id)
            )

    def _command(self, operation: str, **options: str) -> str:
        """What a person can do about it, for a shell."""
        given = {"bucket": self._settings.bucket, **options}
        if not self._control.is_aws:
            given["endpoint_url"] = self._control.endpoint_url
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        return shlex.join(["aws", "s3api", operation, *words])


def _is_gone(exc: BaseException | None) -> bool:
    return isinstance(exc, ClientError) and exc.response.get("Error", {}).get("Code") == "NoSuchUpload"
