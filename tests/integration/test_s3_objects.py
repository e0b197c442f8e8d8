"""Everything that an object can be given, through both lanes: the same requests, and the same objects on the other side.

Requests are compared as they came over the wire, signatures included; objects are read from moto, with boto3.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncup.errors import DestinationRefused, ObjectExists, PayloadCorrupted
from asyncup.model import Headers, Upload
from asyncup.render.headervalues import disposition_value, metadata_value
from asyncup.sinks.s3 import S3Settings, S3Sink
from tests.conftest import Bucket
from tests.integration.certificates import make_certificate
from tests.integration.conftest import Sinks
from tests.integration.scripted_s3 import Request, ScriptedS3, answer_as_s3, lead_names_to, reply, scripted_s3, step
from tests.moto_server import MotoBucket

LANES = ("wire", "botocore")
MIB = 1 << 20
BODY = bytes(range(256)) * 4
LARGE = bytes(range(256)) * (10 << 10)  # three parts of a MiB, the last one shorter
KMS_KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE%TOKEN/+="
#: What botocore adds on its own account, and no server looks at.
MEANINGLESS = {"accept", "accept-encoding", "amz-sdk-invocation-id", "amz-sdk-request", "user-agent"}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("credentials", "small_parts")]


@dataclass(frozen=True)
class Case:
    """What an object is given, and some of what S3 then says of it."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    headers: Headers = ()
    expected: dict[str, Any] = field(default_factory=dict)


CONTENT = Case(
    "content headers",
    headers=(
        ("content-type", 'text/html; charset="utf-8"'),
        ("content-encoding", "gzip"),
        ("content-disposition", disposition_value('attachment; filename="Größe 1.txt"', "", "")),
        ("content-language", "de-DE, en"),
        ("cache-control", "max-age=60,  public"),
    ),
    expected={
        "ContentType": 'text/html; charset="utf-8"',
        "ContentEncoding": "gzip",
        "ContentDisposition": "attachment; filename=\"Gr__e 1.txt\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%201.txt",
        "ContentLanguage": "de-DE, en",
        "CacheControl": "max-age=60,  public",
    },
)
METADATA = Case(
    "metadata",
    headers=(
        ("x-amz-meta-plain", "a value"),
        ("x-amz-meta-signs", '100%s %d %% {} "quoted" it\'s; a=b,c\\'),
        ("x-amz-meta-with.dots-and-dashes", "x"),
        ("x-amz-meta-blanks", "two  blanks"),
        ("x-amz-meta-empty", ""),
        ("x-amz-meta-beyond", metadata_value("Größe 日本語 🗝", "", "")),
    ),
    expected={
        "Metadata": {
            "plain": "a value",
            "signs": '100%s %d %% {} "quoted" it\'s; a=b,c\\',
            "with.dots-and-dashes": "x",
            "blanks": "two  blanks",
            "empty": "",
            "beyond": "=?UTF-8?B?R3LDtsOfZSDml6XmnKzoqp4g8J+XnQ==?=",
        }
    },
)
TAGS = Case(
    "tags",
    headers=(("x-amz-tagging", "team=web&a%20key=a%20value%2Band%20more&gr%C3%B6%C3%9Fe=%E6%97%A5%E6%9C%AC&empty="),),
    expected={"Tags": {"team": "web", "a key": "a value+and more", "größe": "日本", "empty": ""}},
)
STORAGE = Case("storage class", {"storage_class": "STANDARD_IA"}, expected={"StorageClass": "STANDARD_IA"})
SSE_S3 = Case("SSE-S3", {"sse": "AES256"}, expected={"ServerSideEncryption": "AES256"})
SSE_KMS = Case(
    "SSE-KMS",
    {"sse": "aws:kms", "sse_kms_key_id": KMS_KEY},
    expected={"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": KMS_KEY},
)
ACL = Case("ACL", {"acl": "public-read"}, expected={"Grants": [("", "FULL_CONTROL"), (ALL_USERS, "READ")]})
OWNER = Case("expected owner", {"expected_bucket_owner": "123456789012", "request_payer": "requester"})
CRC32, SHA256, NONE = (Case(name, {"checksum": name}) for name in ("crc32", "sha256", "none"))
SINGLE = (Case("nothing"), CONTENT, METADATA, TAGS, STORAGE, SSE_S3, SSE_KMS, ACL, OWNER, CRC32, SHA256, NONE)
ALL = Case(
    "all together",
    STORAGE.settings | SSE_KMS.settings | ACL.settings | OWNER.settings | CRC32.settings,
    CONTENT.headers + METADATA.headers + TAGS.headers,
    CONTENT.expected | METADATA.expected | TAGS.expected | STORAGE.expected | SSE_KMS.expected | ACL.expected,
)
every_case = pytest.mark.parametrize("case", [*SINGLE, ALL], ids=lambda case: case.name)
both_lanes = pytest.mark.parametrize("lane", LANES)
both_sizes = pytest.mark.parametrize("body", [BODY, LARGE], ids=["whole", "in parts"])


