"""What the simulator keeps: objects, conditions, uploads in parts, and lists of them held against a plain model."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.exceptions import ClientError

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.bench.simulator.store import digest_of
from tests.integration.raw_s3 import Client, boto, connect, request

PART = b"part!" * (1 << 20)
_buckets = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningSimulator]:
    with simulator("--keep", "all") as running:
        yield running


@pytest.fixture(scope="module")
def s3(server: RunningSimulator) -> Iterator[boto3.client]:
    client = boto(server)
    yield client
    client.close()


@pytest.fixture
def client(server: RunningSimulator) -> Iterator[Client]:
    with connect(server) as connection:
        yield Client(connection)


@pytest.fixture
def bucket() -> str:
    return f"bucket-{next(_buckets)}"


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def peak(server: RunningSimulator) -> int:
    """The most bytes of memory that the simulator has had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) << 10


# --- objects --------------------------------------------------------------------------------------------------


def test_an_object_comes_back_as_it_was_put(s3: boto3.client, bucket: str) -> None:
    place = {"Bucket": bucket, "Key": "a/ü +%2F//<&>.txt"}
    s3.put_object(**place, Body=b"body", ContentType="text/plain", Metadata={"name": "value"}, CacheControl="no-store")
    head, got = s3.head_object(**place), s3.get_object(**place)
    assert got["Body"].read() == b"body"
    for found in (head, got):
        assert (found["ContentLength"], found["ETag"]) == (4, f'"{md5(b"body")}"')
        assert (found["ContentType"], found["Metadata"], found["CacheControl"]) == (
            "text/plain",
            {"name": "value"},
            "no-store",
        )
        assert abs((found["LastModified"] - head["LastModified"]).total_seconds()) < 60
    s3.delete_object(**place)
    for ask in (s3.head_object, s3.get_object):
        with pytest.raises(ClientError) as refused:
            ask(**place)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    s3.delete_object(**place)


def test_without_bodies_sizes_and_digests_are_known_all_the_same() -> None:
    with simulator("--keep", "digest") as server, connect(server) as connection:
        client = Client(connection)
        client.ask(request(target="/bucket/key", body=b"body"))
        _, headers, _ = client.ask(request("HEAD", "/bucket/key"))
        assert (headers["content-length"], headers["etag"]) == ("4", f'"{md5(b"body")}"')
        assert client.code(request("GET", "/bucket/key")) == (501, "NotImplemented")
        assert client.code(request("GET", "/bucket/other")) == (404, "NoSuchKey")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (f"/bucket/{'k' * 1024}", (200, "")),
        (f"/bucket/{'k' * 1025}", (400, "KeyTooLongError")),
        (f"/bucket/{quote('ü' * 513)}", (400, "KeyTooLongError")),
        ("/bucket/%ff", (400, "InvalidURI")),
    ],
)
def test_keys_that_s3_does_not_take_are_refused(client: Client, target: str, expected: tuple[int, str]) -> None:
    assert client.code(request(target=target)) == expected


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "when_missing", "when_there"),
    [
        ("", (200, ""), (200, "")),
        ("If-None-Match: *\r\n", (200, ""), (412, "PreconditionFailed")),
        (f'If-Match: "{md5(b"old")}"\r\n', (404, "NoSuchKey"), (200, "")),
        (f'If-Match: "{md5(b"other")}"\r\n', (404, "NoSuchKey"), (412, "PreconditionFailed")),
        ('If-None-Match: "etag"\r\n', (501, "NotImplemented"), (501, "NotImplemented")),
    ],
)
def test_a_write_holds_where_its_condition_does(
    client: Client,
    server: RunningSimulator,
    bucket: str,
    method: str,
    headers: str,
    when_missing: tuple[int, str],
    when_there: tuple[int, str],
) -> None:
    done = 200 if method == "PUT" else 204
    for key, expected in (("missing", when_missing), ("there", when_there)):
        target = f"/{bucket}/{key}"
        if key == "there":
            client.ask(request(target=target, body=b"old"))
        before = list(server.list_objects(bucket))
        status, code = client.code(request(method, target, b"new" if method == "PUT" else b"", headers))
        assert (status, code) == (done if expected[0] == 200 else expected[0], expected[1])
        if status != done:
            assert list(server.list_objects(bucket)) == before


# --- parts ----------------------------------------------------------------------------------------------------


def begun(s3: boto3.client, bucket: str) -> dict[str, str]:
    place = {"Bucket": bucket, "Key": "large"}
    return {**place, "UploadId": s3.create_multipart_upload(**place, ContentType="text/x")["UploadId"]}


def put_parts(s3: boto3.client, upload: dict[str, str], *bodies: bytes) -> list[dict[str, Any]]:
    return [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]


