"""What the S3 sink sends, and what it makes of every answer: a receipt for an acknowledgement and an error for all else.

The classes are those of the retry table: what may succeed later, what is tried twice or once more, what ends the run
and what concerns one row. No error is of another library, and none shows a secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from asyncup.errors import (
    AsyncupError,
    BucketElsewhere,
    ClockSkewed,
    ConnectionLost,
    CredentialsExpired,
    DestinationRefused,
    Disposition,
    PayloadCorrupted,
    RowRefused,
    ServerFault,
    Throttled,
    Unreachable,
)
from asyncup.model import Receipt, Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from asyncup.sinks.s3.client import ControlClient, open_client
from tests.integration.scripted_s3 import (
    ETAG,
    Answer,
    Request,
    ScriptedS3,
    Then,
    accept,
    refuse,
    reply,
    scripted_s3,
)

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLETOKEN"
UPLOAD = Upload("folder/a key", b"some bytes", (("content-type", "text/plain"),))
LARGE = Upload("large", bytes(3_000_000))
OK = b'HTTP/1.1 200 OK\r\nETag: "x"\r\n'


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[ScriptedS3]:
    async with scripted_s3() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients() -> AsyncIterator[list[ControlClient]]:
    """The one client of all these tests."""
    opened: list[ControlClient] = []
    yield opened
    for client in opened:
        await client.stack.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def server(running: ScriptedS3) -> ScriptedS3:
    await running.begin_again()
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def client(server: ScriptedS3, clients: list[ControlClient], monkeypatch: pytest.MonkeyPatch) -> ControlClient:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    if not clients:
        clients.append(await open_client(S3Settings("bucket", endpoint_url=server.endpoint_url)))
    return clients[0]


@pytest.fixture(params=["wire", "botocore"])
def lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def open_sink(client: ControlClient, lane: str) -> AsyncIterator[Callable[..., S3Sink]]:
    """Opens sinks that share the client and take the lane of the test."""
    opened: list[S3Sink] = []

    def open_one(bucket: str = "bucket", **settings: Any) -> S3Sink:
        opened.append(S3Sink(S3Settings(bucket, s3_client=lane, **settings), client))
        return opened[-1]

    yield open_one
    for sink in opened:
        await sink.close_lane()


@pytest.fixture
def sink(open_sink: Callable[..., S3Sink]) -> S3Sink:
    return open_sink()


async def refusal(sink: S3Sink, upload: Upload = UPLOAD) -> AsyncupError:
    """The error of a put; it and all that led to it are without secrets."""
    with pytest.raises(AsyncupError) as caught:
        await sink.put(upload)
    error = caught.value
    assert (error.op, error.subject) == ("put", upload.key)
    shown = "".join(traceback.format_exception(error)) + str(error.hint)
    assert SECRET not in shown
    assert TOKEN not in shown
    return error


def policy(error: AsyncupError) -> tuple[Disposition, Disposition, int | None]:
    return error.disposition, error.exhausted, error.max_attempts


def region(request: Request) -> str:
    """The region that a request is signed for."""
    return request.headers["authorization"].split("/")[2]


# --- requests and connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"some bytes", bytes(3_000_000)], ids=len)
async def test_a_put_is_one_plain_signed_request(server: ScriptedS3, sink: S3Sink, body: bytes) -> None:
    receipt = await sink.put(Upload("folder/a key", body, (("content-type", "text/plain"),)))
    assert receipt == Receipt("folder/a key", len(body), ETAG)
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("PUT", "/bucket/folder/a%20key", body)
    headers = request.headers
    assert headers["content-length"] == str(len(body))
    assert headers["content-type"] == "text/plain"
    # over http nothing but the signature protects the body, so its hash is in it
    assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")
    unwanted = {"expect", "transfer-encoding", "content-encoding", "x-amz-trailer", "x-amz-decoded-content-length"}
    assert unwanted.isdisjoint(headers)
    assert not [name for name in headers if name.startswith("x-amz-checksum")]


async def test_a_connection_is_used_again(server: ScriptedS3, sink: S3Sink) -> None:
    await sink.put(UPLOAD)
    await sink.put(UPLOAD)
    assert [request.connection for request in server.requests] == [1, 1]


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET])
async def test_a_connection_that_was_closed_while_idle_is_not_an_error(
    server: ScriptedS3, sink: S3Sink, then: Then, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncup.sinks.s3.wire._IDLE_SECONDS", 0.0)
    server.answer(Answer(accept().text, then))
    await sink.put(UPLOAD)
    await server.wait_until_idle()
    await sink.put(UPLOAD)
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize("then", [Then.CLOSE, Then.RESET])
async def test_a_connection_that_is_closed_when_it_is_used_again_is_not_an_error(
    server: ScriptedS3, sink: S3Sink, then: Then, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncup.sinks.s3.wire._IDLE_SECONDS", 0.0)
    server.answer(accept(), Answer(then=then))
    await sink.put(UPLOAD)
    await sink.put(UPLOAD)
    assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_a_connection_that_is_reset_while_it_is_in_use_costs_an_attempt(
    server: ScriptedS3, client: ControlClient
) -> None:
    sink = S3Sink(S3Settings("bucket"), client)
    server.answer(accept(), Answer(then=Then.RESET))
    await sink.put(UPLOAD)
    assert type(await refusal(sink)) is ConnectionLost
    assert len(server.requests) == 2
    await sink.close_lane()


async def test_a_cancelled_put_closes_its_connection(server: ScriptedS3, sink: S3Sink) -> None:
    server.answer(Answer(then=Then.HANG))
    task = asyncio.create_task(sink.put(UPLOAD))
    await server.wait_for_requests(1)
    task.cancel()
    await server.wait_until_idle()
    assert task.cancelled()
    await sink.put(UPLOAD)


# --- answers --------------------------------------------------------------------------------------------------


async def test_what_may_succeed_later_is_for_the_pipeline_to_try_again(server: ScriptedS3, sink: S3Sink) -> None:
    answers = [
        (408, "", ServerFault),
        (429, "", Throttled),
        (499, "", ServerFault),
        (500, "", ServerFault),
        (502, "", ServerFault),
        (503, "", Throttled),
        (504, "", ServerFault),
        (400, "RequestTimeout", ServerFault),
        (400, "IncompleteBody", ServerFault),
        (409, "OperationAborted", ServerFault),
        (409, "ConditionalRequestConflict", ServerFault),
        (500, "InternalError", ServerFault),
        (503, "SlowDown", Throttled),
        (503, "ServiceUnavailable", Throttled),
        (400, "ThrottlingException", Throttled),  # of the key service behind the bucket
        (200, "SlowDown", Throttled),  # S3 may say so under a success
        (200, "InternalError", ServerFault),
    ]
    for number, (status, code, expected) in enumerate(answers, start=1):
        server.answer(refuse(status, code) if code else reply(status))
        error = await refusal(sink)
        assert type(error) is expected, (status, code)
        assert policy(error) == (Disposition.RETRY, Disposition.DEAD_LETTER, None)
        assert code in error.message
        assert len(server.requests) == number  # nobody beneath the pipeline tries again


async def test_a_damaged_payload_is_tried_twice(server: ScriptedS3, sink: S3Sink) -> None:
    for number, code in enumerate(("BadDigest", "XAmzContentSHA256Mismatch"), start=1):
        server.answer(refuse(400, code))
        error = await refusal(sink)
        assert type(error) is PayloadCorrupted, code
        assert policy(error) == (Disposition.RETRY, Disposition.DEAD_LETTER, 2)
        assert len(server.requests) == number


async def test_a_stale_request_is_tried_once_more_and_then_ends_the_run(server: ScriptedS3, sink: S3Sink) -> None:
    answers = [
        (403, "RequestTimeTooSkewed", ClockSkewed, "clock"),
        (400, "ExpiredToken", CredentialsExpired, "renew the credentials"),
        (400, "AuthorizationHeaderMalformed", BucketElsewhere, "--region"),
    ]
    for number, (status, code, expected, hint) in enumerate(answers, start=1):
        server.answer(refuse(status, code))
        error = await refusal(sink)
        assert type(error) is expected, code
        assert policy(error) == (Disposition.RETRY, Disposition.ABORT, 2)
        assert hint in str(error.hint)
        assert len(server.requests) == number


@pytest.mark.parametrize("accepted", [0, 1])
async def test_what_would_meet_every_row_ends_the_run_whenever_it_comes(
    server: ScriptedS3, sink: S3Sink, accepted: int
) -> None:
    for _ in range(accepted):
        await sink.put(UPLOAD)
    answers = [
        (404, "NoSuchBucket", "--to"),
        (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (400, "InvalidToken", "AWS_SESSION_TOKEN"),
    ]
    for number, (status, code, hint) in enumerate(answers, start=accepted + 1):
        server.answer(refuse(status, code, more=f"<Token-0>{TOKEN}</Token-0>"))  # S3 does send it back
        error = await refusal(sink)
        assert type(error) is DestinationRefused, code
        assert error.disposition is Disposition.ABORT
        assert hint in str(error.hint)
        assert len(server.requests) == number


async def test_what_concerns_one_object_is_the_rows_even_for_the_first(server: ScriptedS3, sink: S3Sink) -> None:
    codes = ("KeyTooLongError", "EntityTooLarge", "MetadataTooLarge", "InvalidArgument")
    for number, code in enumerate(codes, start=1):
        server.answer(refuse(400, code))
        error = await refusal(sink)
        assert type(error) is RowRefused, code
        assert error.disposition is Disposition.DEAD_LETTER
        assert len(server.requests) == number


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        pytest.param(refuse(403, "AccessDenied"), "s3:PutObject", id="AccessDenied"),
        pytest.param(reply(403), "s3:PutObject", id="403"),
        pytest.param(reply(404), "--to", id="404"),
        pytest.param(refuse(400, "NobodyKnows"), "the others", id="unknown"),
    ],
)
async def test_another_refusal_is_the_runs_before_the_first_success_and_the_rows_after_it(
    server: ScriptedS3, sink: S3Sink, answer: Answer, hint: str
) -> None:
    server.answer(answer, accept(), answer)
    before = await refusal(sink)
    assert type(before) is DestinationRefused
    assert hint in str(before.hint)
    await sink.put(UPLOAD)
    assert type(await refusal(sink)) is RowRefused
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 504])
async def test_the_servers_wish_for_a_pause_is_heard_with_every_status_that_may_mend(
    server: ScriptedS3, sink: S3Sink, status: int
) -> None:
    code = {409: "OperationAborted", 500: "InternalError", 503: "SlowDown"}.get(status)
    headers = {"Retry-After": "7"}
    server.answer(refuse(status, code, headers=headers) if code is not None else reply(status, headers=headers))
    error = await refusal(sink)
    assert isinstance(error, ServerFault)
    assert error.retry_after == 7.0


async def test_a_date_until_which_to_wait_is_reckoned_by_the_servers_own_clock(
    server: ScriptedS3, sink: S3Sink
) -> None:
    headers = {"Date": "Thu, 01 Jan 1998 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 1998 00:00:09 GMT"}
    server.answer(refuse(503, "SlowDown", headers=headers))
    error = await refusal(sink)
    assert isinstance(error, Throttled)
    assert error.retry_after == 9.0


async def test_the_servers_own_wish_for_a_pause_is_kept_within_a_minute(server: ScriptedS3, sink: S3Sink) -> None:
    wishes = {"7": 7.0, "0": 0.0, "3600": 60.0, "soon": None, "-1": None, "1e9": None, "\u00b2": None}
    for wish, seconds in wishes.items():
        headers = {"Retry-After": wish}
        for answer in (refuse(503, "SlowDown", headers=headers), reply(503, headers=headers)):
            server.answer(answer)
            error = await refusal(sink)
            assert isinstance(error, Throttled)
            assert error.retry_after == seconds, wish


@pytest.mark.parametrize(
    "page",
    ["<!DOCTYPE html><html><body>Sorry<br></body></html>", "<html><body>Sorry</body></html>", "Sorry", '{"Sorry": 1}'],
    ids=["html", "xhtml", "text", "json"],
)
async def test_an_error_page_of_something_in_between_counts_by_its_status(
    server: ScriptedS3, sink: S3Sink, page: str
) -> None:
    statuses = {
        403: DestinationRefused,
        404: DestinationRefused,
        408: ServerFault,
        500: ServerFault,
        502: ServerFault,
        503: Throttled,
    }
    for status, expected in statuses.items():
        server.answer(reply(status, page))
        error = await refusal(sink)
        assert type(error) is expected, status
        assert "Sorry" not in error.message


# --- redirects ------------------------------------------------------------------------------------------------


async def test_a_redirect_is_not_followed_to_where_it_leads(
    server: ScriptedS3, open_sink: Callable[..., S3Sink]
) -> None:
    for status in (301, 302, 303, 307, 308):
        await server.begin_again()
        sink = open_sink()
        answer = reply(status, headers={"Location": f"{server.endpoint_url}/elsewhere"})
        server.answer(*[answer] * 4)  # some more, for the question where the bucket is
        error = await refusal(sink)
        assert type(error) is BucketElsewhere, status
        assert "--region" in str(error.hint)
        assert [one.target for one in server.requests if one.method != "HEAD"] == ["/bucket/folder/a%20key"]
        assert {one.target for one in server.requests if one.method == "HEAD"} <= {"/bucket"}


@pytest.mark.parametrize("status", [301, 307])
async def test_a_put_goes_once_more_to_the_region_that_a_redirect_names(
    server: ScriptedS3, open_sink: Callable[..., S3Sink], lane: str, status: int
) -> None:
    sink = open_sink(f"moved-{lane}-{status}")
    answer = refuse(status, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"})
    if lane == "wire":
        # an attempt of its own, after botocore was told where the bucket is
        server.answer(answer, reply(301, headers={"x-amz-bucket-region": "eu-west-1"}))
        assert type(await refusal(sink)) is BucketElsewhere
    else:
        server.answer(answer)
    await sink.put(UPLOAD)
    await sink.put(UPLOAD)
    assert [region(request) for request in server.requests if request.method == "PUT"] == [
        "us-east-1",
        "eu-west-1",
        "eu-west-1",
    ]
    server.answer(answer, answer)
    assert type(await refusal(sink)) is BucketElsewhere


async def test_the_check_finds_the_region_so_that_every_put_is_one_request(
    server: ScriptedS3, open_sink: Callable[..., S3Sink], lane: str
) -> None:
    sink = open_sink(f"elsewhere-{lane}")
    server.answer(reply(301, headers={"x-amz-bucket-region": "eu-west-1"}))
    await sink.check()
    await sink.put(UPLOAD)
    assert [(one.method, region(one)) for one in server.requests] == [
        ("HEAD", "us-east-1"),
        ("HEAD", "eu-west-1"),
        ("PUT", "eu-west-1"),
    ]


# --- broken exchanges -----------------------------------------------------------------------------------------

BROKEN = {
    "closed without a word": Answer(then=Then.CLOSE),
    "reset after the body": Answer(then=Then.RESET),
    "reset before the body": Answer(then=Then.RESET, early=True),
    "another protocol": Answer(b"SSH-2.0-OpenSSH_9.6\r\n", Then.CLOSE),
    "garbage": Answer(bytes(range(256)), Then.CLOSE),
    "cut in the head": Answer(OK, Then.CLOSE),
    "cut in the body": Answer(OK + b"Content-Length: 9\r\n\r\n1", Then.CLOSE),
    "cut in a chunk": Answer(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n1", Then.CLOSE),
    "error cut in the body": Answer(b"HTTP/1.1 403 No\r\nContent-Length: 99\r\n\r\n<Error>", Then.CLOSE),
    "success without ETag and length": Answer(b"HTTP/1.1 200 OK\r\n\r\n", Then.CLOSE),
    "success of a login page": reply(200, "<html><body>Please log in.</body></html>"),
    "success without content": reply(204),
}


async def test_a_broken_exchange_is_no_receipt_and_may_be_tried_again(server: ScriptedS3, sink: S3Sink) -> None:
    for name, answer in BROKEN.items():
        await server.begin_again()
        server.answer(*[answer] * 2)
        error = await refusal(sink, LARGE if answer.early else UPLOAD)
        assert type(error) is ConnectionLost, name
        assert policy(error) == (Disposition.RETRY, Disposition.DEAD_LETTER, None)
        # aiohttp repeats a request whose connection died without an answer, at once and once
        assert len(server.requests) <= 2, name


async def test_an_error_of_no_known_shape_is_an_error(server: ScriptedS3, sink: S3Sink, lane: str) -> None:
    server.answer(reply(400, "<Error><Code><a/></Code><Code/></Error>"))
    expected = DestinationRefused if lane == "wire" else ConnectionLost  # which botocore cannot read
    assert type(await refusal(sink)) is expected


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(then=Then.HANG), id="no answer"),
        pytest.param(Answer(OK + b"Content-Length: 9\r\n\r\n1", Then.HANG), id="half an answer"),
        pytest.param(Answer(then=Then.HANG, early=True), id="no answer to the head"),
    ],
)
async def test_a_server_that_hangs_is_given_up_after_the_attempt_timeout(
    server: ScriptedS3, open_sink: Callable[..., S3Sink], answer: Answer
) -> None:
    server.answer(answer)
    sink = open_sink(attempt_timeout=0.2)
    async with asyncio.timeout(10):
        error = await refusal(sink)
        assert type(error) is ConnectionLost
        server.answer(Answer(then=Then.HANG))
        with pytest.raises(ConnectionLost):
            await sink.check()


async def test_nobody_listening_is_unreachable(lane: str) -> None:
    async with scripted_s3() as server:
        settings = S3Settings("bucket", endpoint_url=server.endpoint_url, no_sign_request=True, s3_client=lane)
        sink = await S3Sink.open(settings)
    error = await refusal(sink)
    assert type(error) is Unreachable
    assert policy(error) == (Disposition.RETRY, Disposition.ABORT, None)
    with pytest.raises(Unreachable):
        await sink.check()
    await sink.close()


async def test_an_answer_before_the_body_is_sent_counts(server: ScriptedS3, sink: S3Sink) -> None:
    for status, code, expected in ((403, "AccessDenied", DestinationRefused), (503, "SlowDown", Throttled)):
        server.answer(Answer(refuse(status, code).text, Then.HANG, early=True))
        error = await refusal(sink, LARGE)
        assert type(error) is expected, code
        assert code in error.message


# --- the check ------------------------------------------------------------------------------------------------


async def test_a_refusal_to_show_the_bucket_says_nothing_about_writing(server: ScriptedS3, sink: S3Sink) -> None:
    for number, status in enumerate((200, 400, 401, 403, 405), start=1):
        server.answer(reply(status))
        await sink.check()
        assert [(one.method, one.target) for one in server.requests] == [("HEAD", "/bucket")] * number


async def test_a_check_without_a_clear_answer_says_so(server: ScriptedS3, sink: S3Sink) -> None:
    answers: list[tuple[Answer, type[AsyncupError]]] = [
        (reply(404), DestinationRefused),
        (reply(303), BucketElsewhere),
        (reply(429), Throttled),
        (reply(500), ServerFault),
        (reply(503), Throttled),
        (Answer(b"garbage\r\n\r\n", Then.CLOSE), ConnectionLost),
    ]
    for answer, expected in answers:
        server.answer(answer)
        with pytest.raises(AsyncupError) as caught:
            await sink.check()
        assert type(caught.value) is expected
        assert (caught.value.op, caught.value.subject) == ("check bucket", "s3://bucket")
