"""Listings and comparisons against answers that a test has written down: what is asked, retried, believed and said."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import pytest

from asyncup.errors import (
    AsyncupError,
    BucketElsewhere,
    ClockSkewed,
    ConnectionLost,
    CredentialsExpired,
    DestinationRefused,
    Disposition,
    RowRefused,
    Throttled,
)
from asyncup.model import Likeness, Listed, Upload
from asyncup.sinks.s3.listing import S3Objects
from tests.integration.conftest import Sinks
from tests.integration.plays import ATTEMPTS, Told
from tests.integration.scripted_s3 import Answer, ScriptedS3, refuse, reply

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("credentials")]

BODY = bytes(range(256))
MD5 = hashlib.md5(BODY).hexdigest()
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
SHA256 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
OTHER = "0" * 32
UPLOAD = Upload("key", BODY)


def page(*keys: str, following: str | None = None, more: str | None = None, encode: bool = True) -> Answer:
    """A page of a listing; every object has the size of its key."""
    truncated = str(following is not None).lower() if more is None else more
    entries = [
        f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{MD5}&quot;</ETag><Size>{len(key)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    ]
    return reply(
        200,
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>bucket</Name><IsTruncated>{truncated}</IsTruncated>{'<EncodingType>url</EncodingType>' if encode else ''}"
        + (f"<NextContinuationToken>{following}</NextContinuationToken>" if following else "")
        + f"{''.join(entries)}</ListBucketResult>",
    )


def head(etag: str = OTHER, size: int = len(BODY), **headers: str) -> Answer:
    """An answer to HEAD; underscores in names of headers are hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = reply(200, "", {"ETag": f'"{etag}"', **named})
    return Answer(answer.text.replace(b"Content-Length: 0", b"Content-Length: %d" % size))


Opened = Callable[..., Any]


@pytest.fixture
def opened(sinks: Sinks, running: ScriptedS3, told: Told) -> Opened:
    async def opened(**settings: Any) -> S3Objects:
        await running.begin_again()
        sink = await sinks.open("wire", running.endpoint_url, **settings)
        return sink.objects(told.retrier())

    return opened


async def listed(objects: S3Objects, prefix: str = "") -> list[str]:
    return [one.key async for page in objects.pages(prefix) for one in page]


async def test_pages_follow_one_another_until_the_last(opened: Opened, running: ScriptedS3) -> None:
    objects = await opened()
    running.answer(page("a", "b", following="the+token/="), page(following="2"), page("c"))
    assert await listed(objects, "d o+c/") == ["a", "b", "c"]
    targets = [request.target for request in running.requests]
    assert ["continuation-token" in target for target in targets] == [False, True, True]
    assert "continuation-token=the%2Btoken%2F%3D" in targets[1]
    assert all("prefix=d%20o%2Bc%2F" in target and "encoding-type=url" in target for target in targets)


async def test_names_are_decoded_where_the_server_says_that_it_encoded_them(
    opened: Opened, running: ScriptedS3
) -> None:
    objects = await opened()
    running.answer(page("a%20b+c%2B%0A%C3%BC", following="1"), page("a%20b+c%2B<&>", encode=False))
    assert await listed(objects) == ["a b c+\nü", "a%20b+c%2B<&>"]


async def test_entries_have_their_size_and_their_etag(opened: Opened, running: ScriptedS3) -> None:
    objects = await opened()
    running.answer(page("four"))
    assert [page async for page in objects.pages("")] == [[Listed("four", 4, MD5)]]


async def test_who_pays_and_who_owns_is_said_with_every_request(opened: Opened, running: ScriptedS3) -> None:
    objects = await opened(request_payer="requester", expected_bucket_owner="123456789012")
    running.answer(page("key"), head(), head(), reply(200, "x" * len(BODY), {"ETag": '"x"'}))
    await listed(objects)
    await objects.look("key")
    await objects.compare(UPLOAD, Listed("key", len(BODY), OTHER))
    await objects.compare(UPLOAD, Listed("key", len(BODY), OTHER), deep=True)
    assert [request.method for request in running.requests] == ["GET", "HEAD", "HEAD", "GET"]
    for request in running.requests:
        assert request.headers["x-amz-request-payer"] == "requester"
        assert request.headers["x-amz-expected-bucket-owner"] == "123456789012"