def test_parts_become_one_object_with_the_etag_that_s3_gives_it(s3: boto3.client, bucket: str) -> None:
    upload = begun(s3, bucket)
    parts = put_parts(s3, upload, PART, b"end")
    assert [one["UploadId"] for one in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload["UploadId"]]
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    joined = hashlib.md5(hashlib.md5(PART).digest() + hashlib.md5(b"end").digest()).hexdigest()
    assert done["ETag"] == f'"{joined}-2"'
    found = s3.get_object(Bucket=bucket, Key="large")
    assert (found["Body"].read() == PART + b"end", found["ETag"], found["ContentType"]) == (
        True,
        done["ETag"],
        "text/x",
    )
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: parts[::-1], "InvalidPartOrder"),
        (lambda parts: [{**parts[0], "ETag": md5(b"other")}, parts[1]], "InvalidPart"),
        (lambda parts: [parts[0], {**parts[1], "PartNumber": 3}], "InvalidPart"),
        (lambda parts: [parts[0], parts[1], parts[2]], "EntityTooSmall"),
        (lambda _: [], "MalformedXML"),
    ],
)
def test_parts_that_do_not_fit_are_refused(s3: boto3.client, bucket: str, change: Any, code: str) -> None:
    upload = begun(s3, bucket)
    parts = put_parts(s3, upload, PART, b"small", b"end")
    with pytest.raises(ClientError, match=code):
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": change(parts)})
    assert len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
    s3.abort_multipart_upload(**upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.upload_part(**upload, PartNumber=1, Body=b"late")


def test_the_condition_of_an_upload_is_held_when_it_is_completed(s3: boto3.client, bucket: str) -> None:
    upload = begun(s3, bucket)
    parts = put_parts(s3, upload, b"one")
    s3.put_object(Bucket=bucket, Key="large", Body=b"first")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")


# --- lists ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(server: RunningSimulator) -> list[str]:
    """Keys of a bucket `many`, in no order, mostly of what is sorted and written in more than one way."""
    dice = random.Random(1)
    alphabet = ["a", "b", "/", "é", "e\u0301", " ", "+", "&", "%", "\uffff", "\U0001f600", "Z"]
    keys = list({"".join(dice.choices(alphabet, k=dice.randrange(1, 6))) for _ in range(120)})
    with connect(server) as connection:
        client = Client(connection)
        for key in [*keys, "gone"]:
            assert client.ask(request(target=f"/many/{quote(key)}", body=key.encode()))[0] == 200
        client.ask(request("DELETE", "/many/gone"))
    return keys


@pytest.mark.parametrize("size", [5, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize(("prefix", "after"), [("", ""), ("a", ""), ("b/", ""), ("", "b"), ("é", "é"), ("nothing", "")])
def test_a_list_is_that_of_a_plain_model(
    s3: boto3.client, many: list[str], prefix: str, after: str, delimiter: str, size: int
) -> None:
    options = {"Bucket": "many", "Prefix": prefix, "Delimiter": delimiter, "StartAfter": after}
    listed: list[str] = []
    for page in s3.get_paginator("list_objects_v2").paginate(**options, PaginationConfig={"PageSize": size}):
        entries = page.get("Contents", [])
        names = [entry["Key"] for entry in entries] + [one["Prefix"] for one in page.get("CommonPrefixes", [])]
        assert len(names) == page["KeyCount"] <= size
        assert all(
            (one["ETag"], one["Size"]) == (f'"{md5(one["Key"].encode())}"', len(one["Key"].encode())) for one in entries
        )
        listed += sorted(names, key=str.encode)
    rolled = set()
    for key in many:
        if key.startswith(prefix) and key.encode() > after.encode():
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            rolled.add(key if end < 0 else key[: end + 1])
    assert listed == sorted(rolled, key=str.encode)


def test_a_list_that_is_asked_for_wrongly_is_refused(client: Client) -> None:
    assert client.code(request("GET", "/b?list-type=2&continuation-token=%21")) == (400, "InvalidArgument")
    assert client.code(request("GET", "/b?list-type=2&max-keys=x")) == (400, "InvalidArgument")
    assert client.code(request("GET", "/b?marker=a")) == (501, "NotImplemented")


def test_two_sets_of_objects_are_compared_by_a_digest(client: Client, server: RunningSimulator, bucket: str) -> None:
    names = ["b", "a", "ü", "c"]
    for number, name in enumerate(names):
        client.ask(request(target=f"/{bucket}/{quote(name)}", body=bytes([number])))
    client.ask(request(target=f"/{bucket}/a", body=bytes([1])))
    found = list(server.list_objects(bucket))
    assert [one["key"] for one in found] == ["a", "b", "c", "ü"]
    pairs = [(name, md5(bytes([number]))) for number, name in enumerate(names)]
    summary = server.objects(bucket)
    assert (summary["objects"], summary["bytes"], summary["digest"]) == (4, 4, digest_of(pairs))
    assert server.objects(bucket, "ü")["digest"] == digest_of([pairs[2]]) != digest_of([("ü", md5(b""))])
    with pytest.raises(ValueError, match="nothing is kept"), simulator() as other:
        other.objects()


def test_a_list_of_all_objects_is_streamed() -> None:
    number = 10_000
    with simulator("--keep", "digest") as server, connect(server) as connection:
        client = Client(connection)
        for begin in range(0, number, 500):
            connection.sendall(b"".join(request(target=f"/b/{'k' * 900}{begin + index:06}") for index in range(500)))
            for _ in range(500):
                client.answer()
        before = peak(server)
        lines = server.list_objects()
        assert next(lines)["key"].endswith("000000")
        assert sum(1 for _ in lines) == number - 1
        assert peak(server) - before < 5 << 20, "of 10 MB"
