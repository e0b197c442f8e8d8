"""Objects in parts that do not come to their end: the upload is aborted, or named to the user; nothing is left behind."""

from __future__ import annotations

import asyncio
import random
import shlex
from collections import Counter

import pytest
import pytest_asyncio

from asyncup.errors import (
    AsyncupError,
    ClockSkewed,
    ConnectionLost,
    DestinationRefused,
    Disposition,
    PayloadCorrupted,
    RowRefused,
    ServerFault,
    Throttled,
)
from asyncup.flow.ending import Grace
from asyncup.flow.retry import Interrupted
from asyncup.model import Upload
from asyncup.sinks.s3 import S3Sink
from tests.integration.conftest import Sinks
from tests.integration.plays import Play, Told
from tests.integration.scripted_s3 import (
    UPLOAD_ID,
    Answer,
    Request,
    Then,
    answer_as_s3,
    refuse,
    reply,
    step,
)
from tests.moto_server import MotoBucket

MIB = 1 << 20
UPLOAD = Upload("folder/it's large", random.Random(1).randbytes(6 * MIB + 1))
GARBAGE = Answer(b"garbage\r\n\r\n", Then.CLOSE)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("credentials", "small_parts")]


@pytest_asyncio.fixture(loop_scope="module")
async def sink(sinks: Sinks, play: Play, told: Told, lane: str) -> S3Sink:
    """A sink to the scripted server."""
    return await sinks.open(lane, play.server.endpoint_url, retrier=told.retrier(), say=told.notices.append)


@pytest.fixture
def short_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.sinks.s3.multipart.ABORT_SECONDS", 0.1)


# --- failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "expected", "disposition"),
    [
        pytest.param([refuse(500, "InternalError")] * 3, ServerFault, Disposition.DEAD_LETTER, id="InternalError"),
        pytest.param([refuse(400, "BadDigest")] * 2, PayloadCorrupted, Disposition.DEAD_LETTER, id="BadDigest"),
        pytest.param([refuse(400, "InvalidArgument")], RowRefused, Disposition.DEAD_LETTER, id="InvalidArgument"),
        pytest.param([refuse(403, "AccessDenied")], DestinationRefused, Disposition.ABORT, id="AccessDenied"),
        pytest.param([refuse(403, "RequestTimeTooSkewed")] * 2, ClockSkewed, Disposition.ABORT, id="clock"),
        pytest.param([GARBAGE] * 6, ConnectionLost, Disposition.DEAD_LETTER, id="garbage"),
    ],
)
@pytest.mark.parametrize("name", ["part 2", "complete"])
async def test_what_fails_for_good_aborts_the_upload(
    play: Play,
    sink: S3Sink,
    told: Told,
    name: str,
    answers: list[Answer],
    expected: type[AsyncupError],
    disposition: Disposition,
) -> None:
    play.instead[name].extend(answers)
    with pytest.raises(AsyncupError) as caught:
        await sink.put(UPLOAD)
    assert type(caught.value) is expected
    assert caught.value.disposition is disposition
    asked = [step(request) for request in play.server.requests]
    assert Counter(asked)["abort"] == 1
    assert Counter(asked)["complete"] == (0 if name == "part 2" else len(answers) if answers[0] is not GARBAGE else 3)
    (abort,) = [request for request in play.server.requests if step(request) == "abort"]
    assert abort.target == "/bucket/folder/it%27s%20large?uploadId=an%20upload%26id%2F"
    assert told.notices == []


async def test_the_error_of_a_part_tells_what_led_to_it(play: Play, sink: S3Sink) -> None:
    play.instead["part 2"].extend([Answer(then=Then.RESET)] * 6)
    with pytest.raises(ConnectionLost) as caught:
        await sink.put(UPLOAD)
    assert caught.value.__cause__ is not None
    assert (caught.value.op, caught.value.subject) == ("put part", UPLOAD.key)