@pytest_asyncio.fixture(loop_scope="module")
async def server(running: ScriptedS3) -> ScriptedS3:
    await running.begin_again()
    running.usual = answer_as_s3
    return running


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


@every_case
@both_sizes
async def test_both_lanes_make_the_object_that_was_asked_for(
    sinks: Sinks, moto_bucket: MotoBucket, case: Case, body: bytes
) -> None:
    found = []
    for lane in LANES:
        sink = await sinks.open(lane, moto_bucket.server.endpoint_url, moto_bucket.name, **case.settings)
        receipt = await sink.put(Upload(f"by/{lane}", body, case.headers))
        found.append(await asyncio.to_thread(moto_bucket.description, f"by/{lane}"))
        assert receipt.etag == found[-1]["ETag"]
    assert found[0] == found[1]
    assert found[0]["Body"] == body
    assert {name: found[0].get(name) for name in case.expected} == case.expected
    assert await asyncio.to_thread(moto_bucket.uploads) == []


@every_case
@both_sizes
async def test_both_lanes_send_the_same_requests(sinks: Sinks, server: ScriptedS3, case: Case, body: bytes) -> None:
    opened = [await sinks.open(lane, server.endpoint_url, "bucket", **case.settings) for lane in LANES]
    for _ in range(10):
        sent = []
        for sink in opened:
            server.requests.clear()
            await sink.put(Upload("a key/+%~", body, case.headers))
            sent.append(sorted(map(meaning, server.requests), key=str))
        if len({request["headers"]["x-amz-date"] for requests in sent for request in requests}) == 1:
            break  # all of them in one second: then signatures are the same too
    assert sent[0] == sent[1]
    always = {"x-amz-security-token": TOKEN, **dict(S3Settings("bucket", **case.settings).request_headers())}
    for request in sent[0]:
        assert {name: request["headers"].get(name) for name in always} == always
    assert len(sent[0]) == (1 if body is BODY else 5)


def meaning(request: Request) -> dict[str, Any]:
    """What a server makes of a request; the order of its parameters is nothing to it."""
    headers = {name: value for name, value in request.headers.items() if name not in MEANINGLESS}
    path, _, query = request.target.partition("?")
    digest = hashlib.sha256(request.body).hexdigest()
    return {"asked": [request.method, path, *sorted(query.split("&"))], "body": digest, "headers": headers}


@both_lanes
@pytest.mark.parametrize("algorithm", ["crc32", "sha256"])
async def test_a_checksum_is_that_of_the_bytes_it_goes_with(
    sinks: Sinks, server: ScriptedS3, lane: str, algorithm: str
) -> None:
    sink = await sinks.open(lane, server.endpoint_url, "bucket", checksum=algorithm)
    await sink.put(Upload("whole", BODY))
    await sink.put(Upload("parts", LARGE))
    asked = {step(request): request for request in server.requests}
    pieces = {"put": BODY, "part 1": LARGE[:MIB], "part 2": LARGE[MIB : 2 * MIB], "part 3": LARGE[2 * MIB :]}
    sums = {name: base64.b64encode(digest(algorithm, piece)).decode() for name, piece in pieces.items()}
    header = f"x-amz-checksum-{algorithm}"
    assert {name: request.headers[header] for name, request in asked.items() if header in request.headers} == sums
    assert asked["create"].headers["x-amz-checksum-algorithm"] == algorithm.upper()
    told = re.findall(rb"<PartNumber>(\d)</PartNumber>.*?<Checksum(\w+)>([^<]+)<", asked["complete"].body)
    assert told == [(b"%d" % n, algorithm.upper().encode(), sums[f"part {n}"].encode()) for n in (1, 2, 3)]


def digest(algorithm: str, piece: bytes) -> bytes:
    return hashlib.sha256(piece).digest() if algorithm == "sha256" else zlib.crc32(piece).to_bytes(4, "big")


@both_lanes
@both_sizes
async def test_without_signing_no_request_has_credentials(
    sinks: Sinks, server: ScriptedS3, moto_bucket: MotoBucket, lane: str, body: bytes
) -> None:
    for endpoint, name in ((server.endpoint_url, "bucket"), (moto_bucket.server.endpoint_url, moto_bucket.name)):
        sink = await sinks.open(lane, endpoint, name, no_sign_request=True, checksum="crc32")
        await sink.put(Upload("key", body, CONTENT.headers))
    secret = {"authorization", "x-amz-security-token", "x-amz-date"}
    assert [request.target for request in server.requests if secret & request.headers.keys()] == []
    assert await asyncio.to_thread(moto_bucket.objects) == {"key": body}


