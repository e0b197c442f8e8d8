"""A user's blocking `put` as a sink: what its results and errors mean, and what becomes of calls that hang."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import urllib.error
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore import exceptions as boto

from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    DestinationRefused,
    ObjectExists,
    PayloadCorrupted,
    RowRefused,
    ServerFault,
    Throttled,
)
from asyncup.model import UNTOLD, Receipt, Slices, Streamed, Upload
from asyncup.sinks.executor import ExecutorSink
from asyncup.testing import MemorySource


def answer(status: int, code: str) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject"
    )


def transfer_failed(cause: Exception) -> Exception:
    """As boto3's transfers raise it: what the answer was is behind it."""
    try:
        try:
            raise cause
        except type(cause):
            raise S3UploadFailedError("Failed to upload")  # noqa: B904
    except S3UploadFailedError as exc:
        return exc


def of(kind: str, *, base: type[Exception] = Exception, **attributes: Any) -> Exception:
    """An exception of a library that is not installed here."""
    return type(kind, (base,), attributes)("it says so")


def with_response(status: int) -> Exception:
    return of("HTTPStatusError", response=type("Response", (), {"status_code": status})())


MEANINGS: list[tuple[BaseException, type[AsyncupError]]] = [
    (answer(503, "SlowDown"), Throttled),
    (answer(400, "ThrottlingException"), Throttled),
    (answer(500, "InternalError"), ServerFault),
    (answer(400, "RequestTimeout"), ServerFault),
    (answer(400, "BadDigest"), PayloadCorrupted),
    (answer(400, "InvalidArgument"), RowRefused),
    (answer(412, "PreconditionFailed"), ObjectExists),
    (answer(404, "NoSuchBucket"), DestinationRefused),
    (answer(403, "SignatureDoesNotMatch"), DestinationRefused),
    (transfer_failed(answer(503, "SlowDown")), Throttled),
    (boto.EndpointConnectionError(endpoint_url="http://nowhere"), ConnectionLost),
    (boto.ReadTimeoutError(endpoint_url="http://nowhere"), ConnectionLost),
    (boto.NoCredentialsError(), DestinationRefused),
    (of("TooManyRequests", code=HTTPStatus.TOO_MANY_REQUESTS), Throttled),  # google.api_core
    (of("InternalServerError", code=HTTPStatus.INTERNAL_SERVER_ERROR), ServerFault),
    (of("BadRequest", code=HTTPStatus.BAD_REQUEST), RowRefused),
    (of("TransportError"), ConnectionLost),  # google.auth, httpx
    (of("HttpResponseError", status_code=409), RowRefused),  # azure
    (with_response(502), ServerFault),
    (with_response(401), DestinationRefused),
    (urllib.error.HTTPError("http://nowhere", 403, "Forbidden", None, None), RowRefused),  # type: ignore[arg-type]
    (ConnectionResetError("reset"), ConnectionLost),
    (TimeoutError(), ConnectionLost),
    (OSError("disk"), ConnectionLost),
    (PermissionError(13, "Permission denied"), RowRefused),
    (ValueError("no such format"), RowRefused),
    (TypeError("not bytes"), RowRefused),
    (KeyError("id"), RowRefused),
    (of("SomethingElse"), ServerFault),
    (SystemExit(3), DestinationRefused),
    (Throttled("put", "key", "the user's own word"), Throttled),
    (DestinationRefused("put", "key", "the user's own word"), DestinationRefused),
]


@pytest.mark.parametrize(("raised", "means"), MEANINGS, ids=lambda value: getattr(value, "__name__", repr(value)[:40]))
async def test_exceptions_of_libraries_mean_what_they_say(raised: BaseException, means: type[AsyncupError]) -> None:
    def put(_: Upload) -> None:
        raise raised

    sink = ExecutorSink(put)
    with pytest.raises(means) as caught:
        await sink.put(Upload("key", b"body"))
    assert type(caught.value) is means
    assert caught.value is raised or caught.value.__cause__ is raised
    if caught.value is not raised:
        assert (caught.value.op, caught.value.subject) == ("put", "key")
        assert caught.value.message.startswith(type(raised).__name__)
    await sink.close()