async def test_an_upload_that_never_began_is_not_aborted(play: Play, sink: S3Sink) -> None:
    play.instead["create"].append(refuse(403, "AccessDenied"))
    with pytest.raises(DestinationRefused):
        await sink.put(UPLOAD)
    play.instead["create"].extend([reply(200), reply(200, "<html>"), reply(200, "<Initiate")])
    with pytest.raises(AsyncupError):
        await sink.put(UPLOAD)
    assert set(play.steps()) == {"create"}


async def test_a_failure_leaves_no_upload_behind(sinks: Sinks, moto_bucket: MotoBucket, told: Told, lane: str) -> None:
    sink = await sinks.open(lane, moto_bucket.server.endpoint_url, moto_bucket.name, told.retrier())
    with moto_bucket.server.refusing(lambda asked: "partNumber=3" in asked), pytest.raises(Throttled):
        await sink.put(UPLOAD)
    assert any("partNumber=1" in asked for asked in moto_bucket.server.requests)
    assert await asyncio.to_thread(moto_bucket.uploads) == []
    assert await asyncio.to_thread(moto_bucket.objects) == {}
    await sink.put(UPLOAD)
    assert await asyncio.to_thread(moto_bucket.objects) == {UPLOAD.key: UPLOAD.body}


# --- interruption ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["create", "part 2", "complete"])
async def test_an_upload_is_aborted_wherever_it_is_cancelled(play: Play, sink: S3Sink, told: Told, name: str) -> None:
    gate, last = asyncio.Event(), asyncio.Event()
    play.instead[name].append(Answer(answer_as_s3(request_of(name)).text, after=gate))
    play.instead["abort"].append(Answer(reply(204).text, after=last))
    putting = asyncio.create_task(sink.put(UPLOAD))
    async with asyncio.timeout(4):  # an abort has five seconds
        await play.reached(name)
        putting.cancel()
        if name == "create":  # only its answer tells what is to be aborted
            await asyncio.sleep(0)
            gate.set()
        await play.reached("abort")
        putting.cancel()  # a second interruption does not stop it
        await asyncio.sleep(0)
        assert not putting.done()
        last.set()
        await asyncio.wait([putting])
    gate.set()
    assert putting.cancelled()
    assert play.steps().count("abort") == 1
    assert told.notices == []


def request_of(name: str) -> Request:
    """A request of a step, to which the usual answer does not depend on the rest."""
    asked = {"create": ("POST", "/b/k?uploads"), "complete": ("POST", "/b/k?uploadId=1")}
    method, target = asked.get(name, ("PUT", f"/b/k?partNumber={name[-1]}&uploadId=1"))
    return Request(method, target, {}, b"", 1)


@pytest.mark.parametrize("name", ["part 2", "complete"])
async def test_a_cancelled_upload_leaves_nothing_behind(
    sinks: Sinks, moto_bucket: MotoBucket, lane: str, name: str
) -> None:
    sink = await sinks.open(lane, moto_bucket.server.endpoint_url, moto_bucket.name)
    with moto_bucket.server.holding(is_complete if name == "complete" else is_part_2) as hold:
        putting = asyncio.create_task(sink.put(UPLOAD))
        assert await asyncio.to_thread(hold.reached.wait, 10)
        assert len(await asyncio.to_thread(moto_bucket.uploads)) == 1
        putting.cancel()
        await asyncio.wait([putting])
        assert await asyncio.to_thread(moto_bucket.uploads) == []
    assert putting.cancelled()


def is_part_2(asked: str) -> bool:
    return "partNumber=2" in asked


def is_complete(asked: str) -> bool:
    return asked.startswith("POST") and "uploadId=" in asked


async def test_a_drain_between_two_attempts_ends_the_upload_and_leaves_the_row_unsettled(
    play: Play, sink: S3Sink, told: Told
) -> None:
    told.draining = True
    play.instead["part 2"].append(refuse(503, "SlowDown"))
    with pytest.raises(Interrupted):
        await sink.put(UPLOAD)
    assert play.steps()[-1] == "abort"


