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
from collections.abc import Iterator

import pytest
import pytest_asyncio

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.errors import AsyncupError, ConnectionLost, Disposition, ServerFault, Throttled
from asyncup.model import Receipt, Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from asyncup.sinks.s3.multipart import parts_of
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
    for name, value in (("PART_BYTES", 16), ("MAX_PARTS", 10), ("MIB", 4)):
        monkeypatch.setattr(f"asyncup.sinks.s3.multipart.{name}", value)
    for size in range(1, 1000):
        body = random.Random(size).randbytes(size)
        parts = list(parts_of(body))
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


@pytest.fixture
def real_parts(small_parts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the size that users meet."""
    for place in ("asyncup.sinks.s3.sink.PART_BYTES", "asyncup.sinks.s3.multipart.PART_BYTES"):
        monkeypatch.setattr(place, 16 * MIB)


@pytest.mark.parametrize("lane", ["wire"], indirect=True)
@pytest.mark.usefixtures("real_parts")
async def test_the_body_is_not_copied_on_its_way(sinks: Sinks, lane: str, null_s3: RunningSimulator) -> None:
    sink = await sinks.open(lane, null_s3.endpoint_url, no_sign_request=True)
    await sink.put(Upload("first", b""))
    gc.collect()
    tracemalloc.start()
    await sink.put(LARGE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * MIB


@pytest.mark.usefixtures("real_parts")
async def test_forty_megabytes_arrive_at_a_server_that_checks_signatures(rclone_bucket: Bucket, lane: str) -> None:
    sink = await S3Sink.open(S3Settings(rclone_bucket.name, s3_client=lane))
    await sink.put(LARGE)
    await sink.close()
    assert rclone_bucket.objects() == {LARGE.key: LARGE.body}


@pytest.mark.usefixtures("real_parts")
async def test_forty_megabytes_arrive_at_a_server_that_checks_parts(
    sinks: Sinks, moto_bucket: MotoBucket, lane: str
) -> None:
    sink = await sinks.open(lane, moto_bucket.server.endpoint_url, moto_bucket.name)
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
