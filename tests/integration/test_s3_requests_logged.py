"""What the logger `asyncup.s3` says of requests: those that failed with both ids of S3, never a secret, and nothing unasked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncup.errors import AsyncupError, ConnectionLost, ObjectExists, RowRefused, Throttled
from asyncup.model import Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from asyncup.sinks.s3.exchange import Connection
from tests.integration.scripted_s3 import Answer, ScriptedS3, Then, accept, answer_as_s3, refuse, reply, scripted_s3

KEY, SECRET, TOKEN = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEXAMPLETOKEN"
IDS = {
    "x-amz-request-id": "4442587FB7D0A2F9",
    "x-amz-id-2": "vlR7PnpV2Ce81l0PRw6jlUpck7Jo5ZsQjryTjKlc5aLWGVHPZLj5NeC6qMa0",
}
CUT_SHORT = Answer(b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n<Err", Then.CLOSE)
SLOW = refuse(503, "SlowDown", headers=IDS)


@asynccontextmanager
async def sink_to(server: ScriptedS3, lane: str, **settings: Any) -> AsyncIterator[S3Sink]:
    sink = await S3Sink.open(S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane, **settings))
    try:
        yield sink
    finally:
        await sink.close()


async def put(sink: S3Sink, key: str = "folder/a key", size: int = 10) -> AsyncupError | None:
    """One attempt; its error, if it has one."""
    try:
        await sink.put(Upload(key, bytes(size), ()))
    except AsyncupError as error:
        return error
    return None


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What records say of requests, without the seconds that they took. None of them holds a secret, or is several lines."""
    requests = []
    for record in (one for one in caplog.records if one.name.startswith("asyncup")):
        text = record.getMessage()
        for secret in (KEY, SECRET, TOKEN, "Signature", "AWS4", "uthorization", "X-Amz-", "uploadId"):
            assert secret not in text + repr(record.__dict__)
        assert text.isprintable()
        request: dict[str, Any] = dict(getattr(record, "request"))  # noqa: B009 - given with `extra`
        assert request.pop("seconds") >= 0
        assert record.name == "asyncup.s3"
        requests.append({name: value for name, value in request.items() if value is not None})
    caplog.clear()
    return requests


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("lane", ["wire", "botocore"])
async def test_requests_that_fail_or_come_again_are_told_with_the_ids_that_aws_support_asks_for(
    lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncup.s3")
    async with scripted_s3() as server, sink_to(server, lane) as sink:
        await sink.check()
        here = {"host": f"127.0.0.1:{server.port}", "bucket": "bucket"}
        (asked,) = told(caplog)
        assert asked == {"method": "HEAD", **here, "status": 200, "attempt": 1}
        assert await put(sink) is None
        assert told(caplog) == []

        server.answer(SLOW, CUT_SHORT, accept())
        throttled = await put(sink)
        assert isinstance(throttled, Throttled)
        assert (throttled.request_id, throttled.host_id) == tuple(IDS.values())
        assert isinstance(await put(sink), ConnectionLost)
        assert await put(sink) is None
        this = {"method": "PUT", **here, "key": "folder/a key"}
        ids = {"request_id": IDS["x-amz-request-id"], "host_id": IDS["x-amz-id-2"]}
        refused, broken, stored = told(caplog)
        assert refused == {**this, "status": 503, "code": "SlowDown", **ids, "attempt": 1}
        assert broken.pop("failure")
        assert broken == {**this, "attempt": 2}
        assert stored == {**this, "status": 200, "attempt": 3}

        server.answer(refuse(403, "AccessDenied", headers=IDS), refuse(412, "PreconditionFailed", headers=IDS))
        denied, exists = await put(sink, "a\nb\x1b"), await put(sink)
        assert isinstance(denied, RowRefused)
        assert denied.request_id == IDS["x-amz-request-id"]
        assert isinstance(exists, ObjectExists)
        assert [(one["key"], one["status"]) for one in told(caplog)] == [("a\nb\x1b", 403)]


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("lane", ["wire", "botocore"])
async def test_every_request_is_told_where_all_are_asked_for_those_for_parts_with_their_numbers(
    lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asyncup.s3")
    async with scripted_s3() as server, sink_to(server, lane, part_bytes=1 << 20) as sink:
        server.usual = answer_as_s3
        assert await put(sink, "small") is None
        assert await put(sink, "large", 2 << 20) is None
    requests = [(one["method"], one["key"], one.get("part"), one["status"]) for one in told(caplog)]
    assert sorted(requests, key=repr) == [
        ("POST", "large", None, 200),
        ("POST", "large", None, 200),
        ("PUT", "large", 1, 200),
        ("PUT", "large", 2, 200),
        ("PUT", "small", None, 200),
    ]


@pytest.mark.usefixtures("credentials")
async def test_where_nobody_listens_nothing_is_in_the_way_of_a_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "asyncup.s3")
    async with scripted_s3() as server, sink_to(server, "wire") as sink:
        assert await put(sink) is None
        server.answer(SLOW, reply(500))
        assert isinstance(await put(sink), Throttled)
        lane: Any = sink._lane
        (connection,) = {type(one) for one in lane._pools[-1]._open} or {Connection}
        assert (connection, lane._pools[-1]._kind) == (Connection, Connection)
    assert told(caplog) == []
