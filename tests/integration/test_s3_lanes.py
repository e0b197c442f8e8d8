"""Which lane a run takes: its own, unless the way there takes botocore, which is then said once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncup.errors import BucketElsewhere, DestinationRefused
from asyncup.model import Upload
from asyncup.sinks.s3 import S3Settings, S3Sink
from tests.conftest import Bucket
from tests.integration.certificates import make_certificate
from tests.integration.forward_proxy import ForwardProxy, forward_proxy
from tests.integration.plays import Told
from tests.integration.scripted_s3 import (
    Answer,
    Request,
    ScriptedS3,
    answer_as_s3,
    lead_names_to,
    refuse,
    reply,
    scripted_s3,
    step,
)

UPLOAD = Upload("folder/a key", b"some bytes", (("cache-control", "max-age=60"),))
LARGE = Upload("folder/large", bytes(range(256)) * (10 << 10))


@pytest.fixture(autouse=True)
def no_exceptions(monkeypatch: pytest.MonkeyPatch, credentials: None) -> None:
    """This machine's own way out is nothing to these tests."""
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def proxy() -> AsyncIterator[ForwardProxy]:
    async with forward_proxy() as proxy:
        yield proxy


async def put(*uploads: Upload, check: bool = True, **settings: Any) -> list[str]:
    """Put objects at the same time, as a run does; what the sink told meanwhile."""
    told: list[str] = []
    sink = await S3Sink.open(S3Settings(**settings, part_bytes=1 << 20), say=told.append)
    try:
        if check:
            await sink.check()
        await asyncio.gather(*map(sink.put, uploads))
    finally:
        await sink.close()
    return told


def slower(why: str) -> list[str]:
    return [f"uploads go through botocore's client, which is slower: {why}"]


def lanes(server: ScriptedS3) -> set[str]:
    """The lanes that objects came by, by the names that clients give themselves."""
    return {one.headers["user-agent"].split("/")[0] for one in server.requests if one.method == "PUT"}