@pytest.mark.parametrize(
    "bad",
    [
        refuse(503, "SlowDown"),
        refuse(500, "InternalError"),
        reply(200, "<html><body>Welcome</body></html>"),
        reply(200, ""),
        reply(200, "<ListBucketResult><Name>bucket</Name>"),
        reply(
            200,
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
        ),
        page("a", more="true"),
    ],
    ids=["503", "500", "html", "empty", "cut", "no-size", "no-token"],
)
async def test_a_page_that_fails_is_asked_for_again_and_no_object_is_lost(
    opened: Opened, running: ScriptedS3, told: Told, bad: Answer
) -> None:
    objects = await opened()
    running.answer(page("a", following="1"), bad, page("b", following="2"), page("c"))
    assert await listed(objects) == ["a", "b", "c"]
    assert len(told.retried) == 1


async def test_a_listing_that_never_comes_raises_what_ended_it(opened: Opened, running: ScriptedS3) -> None:
    objects = await opened()
    running.answer(page("a", following="1"), *[refuse(503, "SlowDown")] * ATTEMPTS)
    with pytest.raises(Throttled):
        await listed(objects)
    assert len(running.requests) == 1 + ATTEMPTS


async def test_a_listing_that_goes_in_a_circle_ends(opened: Opened, running: ScriptedS3) -> None:
    objects = await opened()
    running.usual = lambda _: page("a", following="1")
    with pytest.raises(ConnectionLost):
        await listed(objects)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [(refuse(403, "AccessDenied"), "s3:ListBucket"), (refuse(404, "NoSuchBucket"), "--to")],
)
async def test_a_listing_that_is_refused_says_what_to_do(
    opened: Opened, running: ScriptedS3, answer: Answer, hint: str
) -> None:
    objects = await opened()
    running.answer(answer)
    with pytest.raises(DestinationRefused) as caught:
        await listed(objects)
    assert hint in str(caught.value.hint)
    assert len(running.requests) == 1


Check = tuple[str, Sequence[Answer], Likeness | str]
KMS = {"x_amz_server_side_encryption": "aws:kms"}
COMPARISONS: list[Check] = [
    (MD5, [], Likeness.BYTES),
    (OTHER, [head()], "ETag"),
    (OTHER, [head(MD5)], Likeness.BYTES),
    (OTHER, [head(size=5)], "5 bytes"),
    (OTHER, [head(**KMS)], Likeness.SIZE),
    (OTHER, [head(x_amz_server_side_encryption_customer_algorithm="AES256")], Likeness.SIZE),
    (OTHER, [head(x_amz_server_side_encryption="AES256")], "ETag"),
    (OTHER, [head(**KMS, x_amz_checksum_crc32=CRC32)], Likeness.BYTES),
    (OTHER, [head(**KMS, x_amz_checksum_sha256=SHA256, x_amz_checksum_type="FULL_OBJECT")], Likeness.BYTES),
    (OTHER, [head(**KMS, x_amz_checksum_crc32="AAAAAA==")], "checksum"),
    (OTHER, [head(**KMS, x_amz_checksum_crc32=f"{CRC32}-2", x_amz_checksum_type="COMPOSITE")], Likeness.SIZE),
    (f"{OTHER}-2", [head(f"{OTHER}-2")], Likeness.SIZE),  # in parts of a size that nobody knows
    (f"{OTHER}-1", [head(f"{OTHER}-1")], "ETag"),
    (f"{hashlib.md5(bytes.fromhex(MD5)).hexdigest()}-1", [], Likeness.BYTES),
    ("opaque", [head("opaque")], Likeness.SIZE),
    ("opaque", [head("opaque", x_amz_checksum_crc32=CRC32)], Likeness.BYTES),
    (OTHER, [reply(403), refuse(403, "AccessDenied")], "ETag"),
    ("opaque", [reply(403), refuse(403, "AccessDenied")], Likeness.SIZE),
]


@pytest.mark.parametrize(("etag", "answers", "wanted"), COMPARISONS)
async def test_an_etag_is_believed_where_it_is_an_md5_and_a_checksum_where_not(
    opened: Opened, running: ScriptedS3, etag: str, answers: Sequence[Answer], wanted: Likeness | str
) -> None:
    objects = await opened()
    running.answer(*answers)
    found = await objects.compare(UPLOAD, Listed("key", len(BODY), etag))
    if isinstance(wanted, str):
        assert isinstance(found, str)
        assert wanted in found
    else:
        assert found is wanted
    assert len(running.requests) == len(answers)


