"""What `asyncup sync` gives its objects, through both clients, read back with boto3; and large objects, interrupted too."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncup.embedded.s3 import EmbeddedS3, embedded_s3
from tests.conftest import Bucket, Database, Program
from tests.integration.certificates import make_certificate
from tests.integration.forward_proxy import forward_proxy
from tests.moto_server import MotoBucket, MotoServer

LARGE = b"0123456789abcdef" * 1_250_000
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
CLIENTS = ("wire", "botocore")
both_clients = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture
def pages(database: Database) -> Database:
    """A few rows, the last one of 20 MB."""
    database.sql(
        "CREATE TABLE pages (id int PRIMARY KEY, title text, owner text, age int, content bytea NOT NULL);"
        "INSERT INTO pages VALUES (1, 'Plain', 'team a', 60, 'one'), (2, 'Größe 日本', 'b/c', 0, ''),"
        " (3, NULL, NULL, NULL, 'three');"
        "INSERT INTO pages SELECT n, 'Page ' || n, 'd', n, convert_to('page ' || n, 'UTF8') FROM generate_series(4, 12) n;"
        "INSERT INTO pages VALUES (99, 'Large', 'e', 1, convert_to(repeat('0123456789abcdef', 1250000), 'UTF8'))"
    )
    return database


@pytest.fixture
def program(asyncup: Program, pages: Database, moto: MotoServer) -> Program:
    """The program with the rows, and moto for S3."""
    asyncup.environment = {**pages.server.environment, "PGDATABASE": pages.name, **moto.environment}
    return asyncup


def sync(bucket: str, client: str, *more: str) -> list[str]:
    return [
        *("sync", "--table=pages", f"--to=s3://{bucket}/{{id}}.html", "--body=content", "--output=json"),
        *(f"--s3-client={client}", "--restart", *more),
    ]


EVERYTHING = (
    "--metadata=Title={title}",
    "--metadata=share=100%",
    "--tag=team=web pages",
    "--tag=owner={owner}",
    "--cache-control=max-age={age}",
    '--content-disposition=attachment; filename="{title}.html"',
    "--content-language=de",
    "--storage-class=STANDARD_IA",
    "--sse=AES256",
    "--acl=public-read",
    "--checksum=sha256",
)


def test_objects_have_all_that_was_asked_for_through_either_client(program: Program, moto_bucket: MotoBucket) -> None:
    found = []
    for client in CLIENTS:
        run = program(*sync(moto_bucket.name, client, *EVERYTHING))
        assert run.code == 0, run.stderr
        assert run.summary["put"] == 13
        found.append({key: moto_bucket.description(key) for key in moto_bucket.names()})
        for key in found[-1]:
            moto_bucket.client.delete_object(Bucket=moto_bucket.name, Key=key)
    assert found[0] == found[1]
    check_objects(found[0])


def check_objects(found: dict[str, dict[str, Any]]) -> None:
    """What `EVERYTHING` makes of `pages`."""
    assert len(found) == 13
    assert {key: found[key]["Body"] for key in ("1.html", "2.html", "99.html")} == {
        "1.html": b"one",
        "2.html": b"",
        "99.html": LARGE,
    }
    always = {
        "ContentType": "text/html",
        "ContentLanguage": "de",
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "AES256",
        "Grants": [("", "FULL_CONTROL"), (ALL_USERS, "READ")],
    }
    for one in found.values():
        assert {name: one[name] for name in always} == always
    first, beyond, empty = (found[f"{number}.html"] for number in (1, 2, 3))
    assert first["Metadata"] == {"title": "Plain", "share": "100%"}
    assert first["Tags"] == {"team": "web pages", "owner": "team a"}
    assert first["CacheControl"] == "max-age=60"
    assert first["ContentDisposition"] == 'attachment; filename="Plain.html"'
    assert beyond["Metadata"]["title"] == "=?UTF-8?B?R3LDtsOfZSDml6XmnKw=?="
    assert beyond["ContentDisposition"].endswith("; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%E6%97%A5%E6%9C%AC.html")
    assert empty["Metadata"] == {"share": "100%"}
    assert empty["Tags"] == {"team": "web pages"}
    assert {"CacheControl", "ContentDisposition"}.isdisjoint(empty)
    parts = (LARGE[: 16 << 20], LARGE[16 << 20 :])
    sums = b"".join(hashlib.sha256(part).digest() for part in parts)
    assert found["99.html"]["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(sums).digest()).decode()


def test_without_uvloop_the_objects_are_the_same(program: Program, moto_bucket: MotoBucket, tmp_path: Path) -> None:
    """As on Windows: asyncio's own loop."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['uvloop'] = None\n")
    run = program(*sync(moto_bucket.name, "wire", *EVERYTHING, "-vvv"), PYTHONPATH=str(tmp_path))
    assert run.code == 0, run.stderr
    assert "Using selector: " in run.stderr, "which only asyncio's own loop says"
    check_objects({key: moto_bucket.description(key) for key in moto_bucket.names()})


# --- large objects --------------------------------------------------------------------------------------------


def once(*wanted: str) -> Callable[[str], bool]:
    """True for the first request in which each of these occurs."""
    left = list(wanted)

    def is_first(asked: str) -> bool:
        found = [one for one in left if one in asked]
        for one in found:
            left.remove(one)
        return bool(found)

    return is_first