@both_lanes
@both_sizes
async def test_an_object_that_must_not_exist_is_not_replaced(
    sinks: Sinks, moto_bucket: MotoBucket, lane: str, body: bytes
) -> None:
    sink = await sinks.open(lane, moto_bucket.server.endpoint_url, moto_bucket.name)
    condition = (("if-none-match", "*"),)
    await sink.put(Upload("key", body, condition))
    with pytest.raises(ObjectExists):
        await sink.put(Upload("key", body[::-1], condition))
    assert await asyncio.to_thread(moto_bucket.objects) == {"key": body}
    assert await asyncio.to_thread(moto_bucket.uploads) == []


@both_lanes
@both_sizes
async def test_a_server_that_checks_signatures_takes_every_header(
    rclone_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, lane: str, body: bytes
) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    sink = await S3Sink.open(
        S3Settings(rclone_bucket.name, s3_client=lane, part_bytes=MIB, **{**ALL.settings, "acl": "private"})
    )
    for key in ("plain", "odd +%&=?#ü日/~*'()"):
        await sink.put(Upload(key, body, ALL.headers))
    await sink.close()
    assert rclone_bucket.objects() == dict.fromkeys(("plain", "odd +%&=?#ü日/~*'()"), body)


@both_sizes
async def test_over_tls_to_aws_the_checksum_stands_for_the_payload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """The way most objects go: no endpoint given, the bucket in the host's name, the certificate for that name."""
    certificate = make_certificate(tmp_path, "*.s3.eu-central-1.amazonaws.com")
    async with scripted_s3(certificate.context()) as server:
        lead_names_to(server, monkeypatch)
        sent = []
        for lane in LANES:
            server.usual = answer_as_s3
            trusted = str(certificate.certificate)
            sink = await S3Sink.open(
                S3Settings("bucket", region="eu-central-1", ca_bundle=trusted, s3_client=lane, part_bytes=MIB)
            )
            await sink.check()
            await sink.put(Upload("a key", body))
            await sink.close()
            sent.append([request for request in server.requests if request.method == "PUT"])
            await server.begin_again()
    assert {request.headers["x-amz-content-sha256"] for request in sent[0]} == {"UNSIGNED-PAYLOAD"}
    for requests in sent:  # botocore signs the payload all the same
        assert {request.headers["host"] for request in requests} == {"bucket.s3.eu-central-1.amazonaws.com"}
    sums = [sorted(request.headers["x-amz-checksum-crc32"] for request in requests) for requests in sent]
    assert sums[0] == sums[1]


@both_lanes
@both_sizes
async def test_an_etag_that_aws_promises_is_held_against_what_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: str, body: bytes
) -> None:
    certificate = make_certificate(tmp_path, "*.s3.eu-central-1.amazonaws.com")
    trusted = str(certificate.certificate)
    async with scripted_s3(certificate.context()) as server:
        lead_names_to(server, monkeypatch)

        async def put(headers: dict[str, str], **settings: Any) -> None:
            damaged = reply(200, headers={"ETag": f'"{"0" * 32}"', **headers})
            server.usual = lambda one: damaged if one.method == "PUT" else answer_as_s3(one)
            sink = await S3Sink.open(
                S3Settings(
                    "bucket", region="eu-central-1", ca_bundle=trusted, s3_client=lane, part_bytes=MIB, **settings
                )
            )
            try:
                await sink.put(Upload("key", body))
            finally:
                await sink.close()

        for headers in ({}, {"x-amz-server-side-encryption": "AES256"}):
            with pytest.raises(PayloadCorrupted):
                await put(headers)
        await put({}, verify_etag=False)
        await put({"x-amz-server-side-encryption": "aws:kms"})  # of the bucket: then it is no MD5


@both_lanes
async def test_a_certificate_for_another_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: str
) -> None:
    certificate = make_certificate(tmp_path, "*.s3.eu-west-1.amazonaws.com")
    async with scripted_s3(certificate.context()) as server:
        lead_names_to(server, monkeypatch)
        trusted = str(certificate.certificate)
        sink = await S3Sink.open(S3Settings("bucket", region="eu-central-1", ca_bundle=trusted, s3_client=lane))
        with pytest.raises(DestinationRefused, match=r"not valid for 'bucket\.s3\.eu-central-1\.amazonaws\.com'"):
            await sink.put(Upload("key", BODY))
        await sink.close()
        assert server.requests == []
