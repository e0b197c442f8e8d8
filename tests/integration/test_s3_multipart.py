"""Objects in parts: what is sent, what is sent again, and what it takes for a receipt.

Most tests have parts of a MiB; the sizes that users meet are sent to rclone and to moto.
"""

from __future__ import annotations

import asyncio
import gc
import random
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import pytest_asyncio

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.errors import AsyncupError, ConnectionLost, Disposition, ServerFault, Throttled
from asyncup.model import Receipt, Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from asyncup.sinks.s3.multipart import parts_of
from asyncup.sinks.s3.settings import PART_BYTES
from asyncup.testing import MemorySource
from tests.conftest import Bucket
from tests.integration.conftest import Sinks
from tests.integration.plays import ATTEMPTS, Play, Told
from tests.integration.scripted_s3 import Answer, Then, answer_as_s3, refuse, reply, step
from tests.moto_server import MotoBucket

MIB = 1 << 20
UPLOAD = Upload("folder/large", random.Random(1).randbytes(6 * MIB + 1), (("content-type", "x/y"),))
LARGE = Upload("large", random.Random(2).randbytes(40_000_000))
PARTS = [f"part {number}" for number in range(1, 8)]
WHOLE = ["create", *PARTS, "complete"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("credentials", "small_parts")]


@pytest_asyncio.fixture(loop_scope="module")
async def sink(sinks: Sinks, play: Play, told: Told, lane: str) -> S3Sink:
    """A sink to the scripted server."""
    return await sinks.open(lane, play.server.endpoint_url, retrier=told.retrier(), say=told.notices.append)


# --- parts ----------------------------------------------------------------------------------------------------