@both_clients
def test_attempts_of_parts_are_counted_and_no_row_fails(program: Program, moto_bucket: MotoBucket, client: str) -> None:
    with moto_bucket.server.refusing(once("?uploads", "partNumber=1", "partNumber=2", "/7.html")):
        run = program(*sync(moto_bucket.name, client))
    assert run.code == 0, run.stderr
    assert (run.summary["retries"], run.summary["throttled"], run.summary["failed"]) == (4, 4, 0)
    assert run.summary["attempts"] == 13 + 4
    assert moto_bucket.objects()["99.html"] == LARGE
    assert moto_bucket.uploads() == []


@both_clients
@pytest.mark.parametrize("step", ["partNumber=2", "POST with uploadId"])
def test_a_large_row_that_is_interrupted_twice_leaves_no_upload_behind(
    program: Program, moto_bucket: MotoBucket, client: str, step: str
) -> None:
    def is_step(asked: str) -> bool:
        return step in asked if step.startswith("part") else asked.startswith("POST") and "uploadId=" in asked

    command = [*sync(moto_bucket.name, client), "--where=id = 99"]
    with moto_bucket.server.holding(is_step) as hold:
        process = program.start(*command)
        assert hold.reached.wait(30), process.communicate()
        assert len(moto_bucket.uploads()) == 1
        process.send_signal(signal.SIGINT)
        wait_for(process, "reading has stopped")
        process.send_signal(signal.SIGINT)
        run = program.finish(process)
        assert moto_bucket.uploads() == []
    assert run.code == 130
    assert (run.summary["status"], run.summary["put"]) == ("interrupted", 0)
    assert moto_bucket.objects() == {}
    assert program(*command).code == 0
    assert moto_bucket.objects() == {"99.html": LARGE}


@both_clients
def test_a_large_row_that_is_interrupted_between_two_attempts_leaves_no_upload_behind(
    program: Program, moto_bucket: MotoBucket, client: str
) -> None:
    with moto_bucket.server.refusing(lambda asked: "partNumber=2" in asked):
        process = program.start(*sync(moto_bucket.name, client), "--where=id = 99")
        wait_for(process, "trying again")
        process.send_signal(signal.SIGINT)
        run = program.finish(process)
    assert run.code == 130, run
    assert (run.summary["status"], run.summary["error"]) == ("interrupted", None)
    assert moto_bucket.uploads() == []


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read what it says until this is said."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"it never said: {text}")


# --- ways there -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, servers_folder: Path) -> Iterator[tuple[EmbeddedS3, Path]]:
    """A server that speaks TLS, and its authority."""
    made = make_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")
    options = [f"--cert={made.certificate}", f"--key={made.key}"]
    with embedded_s3(servers_folder / "s3-tls-e2e", options=options) as server:
        yield server, made.certificate


@both_clients
def test_objects_go_over_tls_to_a_server_whose_authority_is_given(
    asyncup: Program, pages: Database, tls: tuple[EmbeddedS3, Path], client: str
) -> None:
    server, authority = tls
    bucket = Bucket(server, f"tls-{client}")
    server.make_bucket(bucket.name)
    asyncup.environment = {**pages.server.environment, "PGDATABASE": pages.name, **server.environment}
    refused = asyncup(*sync(bucket.name, client))
    assert refused.code == 2
    assert "--ca-bundle" in refused.summary["error"]["hint"]
    run = asyncup(*sync(bucket.name, client, f"--ca-bundle={authority}"))
    assert run.code == 0, run.stderr
    found = bucket.objects()
    assert len(found) == 13
    assert (found["12.html"], found["99.html"]) == (b"page 12", LARGE)


@both_clients
async def test_a_proxy_of_the_environment_takes_the_slower_client_and_says_so_once(
    connected: Program, pages: Database, bucket: Bucket, client: str
) -> None:
    async with forward_proxy() as proxy:
        arguments = sync(bucket.name, client)
        run = await asyncio.to_thread(connected, *arguments, HTTP_PROXY=proxy.url, NO_PROXY="", no_proxy="")
        assert run.code == 0, run.stderr
        assert set(proxy.hosts) == {f"127.0.0.1:{bucket.server.port}"}
    notice = "warning: uploads go through botocore's client, which is slower: the environment names a proxy for http"
    headline = f"public.pages → s3://{bucket.name}/{{id}}.html, by id"
    assert run.stderr.splitlines() == [headline, *([notice] if client == "wire" else [])]
    assert len(bucket.objects()) == 13
    assert json.loads(run.stdout)["put"] == 13


@both_clients
def test_compressed_objects_say_so_the_streamed_one_too(program: Program, moto_bucket: MotoBucket, client: str) -> None:
    run = program(*sync(moto_bucket.name, client, "--compress=gzip", "--cache-control=max-age={age}"))
    assert run.code == 0, run.stderr
    assert run.summary["put"] == 13
    for key, body in (("1.html", b"one"), ("2.html", b""), ("99.html", LARGE)):
        answer = moto_bucket.client.get_object(Bucket=moto_bucket.name, Key=key)
        content = answer["Body"].read()
        assert (gzip.decompress(content) if body else content) == body
        assert answer.get("ContentEncoding") == ("gzip" if body else None)
        assert answer["ContentType"] == "text/html"
    verdict = program(*sync(moto_bucket.name, client, "--compress=gzip", "--if-exists=different"))
    assert (verdict.summary["put"], verdict.summary["skipped"]) == (0, 13), verdict.stderr