@pytest.mark.usefixtures("short_abort")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refuse(500, "InternalError"), id="refused"),
        pytest.param(Answer(then=Then.HANG), id="no answer"),
        pytest.param(GARBAGE, id="garbage"),
    ],
)
async def test_an_upload_that_cannot_be_aborted_is_named_with_the_command_that_does(
    play: Play, sink: S3Sink, told: Told, answer: Answer
) -> None:
    play.instead["part 1"].append(refuse(403, "AccessDenied"))
    play.instead["abort"].append(answer)
    with pytest.raises(DestinationRefused):
        await sink.put(UPLOAD)
    (notice,) = told.notices
    assert shlex.split(notice[notice.index("aws s3api") :]) == [
        *("aws", "s3api", "abort-multipart-upload", "--bucket=bucket", f"--key={UPLOAD.key}"),
        *(f"--upload-id={UPLOAD_ID}", f"--endpoint-url={play.server.endpoint_url}"),
    ]


async def test_an_upload_that_is_gone_needs_no_abort(play: Play, sink: S3Sink, told: Told) -> None:
    play.instead["part 1"].append(refuse(404, "NoSuchUpload"))
    play.instead["abort"].append(refuse(404, "NoSuchUpload"))
    with pytest.raises(AsyncupError):
        await sink.put(UPLOAD)
    assert play.steps()[-1] == "abort"
    assert told.notices == []


async def test_an_upload_without_a_name_is_not_aborted(play: Play, sink: S3Sink) -> None:
    """The request to abort it would delete the object that is there."""
    gate = asyncio.Event()
    play.instead["create"].append(Answer(reply(200).text, after=gate))
    putting = asyncio.create_task(sink.put(UPLOAD))
    await play.reached("create")
    putting.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait([putting])
    assert putting.cancelled()
    assert play.steps() == ["create"]


@pytest.mark.parametrize("lost", [Answer(then=Then.RESET), reply(200, "<html></html>"), GARBAGE])
async def test_attempts_to_begin_whose_answers_were_lost_are_told_once(
    play: Play, sink: S3Sink, told: Told, lost: Answer
) -> None:
    play.instead["create"].extend([lost] * 2)
    await sink.put(UPLOAD)
    (notice,) = told.notices
    assert f"list-multipart-uploads --bucket=bucket {shlex.quote(f'--prefix={UPLOAD.key}')}" in notice
    play.instead["create"].append(refuse(500, "InternalError"))
    await sink.put(UPLOAD)
    assert len(told.notices) == 1


@pytest.mark.parametrize("signals", [1, 2])
async def test_an_abort_has_the_time_that_the_end_of_the_run_leaves_it(
    play: Play, sinks: Sinks, told: Told, lane: str, signals: int
) -> None:
    grace = Grace(drain_timeout=0.3)
    sink = await sinks.open(lane, play.server.endpoint_url, say=told.notices.append, grace=grace)
    clock = asyncio.get_running_loop().time
    play.instead["part 1"].append(refuse(403, "AccessDenied"))
    play.instead["abort"].append(Answer(then=Then.HANG))
    putting = asyncio.create_task(sink.put(UPLOAD))
    await play.reached("abort")
    begun = clock()
    for number in range(signals):
        grace.interrupted(number + 1)
    await asyncio.wait([putting])
    assert clock() - begun < (1.2 if signals == 2 else 1.7)
    assert isinstance(putting.exception(), DestinationRefused)
    (notice,) = told.notices
    assert "aws s3api abort-multipart-upload" in notice


@pytest.mark.usefixtures("short_abort")
async def test_an_upload_whose_name_nobody_heard_is_told_with_the_command_that_finds_it(
    play: Play, sink: S3Sink, told: Told
) -> None:
    play.instead["create"].append(Answer(then=Then.HANG))
    putting = asyncio.create_task(sink.put(UPLOAD))
    await play.reached("create")
    putting.cancel()
    await asyncio.wait([putting])
    assert putting.cancelled()
    (notice,) = told.notices
    assert shlex.split(notice[notice.index("aws s3api") :]) == [
        *("aws", "s3api", "list-multipart-uploads", "--bucket=bucket", f"--prefix={UPLOAD.key}"),
        f"--endpoint-url={play.server.endpoint_url}",
    ]
