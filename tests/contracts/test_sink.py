"""The promises of the protocol `Sink`, on every sink: what is acknowledged is there, byte for byte, under its own name.

Objects are read back past the sink: from its memory, as files, or with another S3 client.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import random
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.errors import DestinationRefused
from asyncup.model import Receipt, Streamed, Upload
from asyncup.protocols import Sink
from asyncup.sinks.directory import DirectorySink
from asyncup.sinks.executor import ExecutorSink
from asyncup.sinks.null import NullSink
from asyncup.sinks.s3 import S3Settings, S3Sink
from asyncup.testing import MemorySink, MemorySource
from tests.boto_sink import BotoSink
from tests.conftest import Bucket
from tests.moto_server import MotoServer

#: Bodies from here on go in parts of this size to S3: the least that moto takes.
PART = 5 << 20
#: Names in which somebody on the way might decode, encode, fold, split or clean something.
KEYS = (
    "plain.txt",
    "a/b/c/d.bin",
    "with some spaces.txt",
    " space first",
    "space last ",
    "plus+plus",
    "100%",
    "%2F and %25 and %zz",
    "a&b=c;d",
    "what?x=1",
    "frag#ment",
    "single'double\"back`",
    "<xml>&amp;</xml>",
    "at@colon:dollar$comma,",
    "star*(round)[square]{curly}|^~!",
    "back\\slash",
    "ünï/çødé",
    "composed \u00e9",
    "decomposed e\u0301",
    "日本語/鍵.txt",
    "emoji-🗝/🚀",
    "...three dots",
    "..two/.one/one./two..",
    "a..b/c.d",
    ".hidden",
    "~/home",
    "/".join(["k" * 255] * 3 + ["k" * 200, "k" * 55]),  # 1,024 bytes, the most that S3 takes
    "/".join(["鍵" * 85] * 4),  # segments of 255 bytes, the most that file systems take
)
#: Names that S3 has and no file system does.
FREE_KEYS = ("/", "//", "/leading", "double//slash", "trailing/", "trailing", "l" * 1024, "鍵" * 341 + "x")


@dataclass(frozen=True)
class Place:
    """A destination: how to open a sink to it, and how to look into it past the sink."""

    open: Callable[[], Awaitable[Sink]]
    objects: Callable[[], dict[str, bytes]]
    content_types: Callable[[], dict[str, str]] = dict
    port: int = 0

    @property
    def is_s3(self) -> bool:
        return bool(self.port)


@pytest.fixture(scope="session")
def null_s3() -> Iterator[RunningSimulator]:
    """A server that answers as S3 does and keeps nothing."""
    with simulator() as server:
        yield server


@pytest.fixture
def memory() -> Place:
    sink = MemorySink()

    async def opened() -> Sink:
        return sink

    return Place(
        opened,
        lambda: {key: upload.body for key, upload in sink.objects.items()},
        lambda: {key: dict(upload.headers)["content-type"] for key, upload in sink.objects.items()},
    )


@pytest.fixture
def null() -> Place:
    async def opened() -> Sink:
        return NullSink()

    return Place(opened, dict)


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    root = tmp_path / "objects"

    async def opened() -> Sink:
        return DirectorySink(root, threads=8)

    return Place(opened, lambda: files_below(root))


@pytest.fixture
def rclone(lane: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A bucket whose objects lie as files, behind a server that checks signatures."""
    for name, value in bucket.server.environment.items():
        monkeypatch.setenv(name, value)

    def content_types() -> dict[str, str]:
        remote = f":s3,provider=Other,region=us-east-1,env_auth=true,force_path_style=true:{bucket.name}"
        listing = subprocess.run(
            [str(bucket.server.program), "lsjson", "-R", "--files-only", "--config=", remote],
            env={**os.environ, "RCLONE_S3_ENDPOINT": bucket.server.endpoint_url},
            capture_output=True,
            check=True,
        )
        return {entry["Path"]: entry["MimeType"] for entry in json.loads(listing.stdout)}

    return Place(
        lambda: S3Sink.open(S3Settings(bucket.name, s3_client=lane, part_bytes=PART)),
        bucket.objects,
        content_types,
        port=bucket.server.port,
    )