# --- proxies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("asked", ["wire", "botocore"])
async def test_objects_go_through_a_proxy_that_the_environment_names(
    rclone_bucket: Bucket, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, variable: str, asked: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    uploads = [Upload(f"key {number}", bytes(number)) for number in range(20)]
    told = await put(*uploads, bucket=rclone_bucket.name, s3_client=asked)
    assert told == (slower("the environment names a proxy for http") if asked == "wire" else [])
    assert rclone_bucket.objects() == {upload.key: upload.body for upload in uploads}
    assert set(proxy.hosts) == {f"127.0.0.1:{rclone_bucket.server.port}"}


@pytest.mark.parametrize(
    "exception", ["127.0.0.1", "*", "localhost,127.0.0.1", "127.0.0.1:{port}"], ids=["host", "all", "list", "port"]
)
async def test_a_host_that_is_to_be_reached_without_a_proxy_is(
    rclone_bucket: Bucket, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, exception: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", exception.format(port=rclone_bucket.server.port))
    assert await put(UPLOAD, bucket=rclone_bucket.name) == []
    assert rclone_bucket.objects() == {UPLOAD.key: UPLOAD.body}
    assert (proxy.hosts, proxy.tunnels) == ([], [])


async def test_a_proxy_for_another_scheme_is_not_asked(
    rclone_bucket: Bucket, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert await put(UPLOAD, bucket=rclone_bucket.name) == []
    assert (proxy.hosts, proxy.tunnels) == ([], [])


async def test_tls_goes_through_a_tunnel_and_is_checked_at_its_end(
    proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    certificate = make_certificate(tmp_path, "127.0.0.1")
    async with scripted_s3(certificate.context()) as server:
        server.usual = answer_as_s3
        place: dict[str, Any] = {"bucket": "bucket", "endpoint_url": server.endpoint_url}
        with pytest.raises(DestinationRefused, match="TLS failed"):
            await put(UPLOAD, check=False, **place)
        told = await put(UPLOAD, LARGE, ca_bundle=str(certificate.certificate), **place)
        assert told == slower("the environment names a proxy for https")
        assert b"".join(one.body for one in server.requests if step(one) == "put") == UPLOAD.body
        parts = sorted((one for one in server.requests if step(one).startswith("part")), key=step)
        assert b"".join(one.body for one in parts) == LARGE.body
        assert set(proxy.tunnels) == {f"127.0.0.1:{server.port}"}


# --- names of AWS ---------------------------------------------------------------------------------------------


async def test_an_access_point_is_reached_through_botocore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path, "*.s3-accesspoint.eu-central-1.amazonaws.com")
    async with scripted_s3(certificate.context()) as server:
        server.usual = answer_as_s3
        lead_names_to(server, monkeypatch)
        arn = "arn:aws:s3:eu-central-1:123456789012:accesspoint/my-point"
        told = await put(UPLOAD, LARGE, bucket=arn, region="eu-central-1", ca_bundle=str(certificate.certificate))
        host = "my-point-123456789012.s3-accesspoint.eu-central-1.amazonaws.com"
        assert {one.headers["host"] for one in server.requests} == {host}
        stored = {one.target.partition("?")[0] for one in server.requests if one.method == "PUT"}
        assert stored == {"/folder/a%20key", "/folder/large"}
        assert lanes(server) == {"aiobotocore"}
    assert told == slower("the destination is an access point's ARN")


SESSION = (
    "<CreateSessionResult><Credentials><AccessKeyId>ASIASESSION000000000</AccessKeyId>"
    "<SecretAccessKey>secret</SecretAccessKey><SessionToken>of the session</SessionToken>"
    "<Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"
)


async def test_a_bucket_of_s3_express_is_reached_through_botocore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are signed for a session, and an ETag is no MD5."""

    def answer(request: Request) -> Answer:
        return reply(200, SESSION) if "session" in request.target else reply(200, headers={"ETag": f'"{"0" * 32}"'})

    certificate = make_certificate(tmp_path, "*.s3express-euc1-az1.eu-central-1.amazonaws.com")
    async with scripted_s3(certificate.context()) as server:
        server.usual = answer
        lead_names_to(server, monkeypatch)
        told = await put(
            UPLOAD, bucket="site--euc1-az1--x-s3", region="eu-central-1", ca_bundle=str(certificate.certificate)
        )
        (stored,) = [one for one in server.requests if one.method == "PUT"]
    assert told == slower("the bucket is an S3 Express bucket, whose requests are signed for sessions of its own")
    assert (stored.target, stored.body) == ("/folder/a%20key", UPLOAD.body)
    assert stored.headers["x-amz-s3session-token"] == "of the session"
    assert "ASIASESSION000000000/" in stored.headers["authorization"]


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
async def test_every_put_finds_a_bucket_that_lives_in_another_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: str, signed: bool
) -> None:
    here, there = ("bucket.s3.eu-central-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com")
    moved = refuse(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"})
    certificate = make_certificate(tmp_path, here, there)
    uploads = [Upload(f"key {number}", bytes(number)) for number in range(20)]
    async with scripted_s3(certificate.context()) as server:
        server.usual = lambda request: moved if request.headers["host"] == here else answer_as_s3(request)
        lead_names_to(server, monkeypatch)
        settings = S3Settings(
            "bucket",
            region="eu-central-1",
            ca_bundle=str(certificate.certificate),
            no_sign_request=not signed,
            s3_client=lane,
        )
        sink = await S3Sink.open(settings)
        receipts = await asyncio.gather(*[Told().retrier().run(sink.put, upload) for upload in uploads])
        await sink.close()
        assert [receipt.key for receipt in receipts] == [upload.key for upload in uploads]
        stored = [one for one in server.requests if one.method == "PUT" and one.headers["host"] == there]
        assert {one.target: one.body for one in stored} == {f"/key%20{n}": bytes(n) for n in range(20)}
        assert len(stored) == 20
        if signed:
            assert {one.headers["authorization"].split("/")[2] for one in stored} == {"eu-west-1"}


async def test_a_bucket_that_moves_behind_a_proxy_ends_the_run_with_the_ways_on(
    proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", ".eu-central-1.amazonaws.com")
    certificate = make_certificate(
        tmp_path, "bucket.s3.eu-central-1.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com"
    )
    async with scripted_s3(certificate.context()) as server:
        lead_names_to(server, monkeypatch)
        moved = refuse(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"})
        server.answer(moved, reply(301, headers={"x-amz-bucket-region": "eu-west-1"}))
        settings = S3Settings("bucket", region="eu-central-1", ca_bundle=str(certificate.certificate))
        sink = await S3Sink.open(settings)
        with pytest.raises(BucketElsewhere):
            await sink.put(UPLOAD)
        with pytest.raises(DestinationRefused, match="proxy") as caught:
            await sink.put(UPLOAD)
        await sink.close()
    assert caught.value.hint is not None
    assert "--s3-client botocore" in caught.value.hint


# --- what is asked for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "name"), [("wire", "asyncup"), ("botocore", "aiobotocore")])
async def test_the_lane_that_is_asked_for_is_taken_without_a_word(asked: str, name: str) -> None:
    async with scripted_s3() as server:
        assert await put(UPLOAD, bucket="bucket", endpoint_url=server.endpoint_url, s3_client=asked) == []
        assert lanes(server) == {name}