async def test_a_body_is_cut_into_equal_parts_of_whole_mebibytes_and_never_into_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("MAX_PARTS", 10), ("MIB", 4)):
        monkeypatch.setattr(f"asyncup.sinks.s3.multipart.{name}", value)
    for size in range(1, 1000):
        body = random.Random(size).randbytes(size)
        parts = list(parts_of(body, 16))
        sizes = [len(part.body) for part in parts]
        assert b"".join(part.body for part in parts) == body
        assert [part.number for part in parts] == list(range(1, len(parts) + 1))
        assert len(parts) <= 10
        assert set(sizes[:-1]) <= {sizes[0]}
        assert sizes[-1] <= sizes[0]
        if len(parts) > 1:
            assert sizes[0] == max(16, -(-size // 40) * 4), "the smallest whole number of MIB that is enough"


async def test_an_object_goes_in_parts_that_are_told_in_their_order(play: Play, sink: S3Sink) -> None:
    receipt = await sink.put(UPLOAD)
    assert play.steps() == WHOLE
    sent = {step(request): request for request in play.server.requests}
    assert b"".join(sent[part].body for part in PARTS) == UPLOAD.body
    etags = [answer_as_s3(sent[part]).text.partition(b"ETag: ")[2].rstrip() for part in PARTS]
    told = re.findall(rb"<PartNumber>(\d+)</PartNumber><ETag>(.*?)</ETag>", sent["complete"].body)
    assert told == [(b"%d" % number, etag) for number, etag in enumerate(etags, 1)]
    etag = re.findall(rb"<ETag>(.*)</ETag>", answer_as_s3(sent["complete"]).text)[0].decode()
    assert receipt == Receipt(UPLOAD.key, len(UPLOAD.body), etag)


async def test_an_object_has_four_parts_in_flight_and_never_more(play: Play, sink: S3Sink) -> None:
    gates = {part: asyncio.Event() for part in PARTS}
    usual = play.answer
    play.server.usual = lambda request: Answer(usual(request).text, after=gates.get(step(request)))
    putting = asyncio.create_task(sink.put(UPLOAD))
    released = 0
    while not putting.done():
        await play.server.wait_for_requests(1 + min(released + 4, len(PARTS)))
        waiting = [one for one in play.steps() if one in gates and not gates[one].is_set()]
        if not waiting:
            await putting
            break
        gates[waiting[0]].set()
        released += 1
    assert released == len(PARTS)
    assert play.server.busiest == 4


@pytest.fixture(scope="module")
def null_s3() -> Iterator[RunningSimulator]:
    with simulator() as server:
        yield server


@pytest.mark.parametrize("lane", ["wire"], indirect=True)
async def test_the_body_is_not_copied_on_its_way(sinks: Sinks, lane: str, null_s3: RunningSimulator) -> None:
    sink = await sinks.open(lane, null_s3.endpoint_url, no_sign_request=True, part_bytes=PART_BYTES)
    await sink.put(Upload("first", b""))
    gc.collect()
    tracemalloc.start()
    await sink.put(LARGE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * MIB


async def test_forty_megabytes_arrive_at_a_server_that_checks_signatures(rclone_bucket: Bucket, lane: str) -> None:
    sink = await S3Sink.open(S3Settings(rclone_bucket.name, s3_client=lane))
    await sink.put(LARGE)
    await sink.close()
    assert rclone_bucket.objects() == {LARGE.key: LARGE.body}


async def test_forty_megabytes_arrive_at_a_server_that_checks_parts(
    sinks: Sinks, moto_bucket: MotoBucket, lane: str
) -> None:
    sink = await sinks.open(lane, moto_bucket.server.endpoint_url, moto_bucket.name, part_bytes=PART_BYTES)
    moto_bucket.server.requests.clear()
    await sink.put(LARGE)
    assert sum("partNumber=" in asked for asked in moto_bucket.server.requests) == 3
    assert await asyncio.to_thread(moto_bucket.objects) == {LARGE.key: LARGE.body}
    assert await asyncio.to_thread(moto_bucket.uploads) == []


# --- attempts -------------------------------------------------------------------------------------------------

LOST = [Answer(then=Then.CLOSE), Answer(then=Then.RESET), Answer(b"garbage\r\n\r\n", Then.CLOSE)]
FAULTS = {
    "InternalError": [refuse(500, "InternalError"), refuse(500, "InternalError")],
    "SlowDown": [refuse(503, "SlowDown"), reply(503)],
    "BadDigest": [refuse(400, "BadDigest")],
    "lost": LOST[:2],
    "garbage": LOST[2:],
    "no ETag": [reply(200), reply(200, "<html>")],
    "another's ETag": [reply(200, headers={"ETag": '"0123456789abcdef0123456789abcdef"'})],
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_part_that_fails_is_sent_again_and_no_other(play: Play, sink: S3Sink, told: Told, fault: str) -> None:
    await sink.put(Upload("first", b""))  # which shows what this server's ETags are
    play.server.requests.clear()
    play.instead["part 3"].extend(FAULTS[fault])
    await sink.put(UPLOAD)
    asked = Counter(play.steps())
    assert asked.pop("part 3") > 1
    assert asked == Counter({name: 1 for name in WHOLE if name != "part 3"})
    assert {error.op for error in told.retried} == {"put part"}
    assert len(told.retried) <= len(FAULTS[fault])


@pytest.mark.parametrize("name", ["create", "complete"])
async def test_beginning_and_end_are_tried_again_too(play: Play, sink: S3Sink, told: Told, name: str) -> None:
    play.instead[name].extend([refuse(500, "InternalError"), refuse(503, "SlowDown")])
    assert isinstance(await sink.put(UPLOAD), Receipt)
    assert Counter(play.steps()) == Counter([*WHOLE, name, name])
    assert [(error.op, type(error)) for error in told.retried] == [
        ("put multipart", ServerFault),
        ("put multipart", Throttled),
    ]


# --- the end of an upload -------------------------------------------------------------------------------------

RESULT = "<CompleteMultipartUploadResult><ETag>&quot;abc-7&quot;</ETag></CompleteMultipartUploadResult>"
NO_RESULTS = {
    "an error": refuse(200, "InternalError"),
    "a throttle": refuse(200, "SlowDown"),
    "truncated": reply(200, RESULT[:70]),
    "truncated on the way": Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + RESULT.encode()[:70], Then.CLOSE),
    "empty": reply(200),
    "a page": reply(200, "<html><body>Welcome!</body></html>"),
    "text": reply(200, "stored"),
    "no ETag": reply(200, "<CompleteMultipartUploadResult><Key>large</Key></CompleteMultipartUploadResult>"),
    "an empty ETag": reply(200, "<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>"),
    "no content": reply(204),
}


@pytest.mark.parametrize("name", NO_RESULTS)
async def test_only_a_whole_result_with_an_etag_is_a_receipt(play: Play, sink: S3Sink, told: Told, name: str) -> None:
    play.instead["complete"].extend([NO_RESULTS[name]] * ATTEMPTS)
    with pytest.raises(AsyncupError) as caught:
        await sink.put(UPLOAD)
    assert isinstance(caught.value, (ServerFault, Throttled, ConnectionLost))
    assert caught.value.disposition is Disposition.DEAD_LETTER
    assert Counter(play.steps()) == Counter([*WHOLE, "complete", "complete", "abort"])


async def test_blanks_before_a_result_only_keep_the_connection_alive(play: Play, sink: S3Sink) -> None:
    play.instead["complete"].append(reply(200, '<?xml version="1.0" encoding="UTF-8"?>\n' + " \n" * 500 + RESULT))
    assert (await sink.put(UPLOAD)).etag == '"abc-7"'


async def test_an_upload_that_s3_no_longer_knows_begins_anew(play: Play, sink: S3Sink, told: Told) -> None:
    """An answer was lost, and the object may be there or not; sent again, it is."""
    play.instead["complete"].extend([Answer(then=Then.RESET), refuse(404, "NoSuchUpload")])
    receipt = await told.retrier().run(sink.put, UPLOAD)
    assert isinstance(receipt, Receipt)
    asked = Counter(play.steps())
    assert asked["complete"] == 3
    assert {name: asked[name] for name in ("create", *PARTS, "abort")} == {"create": 2} | dict.fromkeys(PARTS, 2) | {
        "abort": 0
    }


# --- streamed bodies ------------------------------------------------------------------------------------------


class Slices:
    """The body of UPLOAD in slices that are no parts; `read` is how many of them were asked for, `opened` how often."""

    def __init__(self, fault: Callable[[int], BaseException | None] = lambda _: None, window: int = 64 * MIB) -> None:
        self.source = MemorySource([UPLOAD.body], slice_bytes=700_000)
        self.read = self.opened = 0

        def asked(_: int, piece: int) -> BaseException | None:
            self.read += 1
            self.opened += piece == 1
            return fault(piece)

        self.source.fault = asked
        self.upload = UPLOAD._replace(body=self.source.stream(("1", None, len(UPLOAD.body), None), window))


async def test_a_streamed_body_goes_in_the_same_parts_as_any_other(play: Play, sink: S3Sink) -> None:
    receipt = await sink.put(UPLOAD)
    parts = {step(request): request.body for request in play.server.requests}
    play.server.requests.clear()
    assert await sink.put(Slices().upload) == receipt
    assert play.steps() == WHOLE
    sent = {step(request): request.body for request in play.server.requests}
    assert [sent[part] for part in PARTS] == [parts[part] for part in PARTS]


@pytest.mark.parametrize(("window", "parts"), [(1, 1), (MIB, 1), (3 * MIB - 1, 2), (3 * MIB, 3), (64 * MIB, 4)])
async def test_of_a_streamed_body_only_as_many_parts_are_held_as_its_window_takes(
    play: Play, sink: S3Sink, window: int, parts: int
) -> None:
    gate = asyncio.Event()
    usual = play.answer
    play.server.usual = lambda request: Answer(usual(request).text, after=gate if "part" in step(request) else None)
    body = Slices(window=window)
    putting = asyncio.create_task(sink.put(body.upload))
    await play.server.wait_for_requests(1 + parts)
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(play.server.requests) == 1 + parts
    assert body.read == -(-parts * MIB // 700_000)
    gate.set()
    await putting
    assert play.server.busiest == parts


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_part_of_a_streamed_body_is_sent_again_as_it_is_held(
    play: Play, sink: S3Sink, told: Told, fault: str
) -> None:
    await sink.put(Upload("first", b""))
    play.server.requests.clear()
    play.instead["part 3"].extend(FAULTS[fault])
    body = Slices()
    await sink.put(body.upload)
    assert Counter(play.steps())["part 3"] > 1
    assert (body.opened, body.read) == (1, 9)
    again = [request.body for request in play.server.requests if step(request) == "part 3"]
    assert set(again) == {UPLOAD.body[2 * MIB : 3 * MIB]}


@pytest.mark.parametrize("piece", [1, 2, 5, 9])
async def test_a_streamed_body_whose_reading_fails_is_aborted_and_begins_anew(
    play: Play, sink: S3Sink, told: Told, piece: int
) -> None:
    faults = iter([ServerFault("read", "docs", "gone for a moment")])
    body = Slices(lambda number: next(faults, None) if number == piece else None)
    receipt = await told.retrier().run(sink.put, body.upload)
    assert receipt.size == len(UPLOAD.body)
    asked = Counter(play.steps())
    # what was never read from began no upload
    assert (asked["create"], asked["abort"], asked["complete"], body.opened) == (
        (2, 1, 1, 2) if piece else (1, 0, 1, 1)
    )
    assert body.source.opened == 0
    done = {step(request): request.body for request in play.server.requests}
    assert b"".join(done[part] for part in PARTS) == UPLOAD.body


async def test_of_a_streamed_body_the_first_error_goes_out_and_nothing_stays(play: Play, sink: S3Sink) -> None:
    play.instead["part 2"].extend([refuse(403, "AccessDenied")])
    body = Slices()
    with pytest.raises(AsyncupError, match="AccessDenied"):
        await sink.put(body.upload)
    assert "abort" in play.steps()
    assert body.source.opened == 0
