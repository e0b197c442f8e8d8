"""The judge of signatures: it takes what AWS and botocore sign, and refuses what was changed behind their backs."""

from __future__ import annotations

import asyncio
import base64
import calendar
import hashlib
import time
import zlib
from collections.abc import Iterator

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.model import Upload
from tests.integration.conftest import Sinks
from tests.integration.raw_s3 import ACCESS, SECRET, Client, boto, connect

TOKEN = "a token/" + "of+many=" * 20
BODY = b"Welcome to Amazon S3."
#: The moment of AWS's examples.
MAY_2013 = calendar.timegm((2013, 5, 24, 0, 0, 0))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningSimulator]:
    accounts = ("--verify", f"{ACCESS},{SECRET}", "--verify", f"ASIAIOSFODNN7EXAMPLE,{SECRET},{TOKEN}")
    with simulator(*accounts, "--keep", "digest") as running:
        yield running


@pytest.fixture
def client(server: RunningSimulator) -> Iterator[Client]:
    with connect(server) as connection:
        yield Client(connection)


@pytest.fixture(scope="module")
def in_2013() -> Iterator[Client]:
    offset = str(MAY_2013 - time.time())
    with simulator("--verify", f"{ACCESS},{SECRET}", "--clock-offset", offset) as server, connect(server) as connection:
        yield Client(connection)


def signed(
    method: str = "PUT",
    path: str = "/bucket/key",
    body: bytes = BODY,
    *,
    access: str = ACCESS,
    secret: str = SECRET,
    token: str | None = None,
    **headers: str,
) -> tuple[str, dict[str, str]]:
    """A request line without its version, and headers, signed by botocore. Underscores in names are dashes."""
    asked = AWSRequest(
        method, f"http://s3{path}", {name.replace("_", "-"): value for name, value in headers.items()}, body
    )
    S3SigV4Auth(Credentials(access, secret, token), "s3", "us-east-1").add_auth(asked)
    return f"{method} {path}", {"Host": "s3", **dict(asked.headers.items())}