async def test_what_is_denied_first_ends_the_run_and_later_only_its_row() -> None:
    def put(upload: Upload) -> None:
        if upload.key == "denied":
            raise answer(403, "AccessDenied")

    sink = ExecutorSink(put)
    with pytest.raises(DestinationRefused):
        await sink.put(Upload("denied", b""))
    await sink.put(Upload("allowed", b""))
    with pytest.raises(RowRefused):
        await sink.put(Upload("denied", b""))
    await sink.close()


@pytest.mark.parametrize(
    ("returned", "receipt"),
    [
        (None, Receipt("key", 4)),
        ('"etag"', Receipt("key", 4, '"etag"')),
        (Receipt("key", 17, "own"), Receipt("key", 17, "own")),
        ({"ETag": "an answer of boto3 as it is"}, Receipt("key", 4)),
    ],
)
async def test_what_put_returns_is_the_receipt(returned: Any, receipt: Receipt) -> None:
    sink = ExecutorSink(lambda _: returned)
    assert await sink.put(Upload("key", b"body")) == receipt
    await sink.close()


class Kept:
    """An object with everything that a target may have."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.closed = 0
        self.fault: Exception | None = None

    def check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def put(self, upload: Any) -> None:
        self.objects[upload.key] = upload.body if isinstance(upload.body, bytes) else upload.body.read()

    def close(self) -> None:
        self.closed += 1
        raise ZeroDivisionError


async def test_check_and_close_are_the_targets_own() -> None:
    target = Kept()
    sink = ExecutorSink(target)
    await sink.check()
    for fault, means in ((ValueError("no such place"), DestinationRefused), (ConnectionError(), ConnectionLost)):
        target.fault = fault
        with pytest.raises(means):
            await sink.check()
    await sink.close()
    await sink.close()
    assert target.closed == 1


async def async_put(_: Upload) -> None: ...


@pytest.mark.parametrize("target", [async_put, 5, object()])
async def test_what_cannot_be_called_or_is_async_is_refused(target: Any) -> None:
    with pytest.raises(TypeError):
        ExecutorSink(target)


async def test_a_coroutine_that_put_returns_is_no_receipt() -> None:
    sink = ExecutorSink(lambda upload: async_put(upload))  # noqa: PLW0108 - it is plain, and gives a coroutine
    with pytest.raises(DestinationRefused, match="coroutine"):
        await sink.put(Upload("key", b""))
    await sink.close()


async def test_a_call_that_hangs_fails_and_its_thread_is_replaced_as_often_as_there_are_threads() -> None:
    gate, began = threading.Event(), threading.Semaphore(0)

    def put(upload: Upload) -> None:
        if upload.key.startswith("hang"):
            began.release()
            gate.wait(30)

    sink = ExecutorSink(put, threads=2, attempt_timeout=0.1)
    for number in range(3):
        with pytest.raises(ConnectionLost, match="did not end within"):
            await sink.put(Upload(f"hang {number}", b""))
    await sink.put(Upload("fine", b""))  # one thread is left of those that may be
    with pytest.raises(ConnectionLost, match="did not end within"):
        await sink.put(Upload("hang 4", b""))
    with pytest.raises(ConnectionLost, match="every thread hangs"):
        await sink.put(Upload("none is left", b""))
    assert sum(thread.name.startswith("asyncup-sink") for thread in threading.enumerate()) == 4
    await sink.close()  # waits for none of them
    gate.set()
    await asyncio.to_thread(join)


def join() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("asyncup-sink"):
            thread.join(10)


def large(body: bytes, *, told: bool = True, fault: Callable[[int], BaseException | None] = lambda _: None) -> Streamed:
    source = MemorySource([body], slice_bytes=1000)
    source.fault = lambda _, piece: fault(piece)
    streamed = source.stream(("1", None, len(body), None), 1 << 20)
    if told:
        return streamed

    def opened() -> Any:
        context = streamed.open()

        class Untold:
            async def __aenter__(self) -> Slices:
                return Slices(UNTOLD, (await context.__aenter__()).slices)

            async def __aexit__(self, *exc: object) -> None:
                await context.__aexit__(*exc)  # type: ignore[arg-type]

        return Untold()

    return Streamed(len(body), 1 << 20, opened)


BODY = bytes(range(256)) * 40


def read_at_once(body: Any) -> bytes:
    return body.read()


def read_in_pieces(body: Any) -> bytes:
    pieces = []
    while piece := body.read(777):
        assert len(piece) == 777 or len(pieces) == len(BODY) // 777
        pieces.append(piece)
    return b"".join(pieces)


def hash_first(body: Any) -> bytes:
    """As libraries do that sign or count before they send."""
    assert body.seek(0, io.SEEK_END) == body.size == len(BODY)
    body.seek(0)
    digest = hashlib.file_digest(body, "sha256").digest()
    body.seek(0)
    found = body.read()
    assert hashlib.sha256(found).digest() == digest
    return found


def jump(body: Any) -> bytes:
    body.seek(5000)
    end = body.read()
    body.seek(10)
    body.read(1)
    body.seek(0)
    return body.read(5000) + end


@pytest.mark.parametrize("read", [read_at_once, read_in_pieces, hash_first, jump])
async def test_a_large_body_is_a_file_to_read_from(read: Callable[[Any], bytes]) -> None:
    found = []
    sink = ExecutorSink(lambda upload: found.append(read(upload.body)))
    assert await sink.put(Upload("key", large(BODY))) == Receipt("key", len(BODY))
    assert found == [BODY]
    await sink.close()


async def test_a_large_body_that_is_made_while_it_is_read_can_be_read_once() -> None:
    def put(upload: Any) -> None:
        assert upload.body.size is None
        assert not upload.body.seekable()
        found.append(read_in_pieces(upload.body))

    found: list[bytes] = []
    sink = ExecutorSink(put)
    assert await sink.put(Upload("key", large(BODY, told=False))) == Receipt("key", len(BODY))
    assert found == [BODY]
    await sink.close()


@pytest.mark.parametrize("told", [True, False])
async def test_a_large_body_that_is_not_read_to_its_end_is_not_put(told: bool) -> None:
    sink = ExecutorSink(lambda upload: upload.body.read(5) and None)  # type: ignore[union-attr]
    body = large(bytes(3 << 20), told=told)
    with pytest.raises(RowRefused, match="before it had read all"):
        await sink.put(Upload("key", body))
    await sink.close()


async def test_whoever_takes_bytes_alone_is_told_how_to_get_them_and_gets_them() -> None:
    sink = ExecutorSink(lambda upload: hashlib.md5(upload.body).hexdigest())  # type: ignore[arg-type]
    with pytest.raises(RowRefused) as caught:
        await sink.put(Upload("key", large(BODY)))
    assert "whole_bodies" in str(caught.value.hint)
    await sink.close()
    sink = ExecutorSink(lambda upload: hashlib.md5(upload.body).hexdigest(), whole_bodies=True)  # type: ignore[arg-type]
    assert await sink.put(Upload("key", large(BODY))) == Receipt("key", len(BODY), hashlib.md5(BODY).hexdigest())
    await sink.close()


@pytest.mark.parametrize("swallows", [False, True])
async def test_what_the_reading_of_a_large_body_raises_goes_out_as_it_is(swallows: bool) -> None:
    seen = []

    def put(upload: Any) -> None:
        try:
            upload.body.read()
        except OSError as exc:
            seen.append(str(exc))
            if not swallows:
                raise

    sink = ExecutorSink(put)
    error = RowRefused("read", "row 1", "it has gone bad")
    with pytest.raises(RowRefused) as caught:
        await sink.put(Upload("key", large(BODY, fault=lambda piece: error if piece == 3 else None)))
    assert caught.value is error
    assert len(seen) == 1
    await sink.close()


async def test_a_large_body_whose_put_is_cancelled_cannot_be_read_any_more() -> None:
    began, gate, seen = threading.Event(), threading.Event(), []

    def put(upload: Any) -> None:
        upload.body.read(1)
        began.set()
        gate.wait(10)
        try:
            upload.body.seek(2 << 20)
            upload.body.read(1)
        except OSError as exc:
            seen.append(str(exc))

    sink = ExecutorSink(put)
    putting = asyncio.create_task(sink.put(Upload("key", large(bytes(3 << 20)))))
    await asyncio.to_thread(began.wait)
    putting.cancel()
    await asyncio.wait([putting])
    assert putting.cancelled()
    gate.set()
    await sink.close()
    await asyncio.to_thread(join)
    assert len(seen) == 1