@pytest.fixture
def boto(lane: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Place:
    """The same bucket through a user's own sink, which blocks."""
    place: Place = request.getfixturevalue("rclone")

    async def opened() -> Sink:
        return ExecutorSink(await asyncio.to_thread(BotoSink, bucket.name), threads=16)

    return replace(place, open=opened)


@pytest.fixture
def aws(lane: str, moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A bucket of moto's, read with boto3."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    with moto.bucket() as bucket:
        yield Place(
            lambda: S3Sink.open(S3Settings(bucket.name, s3_client=lane, part_bytes=PART)),
            bucket.objects,
            lambda: {key: bucket.description(key)["ContentType"] for key in bucket.names()},
            port=moto.port,
        )


@pytest.fixture
def nowhere(lane: str, null_s3: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A bucket that takes everything and keeps nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "checked by nobody")
    settings = S3Settings("bucket", endpoint_url=null_s3.endpoint_url, s3_client=lane, part_bytes=PART)
    return Place(lambda: S3Sink.open(settings), dict, port=urlsplit(null_s3.endpoint_url).port or 0)


@pytest.fixture
def lane(request: pytest.FixtureRequest) -> str:
    """The lane of the S3 sink, of which the other sinks have none."""
    return str(getattr(request, "param", ""))


@pytest.fixture
def place(request: pytest.FixtureRequest, lane: str) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def on(*places: str) -> pytest.MarkDecorator:
    """The test runs on each of these places; on those that are S3 through both lanes."""
    cases = []
    for name in places:
        lanes = ("wire", "botocore") if name in ("rclone", "aws", "nowhere") else ("",)
        cases += [pytest.param(name, lane, id=f"{name}-{lane}" if lane else name) for lane in lanes]
    return pytest.mark.parametrize(("place", "lane"), cases, indirect=True)


everywhere = on("memory", "directory", "rclone", "aws", "boto")


@pytest.fixture
async def sink(place: Place) -> AsyncIterator[Sink]:
    opened = await place.open()
    yield opened
    await opened.close()


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def content(size: int) -> bytes:
    """Bytes of every value, the same ones every time."""
    return random.Random(size).randbytes(size)


@everywhere
async def test_bodies_of_every_size_arrive_byte_for_byte(place: Place, sink: Sink) -> None:
    bodies = {f"bodies/{size}": content(size) for size in (0, 1, 4096, 65_537, 1 << 20, 11_000_000)}
    for key, body in bodies.items():
        await sink.put(Upload(key, body))
    found = await asyncio.to_thread(place.objects)
    assert found.keys() == bodies.keys()
    assert [key for key, body in bodies.items() if found[key] != body] == []


def streamed(body: bytes, fault: Callable[[int], BaseException | None] = lambda _: None) -> Streamed:
    """A body that comes in slices, which are not a sink's parts. `fault` may end it before the slice of a number."""
    source = MemorySource([body], slice_bytes=1_500_000)
    source.fault = lambda _, piece: fault(piece)
    return source.stream(("1", None, len(body), None), 64 << 20)


streams = on("memory", "null", "directory", "rclone", "aws", "nowhere", "boto")


@streams
async def test_a_streamed_body_arrives_byte_for_byte(place: Place, sink: Sink) -> None:
    bodies = {f"streamed/{size}": content(size) for size in (PART, 7_000_000)}
    for key, body in bodies.items():
        receipt = await sink.put(Upload(key, streamed(body), (("content-type", "x/y"),)))
        assert (receipt.key, receipt.size) == (key, len(body))
    found = await asyncio.to_thread(place.objects)
    assert [key for key in found if found[key] != bodies[key]] == []
    assert found.keys() in (bodies.keys(), set())  # some places keep nothing


@streams
async def test_a_streamed_body_is_what_there_is_when_it_is_opened(place: Place, sink: Sink) -> None:
    """It may have become shorter, down to nothing, since its size was told."""
    for size in (0, 1, 2_000_000):
        body = streamed(content(size))
        body.size = PART
        assert (await sink.put(Upload("shrunk", body))).size == size
        assert await asyncio.to_thread(place.objects) in ({"shrunk": content(size)}, {})


@streams
@pytest.mark.parametrize("piece", [1, 2, 5])
async def test_a_streamed_body_whose_reading_fails_leaves_nothing_and_its_error_goes_out(
    place: Place, sink: Sink, piece: int
) -> None:
    await sink.put(Upload("first", b"body"))
    before = await asyncio.to_thread(place.objects)
    body = streamed(content(7_000_000), lambda number: ZeroDivisionError() if number == piece else None)
    with pytest.raises(ZeroDivisionError):
        await sink.put(Upload("broken", body))
    assert await asyncio.to_thread(place.objects) == before


@on("memory", "directory", "rclone", "boto")
async def test_a_streamed_put_that_is_cancelled_leaves_no_half_object_and_the_sink_usable(
    place: Place, sink: Sink
) -> None:
    whole = content(7_000_000)
    await sink.put(Upload("before", b"x"))
    for piece in range(1, 6):
        arrived = asyncio.Event()
        body = streamed(whole, lambda number: arrived.set() if number == piece else None)  # noqa: B023
        putting = asyncio.create_task(sink.put(Upload("cancelled", body)))
        await arrived.wait()
        putting.cancel()
        await asyncio.wait([putting])
        assert putting.cancelled() or isinstance(putting.result(), Receipt)
    await sink.put(Upload("after", streamed(whole)))
    found = await asyncio.to_thread(place.objects)
    assert found.keys() - {"cancelled"} == {"before", "after"}
    assert [key for key in found.keys() - {"before"} if found[key] != whole] == []


@everywhere
async def test_keys_arrive_as_they_are_written(place: Place, sink: Sink) -> None:
    for key in KEYS:
        await sink.put(Upload(key, key.encode()))
    assert await asyncio.to_thread(place.objects) == {key: key.encode() for key in KEYS}


@on("memory", "aws")
async def test_keys_that_no_file_system_has_arrive_as_they_are_written(place: Place, sink: Sink) -> None:
    for key in FREE_KEYS:
        await sink.put(Upload(key, key.encode()))
    assert await asyncio.to_thread(place.objects) == {key: key.encode() for key in FREE_KEYS}


@everywhere
async def test_an_object_is_replaced_whole(place: Place, sink: Sink) -> None:
    for body in (content(100_000), b"short", b"", content(200_000)):
        await sink.put(Upload("again", body))
        assert await asyncio.to_thread(place.objects) == {"again": body}


@everywhere
async def test_a_check_writes_nothing(place: Place, sink: Sink) -> None:
    await sink.check()
    assert await asyncio.to_thread(place.objects) == {}


@on("memory", "rclone", "aws", "boto")
async def test_the_content_type_is_kept(place: Place, sink: Sink) -> None:
    types = {
        "page": "text/html; charset=utf-8",
        "odd.txt": 'application/x-"odd"; a=b, c',
        "sub/image.png": "image/png",
    }
    for key, content_type in types.items():
        await sink.put(Upload(key, b"body", (("content-type", content_type),)))
    assert await asyncio.to_thread(place.content_types) == types


@on("memory", "null", "directory", "rclone", "aws", "nowhere", "boto")
async def test_the_receipt_is_about_the_object(place: Place, sink: Sink) -> None:
    receipt = await sink.put(Upload("of this", b"object"))
    # for an object that is neither encrypted nor in parts, S3's ETag is the MD5 of its bytes
    etag = f'"{hashlib.md5(b"object").hexdigest()}"' if place.is_s3 else None
    assert receipt == Receipt("of this", 6, etag)


@on("memory", "directory", "rclone", "boto")
async def test_sixty_four_puts_at_once_arrive_each_with_its_own_bytes(place: Place, sink: Sink) -> None:
    uploads = [Upload(f"{number % 7}/{number}", content(1000 * number)) for number in range(64)]
    # one by one, the first of each folder: rclone (1.75) answers 500 to some of those who want the same new folder at once
    receipts = [await sink.put(upload) for upload in uploads[:7]]
    receipts += await asyncio.gather(*[sink.put(upload) for upload in uploads[7:]])
    assert [(receipt.key, receipt.size) for receipt in receipts] == [(one.key, len(one.body)) for one in uploads]
    assert await asyncio.to_thread(place.objects) == {upload.key: upload.body for upload in uploads}


@on("nowhere")
async def test_sixty_four_puts_at_once_are_sixty_four_requests(
    sink: Sink, place: Place, null_s3: RunningSimulator
) -> None:
    await sink.put(Upload("the first one goes alone", b""))
    await asyncio.to_thread(null_s3.reset)
    await asyncio.gather(*[sink.put(Upload(f"key {number}", bytes(number * 1000))) for number in range(64)])
    counted = await asyncio.to_thread(null_s3.counters)
    assert counted["requests"] == {"PUT": 64}
    assert counted["bytes"] == sum(range(64)) * 1000


@on("memory", "directory", "rclone", "boto")
async def test_a_cancelled_put_leaves_the_sink_usable_and_no_half_object(place: Place, sink: Sink) -> None:
    body = content(300_000)
    for rounds in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55):
        task = asyncio.create_task(sink.put(Upload(f"cancelled/{rounds}", body)))
        for _ in range(rounds):  # each round of the loop brings the put to another place
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or isinstance(task.result(), Receipt)
    await sink.put(Upload("after/0", body))
    await asyncio.gather(*[sink.put(Upload(f"after/{number}", body)) for number in range(1, 64)])
    await sink.close()
    await asyncio.to_thread(join_threads)
    found = await asyncio.to_thread(place.objects)
    assert {key for key in found if key.startswith("after/")} == {f"after/{number}" for number in range(64)}
    assert {key for key, kept in found.items() if kept != body} == set()


@on("memory", "null", "directory", "rclone", "nowhere", "boto")
async def test_closing_leaves_no_task_connection_or_thread(place: Place) -> None:
    tasks = asyncio.all_tasks()
    sink = await place.open()
    await sink.check()
    await asyncio.gather(*[sink.put(Upload(f"object {number}", b"body")) for number in range(20)])
    assert bool(connections(place.port)) == place.is_s3  # so there is something to close
    await sink.close()
    assert asyncio.all_tasks() == tasks
    assert connections(place.port) == []
    await asyncio.to_thread(join_threads)
    gc.collect()  # what was left open would warn now, and warnings are errors


@on("null", "directory", "rclone", "aws", "boto")
async def test_a_sink_can_be_closed_unused_and_twice(place: Place) -> None:
    sink = await place.open()
    await sink.close()
    await sink.close()


@on("rclone", "aws")
async def test_a_missing_bucket_is_refused_by_check_and_by_put(place: Place, lane: str) -> None:
    sink = await S3Sink.open(S3Settings("no-such-bucket", s3_client=lane))
    for call in (sink.check, lambda: sink.put(Upload("key", b"body"))):
        with pytest.raises(DestinationRefused) as caught:
            await call()
        assert caught.value.hint is not None
        assert "--to" in caught.value.hint
    await sink.close()


async def test_a_directory_that_cannot_be_is_refused_by_check_and_by_put(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = DirectorySink(tmp_path / "file" / "folder", threads=1)
    for call in (sink.check, lambda: sink.put(Upload("key", b"body"))):
        with pytest.raises(DestinationRefused, match="Not a directory"):
            await call()
    await sink.close()


@on("rclone")
async def test_wrong_credentials_are_refused_with_the_name_of_their_variable(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, wrong in (
        ("AWS_SECRET_ACCESS_KEY", "not the secret of this key"),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ):
        monkeypatch.setenv(variable, wrong)
        sink = await place.open()
        with pytest.raises(DestinationRefused) as caught:
            await sink.put(Upload("key", b"body"))
        assert variable in str(caught.value.hint)
        assert wrong not in f"{caught.value} {caught.value.hint}"
        assert place.objects() == {}
        await sink.close()


def connections(port: int) -> list[str]:
    """This process's connections to a port."""
    found = psutil.Process().net_connections(kind="tcp")
    return [str(one) for one in found if one.raddr and one.raddr.port == port]


def join_threads() -> None:
    """Wait for the threads of closed sinks, which end by themselves."""
    for thread in threading.enumerate():
        if thread.name.startswith(("asyncup-file", "asyncup-sink")):
            thread.join(10)
            assert not thread.is_alive()