def raw(line: str, headers: dict[str, str], body: bytes = BODY) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{line} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("line", "headers", "signature", "body"),
    [
        pytest.param(
            "GET /test.txt",
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            b"",
            id="get object",
        ),
        pytest.param(
            "PUT /test$file.text",
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            BODY,
            id="put object",
        ),
        pytest.param(
            "GET /?max-keys=2&prefix=J",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            b"",
            id="list objects",
        ),
        pytest.param(
            "GET /?lifecycle",
            {},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            b"",
            id="get lifecycle",
        ),
    ],
)
def test_the_examples_that_aws_has_published_are_taken(
    in_2013: Client, line: str, headers: dict[str, str], signature: str, body: bytes
) -> None:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html; its hosts name the bucket."""
    sent = {
        "Host": "examplebucket.s3.amazonaws.com",
        **headers,
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        "x-amz-date": "20130524T000000Z",
    }
    names = ";".join(sorted(name.lower() for name in sent))
    scope = "20130524/us-east-1/s3/aws4_request"
    sent["Authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS}/{scope},SignedHeaders={names},Signature={signature}"
    assert in_2013.ask(raw(line, sent, body))[0] != 403
    sent["Authorization"] = sent["Authorization"].replace("Signature=", "Signature=0")[:-1]
    assert in_2013.code(raw(line, sent, body)) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    "path",
    [
        "/bucket/key",
        "/bucket//leading//and/trailing/",
        "/bucket/a%20b%2Bc%25d%3De%26f",
        "/bucket/%C3%BC%F0%9F%99%82~-_.",
        "/bucket/%21%27%28%29%2A%24%40%3A%3B%2C",
        "/bucket/../x/./y",
    ],
)
def test_every_spelling_of_a_key_is_taken(client: Client, path: str) -> None:
    assert client.ask(raw(*signed(path=path)))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain; charset=utf-8", "cache_control": "max-age=1,  no-store"},
        {"x_amz_meta_a": "  two  blanks\tand a tab ", "x_amz_meta_b": "=?utf-8?q?=C3=BC?="},
        {"content_md5": base64.b64encode(hashlib.md5(BODY).digest()).decode()},
        {"x_amz_checksum_crc32": base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()},
        {"x_amz_checksum_sha256": base64.b64encode(hashlib.sha256(BODY).digest()).decode()},
    ],
)
def test_headers_are_taken_as_they_are_signed(client: Client, headers: dict[str, str]) -> None:
    assert client.ask(raw(*signed(**headers)))[0] == 200


def test_a_session_token_is_part_of_what_is_signed(client: Client) -> None:
    session = {"access": "ASIAIOSFODNN7EXAMPLE", "token": TOKEN}
    assert client.ask(raw(*signed(**session)))[0] == 200
    assert client.code(raw(*signed(**{**session, "token": "another"}))) == (400, "InvalidToken")
    assert client.code(raw(*signed(access=session["access"]))) == (400, "InvalidToken")
    assert client.code(raw(*signed(token=TOKEN))) == (400, "InvalidToken")


@pytest.mark.parametrize(
    ("line", "headers", "body", "expected"),
    [
        ("PUT /bucket/other", {}, BODY, (403, "SignatureDoesNotMatch")),
        ("PUT /bucket/key?x=y", {}, BODY, (403, "SignatureDoesNotMatch")),
        ("POST /bucket/key", {}, BODY, (403, "SignatureDoesNotMatch")),
        (None, {"Host": "s4"}, BODY, (403, "SignatureDoesNotMatch")),
        (None, {"x-amz-meta-name": "changed"}, BODY, (403, "SignatureDoesNotMatch")),
        (None, {"content-type": "text/changed"}, BODY, (403, "SignatureDoesNotMatch")),
        (None, {"X-Amz-Content-SHA256": hashlib.sha256(b"").hexdigest()}, b"", (403, "SignatureDoesNotMatch")),
        (None, {"x-amz-acl": "public-read"}, BODY, (403, "AccessDenied")),
        (None, {"x-amz-meta-name": None}, BODY, (400, "AuthorizationHeaderMalformed")),
        (None, {"Authorization": None}, BODY, (403, "AccessDenied")),
        (None, {"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, BODY, (400, "AuthorizationHeaderMalformed")),
        (None, {"X-Amz-Date": None}, BODY, (403, "AccessDenied")),
        (None, {"X-Amz-Date": "today"}, BODY, (403, "AccessDenied")),
        (None, {"X-Amz-Content-SHA256": None}, BODY, (400, "InvalidRequest")),
        (None, {}, BODY[::-1], (400, "XAmzContentSHA256Mismatch")),
    ],
)
def test_what_was_changed_after_signing_is_refused(
    client: Client,
    server: RunningSimulator,
    line: str | None,
    headers: dict[str, str | None],
    body: bytes,
    expected: tuple[int, str],
) -> None:
    server.forget_objects()
    asked, sent = signed(content_type="text/plain", x_amz_meta_name="value")
    assert set(headers) <= {*sent, "x-amz-acl"}
    changed = {name: value for name, value in {**sent, **headers}.items() if value is not None}
    assert client.code(raw(line or asked, changed, body)) == expected
    assert server.objects()["objects"] == 0


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"content_md5": base64.b64encode(bytes(16)).decode()}, b"Content-MD5"),
        ({"x_amz_checksum_crc32": "AAAAAA=="}, b"The CRC32 you"),
        ({"x_amz_checksum_sha256": base64.b64encode(bytes(32)).decode()}, b"The SHA256 you"),
    ],
)
def test_a_body_that_is_not_what_was_promised_is_a_bad_digest(
    client: Client, headers: dict[str, str], message: bytes
) -> None:
    status, _, body = client.ask(raw(*signed(**headers)))
    assert (status, b"<Code>BadDigest</Code>" in body, message in body) == (400, True, True)


def test_an_unsigned_payload_is_taken_and_still_held_against_its_checksum(client: Client) -> None:
    headers = {"x_amz_content_sha256": "UNSIGNED-PAYLOAD", "x_amz_checksum_crc32": "AAAAAA=="}
    asked = AWSRequest(
        "PUT", "http://s3/bucket/key", {name.replace("_", "-"): value for name, value in headers.items()}
    )
    signer = S3SigV4Auth(Credentials(ACCESS, SECRET), "s3", "us-east-1")
    signer.payload = lambda _: "UNSIGNED-PAYLOAD"
    signer.add_auth(asked)
    sent = {"Host": "s3", **dict(asked.headers.items())}
    assert client.ask(raw("PUT /bucket/key", sent, b""))[0] == 200
    assert client.code(raw("PUT /bucket/key", sent, BODY)) == (400, "BadDigest")


def test_keys_that_are_not_known_or_not_right_are_refused(server: RunningSimulator, client: Client) -> None:
    assert client.code(raw(*signed(access="AKIAOTHER"))) == (403, "InvalidAccessKeyId")
    assert client.code(raw(*signed(secret="other"))) == (403, "SignatureDoesNotMatch")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        boto(server, "other").put_object(Bucket="bucket", Key="key", Body=BODY)


def test_a_clock_that_is_a_quarter_of_an_hour_off_is_refused(client: Client, server: RunningSimulator) -> None:
    for offset in (-890, 890):
        server.set_clock(offset)
        assert client.ask(raw(*signed()))[0] == 200
    for offset in (-910, 910, 86400):
        server.set_clock(offset)
        status, headers, body = client.ask(raw(*signed()))
        assert (status, b"<Code>RequestTimeTooSkewed</Code>" in body) == (403, True)
        served = calendar.timegm(time.strptime(headers["date"], "%a, %d %b %Y %H:%M:%S GMT"))
        assert served - time.time() == pytest.approx(offset, abs=5), "the Date says what its clock is"
    server.set_clock(0)


def test_a_clock_is_checked_without_signatures_when_that_is_wanted() -> None:
    with simulator("--check-clock", "--clock-offset", "1000") as server, connect(server) as connection:
        client = Client(connection)
        assert client.code(raw(*signed())) == (403, "RequestTimeTooSkewed")
        assert client.ask(raw("PUT /bucket/key", {"Host": "s3"}))[0] == 200


def test_credentials_expire_and_others_take_their_place() -> None:
    accounts = ("--verify", f"{ACCESS},{SECRET}", "--verify", f"AKIANEXT,{SECRET}")
    with simulator(*accounts) as server, connect(server) as connection:
        client = Client(connection)
        assert client.ask(raw(*signed()))[0] == 200
        server.expire(ACCESS)
        assert client.code(raw(*signed())) == (400, "ExpiredToken")
        assert client.ask(raw(*signed(access="AKIANEXT")))[0] == 200
        with pytest.raises(ValueError, match="no access key"):
            server.expire("AKIAOTHER")


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("400", (400, "AuthorizationHeaderMalformed")),
        ("301", (301, "PermanentRedirect")),
        ("307", (307, "TemporaryRedirect")),
    ],
)
def test_what_is_signed_for_another_region_is_told_the_right_one(way: str, expected: tuple[int, str]) -> None:
    with simulator("--region", "eu-west-3", "--wrong-region", way) as server, connect(server) as connection:
        client = Client(connection)
        line, headers = signed()
        assert client.code(raw(line, headers)) == expected
        assert client.ask(raw(line, headers))[1]["x-amz-bucket-region"] == "eu-west-3"
        headers["Authorization"] = headers["Authorization"].replace("/us-east-1/", "/eu-west-3/")
        assert client.ask(raw(line, headers))[0] == 200, "without --verify the signature does not matter"


def test_boto3_gets_along_with_it(server: RunningSimulator) -> None:
    server.forget_objects()
    s3 = boto(server)
    for key in ("plain", "a/ü +&=", "~!*'()"):
        s3.put_object(Bucket="bucket", Key=key, Body=BODY, Metadata={"a": "b  c"})
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="bucket", Prefix="", MaxKeys=2)["Contents"]]
    assert keys == ["a/ü +&=", "plain"]
    upload = {"Bucket": "bucket", "Key": "large"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = {"PartNumber": 1, "ETag": s3.upload_part(**upload, PartNumber=1, Body=BODY)["ETag"]}
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]})
    assert s3.head_object(Bucket="bucket", Key="large")["ContentLength"] == len(BODY)


@pytest.fixture
def emptied(server: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> RunningSimulator:
    """The simulator without an object, and its credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    server.forget_objects()
    return server


@pytest.mark.asyncio(loop_scope="module")
async def test_what_asyncup_signs_is_taken(sinks: Sinks, emptied: RunningSimulator, lane: str) -> None:
    sink = await sinks.open(lane, emptied.endpoint_url)
    keys = ["plain", "//a/ü +&=", "~!*'()", "日🙂/%2F"]
    for key in keys:
        await sink.put(Upload(key, BODY, (("content-type", "text/plain"), ("x-amz-meta-name", "a  b"))))
    found = await asyncio.to_thread(lambda: [one["key"] for one in emptied.list_objects()])
    assert sorted(found) == sorted(keys)