WHOLE = {"ETag": f'"{MD5}"'}
REST: list[tuple[Sequence[Answer], Listed | None]] = [
    ([reply(206, "x", {"Content-Range": "bytes 0-0/256", **WHOLE})], Listed("key", 256, MD5)),
    ([reply(200, "x" * 256, WHOLE)], Listed("key", 256, MD5)),
    ([refuse(416, "InvalidRange"), reply(200, "", WHOLE)], Listed("key", 0, MD5)),
    ([refuse(404, "NoSuchKey")], None),
]


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize(("answers", "found"), REST, ids=["part", "whole", "empty", "missing"])
async def test_what_head_was_refused_for_may_have_been_mended_meanwhile(
    opened: Opened, running: ScriptedS3, status: int, answers: Sequence[Answer], found: Listed | None
) -> None:
    objects = await opened()
    mute = [reply(status)] * (2 if status == 400 else 1)  # botocore asks for the bucket's region after a 400
    running.answer(*mute, *answers)
    assert await objects.look("key") == found
    asked = running.requests[len(mute) :]
    assert [request.method for request in asked] == ["GET"] * len(answers)
    assert asked[0].headers["range"] == "bytes=0-0"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "ExpiredToken", CredentialsExpired),
        (403, "RequestTimeTooSkewed", ClockSkewed),
        (400, "AuthorizationHeaderMalformed", BucketElsewhere),
        (403, "SignatureDoesNotMatch", DestinationRefused),
        (403, "AccessDenied", DestinationRefused),
    ],
)
async def test_why_head_is_refused_is_asked_by_a_request_that_is_answered_in_words(
    opened: Opened, running: ScriptedS3, status: int, code: str, expected: type[AsyncupError]
) -> None:
    objects = await opened()
    running.usual = lambda _: refuse(status, code)
    for call in (objects.look("key"), objects.compare(UPLOAD, Listed("key", len(BODY), None), deep=True)):
        with pytest.raises(AsyncupError) as caught:
            await call
        assert type(caught.value) is expected
        assert code in caught.value.message


async def test_where_nothing_is_kept_beside_the_size_it_is_asked_for_once(opened: Opened, running: ScriptedS3) -> None:
    objects = await opened()
    running.answer(head("opaque"))
    for _ in range(3):
        assert await objects.compare(UPLOAD, Listed("key", len(BODY), "opaque")) is Likeness.SIZE
    assert len(running.requests) == 1


async def test_with_no_verify_etag_no_etag_is_believed(opened: Opened, running: ScriptedS3) -> None:
    objects = await opened(verify_etag=False)
    for etag in (MD5, OTHER):
        assert await objects.compare(UPLOAD, Listed("key", len(BODY), etag)) is Likeness.SIZE
    assert running.requests == []


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (reply(200, BODY.decode("latin-1")[:128]), Likeness.BYTES),
        (reply(200, "\x00\x01x" + BODY.decode("latin-1")[3:128]), "from byte 2 on"),
        (reply(200, BODY.decode("latin-1")[:100]), "100 bytes"),
        (reply(200, BODY.decode("latin-1")[:128] + "x"), "from byte 128 on"),
        (refuse(503, "SlowDown"), Throttled),
        (refuse(403, "InvalidObjectState"), RowRefused),
        (refuse(403, "AccessDenied"), DestinationRefused),
        (Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n" + BODY[:4], reply(200).then.RESET), ConnectionLost),
    ],
    ids=["same", "other", "shorter", "longer", "503", "archived", "denied", "broken"],
)
async def test_a_deep_comparison_reads_every_byte(
    opened: Opened, running: ScriptedS3, answer: Answer, wanted: Likeness | str | type[AsyncupError]
) -> None:
    objects = await opened()
    running.answer(answer)
    upload = Upload("key", BODY[:128])
    comparing = objects.compare(upload, Listed("key", 128, hashlib.md5(BODY[:128]).hexdigest()), deep=True)
    if isinstance(wanted, type):
        with pytest.raises(wanted) as caught:
            await comparing
        assert caught.value.disposition is wanted.disposition is not Disposition.SKIP
    elif isinstance(wanted, Likeness):
        assert await comparing is wanted
    else:
        assert wanted in await comparing
    assert [(request.method, request.target) for request in running.requests] == [("GET", "/bucket/key")]


async def test_other_listings_through_the_same_client_are_left_alone(
    opened: Opened, running: ScriptedS3, sinks: Sinks
) -> None:
    await opened()
    (control, *_) = sinks.clients.values()
    running.answer(page("a"))
    answer: Mapping[str, Any] = await control.call("list_objects_v2", 10, Bucket="bucket")
    assert [(entry["Key"], entry["LastModified"].year) for entry in answer["Contents"]] == [("a", 2024)]
