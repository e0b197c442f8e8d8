"""A machine whose clock is wrong: S3 says so once, and every request after it is signed by S3's clock."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator
from email.utils import format_datetime

import pytest
import pytest_asyncio

from asyncup.errors import ClockSkewed
from asyncup.flow.retry import Retrier
from asyncup.model import Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from tests.integration.plays import Told
from tests.integration.scripted_s3 import Answer, Request, ScriptedS3, answer_as_s3, refuse, scripted_s3

AHEAD = dt.timedelta(hours=7)
LARGE = Upload("large", bytes(17 << 20))


def _judge(request: Request) -> Answer:
    """Refuse what is signed for another time than the server's, as S3 does."""
    now = dt.datetime.now(dt.timezone.utc) + AHEAD
    signed = dt.datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.timezone.utc)
    assert re.search(rf"/{signed:%Y%m%d}/us-east-1/s3/aws4_request,", request.headers["authorization"])
    if abs(signed - now) > dt.timedelta(minutes=15):
        return refuse(403, "RequestTimeTooSkewed", headers={"Date": format_datetime(now, usegmt=True)})
    return answer_as_s3(request)


@pytest_asyncio.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    async with scripted_s3() as running:
        running.usual = _judge
        yield running


@pytest.mark.parametrize("lane", ["wire", "botocore"])
@pytest.mark.parametrize("upload", [Upload("small", b"x"), LARGE], ids=["put", "multipart"])
async def test_a_wrong_clock_costs_one_attempt_and_one_notice(server: ScriptedS3, lane: str, upload: Upload) -> None:
    told = Told()
    settings = S3Settings("bucket", endpoint_url=server.endpoint_url, s3_client=lane)
    sink = await S3Sink.open(settings, told.retrier(), told.notices.append)
    try:
        retrier: Retrier = told.retrier()
        await retrier.run(sink.put, upload)
        await retrier.run(sink.put, upload._replace(key="another"))
    finally:
        await sink.close()
    assert [type(error) for error in told.retried] == [ClockSkewed]
    assert told.notices == ["this machine's clock is 420 min behind S3's; requests are signed by S3's from now on"]


async def test_a_wrong_clock_is_found_out_by_a_look_at_an_object_too(server: ScriptedS3) -> None:
    """HEAD is refused without a word."""
    told = Told()
    settings = S3Settings("bucket", endpoint_url=server.endpoint_url)
    sink = await S3Sink.open(settings, told.retrier(), told.notices.append)
    try:
        found = await told.retrier().run(sink.objects(told.retrier()).look, "key")
    finally:
        await sink.close()
    assert found is not None
    assert [type(error) for error in told.retried] == [ClockSkewed]


async def test_what_one_client_of_a_run_has_learned_helps_the_other(server: ScriptedS3) -> None:
    """Small objects are signed here, what frames large ones by botocore; the clock is set wrong in between."""
    told = Told()
    sink = await S3Sink.open(
        S3Settings("bucket", endpoint_url=server.endpoint_url), told.retrier(), told.notices.append
    )
    try:
        server.usual = answer_as_s3
        await sink.put(Upload("small", b"x"))
        server.usual = _judge
        await told.retrier().run(sink.put, LARGE)
        await told.retrier().run(sink.put, Upload("small", b"x"))
    finally:
        await sink.close()
    assert {type(error) for error in told.retried} == {ClockSkewed}
    assert len(told.notices) == 1


async def test_a_date_that_explains_nothing_ends_the_run(server: ScriptedS3) -> None:
    """The server calls the time wrong, and then names the same."""
    now = dt.datetime.now(dt.timezone.utc)
    server.usual = lambda _: refuse(403, "RequestTimeTooSkewed", headers={"Date": format_datetime(now, usegmt=True)})
    told = Told()
    sink = await S3Sink.open(
        S3Settings("bucket", endpoint_url=server.endpoint_url), told.retrier(), told.notices.append
    )
    try:
        with pytest.raises(ClockSkewed) as caught:
            await told.retrier().run(sink.put, Upload("small", b"x"))
    finally:
        await sink.close()
    assert caught.value.attempts == 2
    assert told.notices == []
    assert "clock" in str(caught.value.hint)
