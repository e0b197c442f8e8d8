"""Each fault as a client meets it, and who it happens to."""

from __future__ import annotations

import hashlib
import http.client
import random
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from asyncup.bench.simulator.asked import Asked
from asyncup.bench.simulator.faults import FAULTS, Faults, make_fault, parse_fault
from asyncup.bench.simulator.launch import RunningSimulator, simulator
from tests.integration.raw_s3 import Client, boto, connect, request

BODY = b"body" * 500
ETAG = f'"{hashlib.md5(BODY).hexdigest()}"'
PUT = request(body=BODY)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    with simulator("--keep", "digest", "--retry-after", "7", "--slow-read", "20KiB") as server:
        yield server


@pytest.fixture
def server(running: RunningSimulator) -> Iterator[RunningSimulator]:
    running.reset()
    running.forget_objects()
    yield running
    running.set_faults()


@pytest.fixture
def client(server: RunningSimulator) -> Iterator[Client]:
    with connect(server) as connection:
        yield Client(connection)


def stored(server: RunningSimulator) -> int:
    count: int = server.objects()["objects"]
    return count


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("slowdown", 503, "SlowDown"),
        ("error", 500, "InternalError"),
        ("unavailable", 503, "ServiceUnavailable"),
        ("request-timeout", 400, "RequestTimeout"),
        ("bad-digest", 400, "BadDigest"),
        ("skew", 403, "RequestTimeTooSkewed"),
        ("expired-token", 400, "ExpiredToken"),
        ("redirect-301", 301, "PermanentRedirect"),
        ("redirect-307", 307, "TemporaryRedirect"),
        ("conflict", 409, "ConditionalRequestConflict"),
        ("aborted", 409, "OperationAborted"),
        ("access-denied", 403, "AccessDenied"),
        ("kms-throttle", 400, "ThrottlingException"),
    ],
)
def test_a_refusal_is_worded_as_by_s3_and_nothing_is_stored(
    client: Client, server: RunningSimulator, fault: str, status: int, code: str
) -> None:
    server.set_faults({fault: 1}, times=1)
    assert client.code(PUT) == (status, code)
    assert stored(server) == 0
    if fault == "request-timeout":
        assert client.stream.read() == b"", "the connection ends"
    else:
        assert client.ask(PUT)[0] == 200
    counters = server.counters()
    assert counters["faults"] == {fault: 1}
    assert counters["answers"][str(status)] == 1


def test_slow_down_says_when_to_come_back(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"slowdown": 1})
    assert client.ask(PUT)[1]["retry-after"] == "7"


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_names_region_and_endpoint(client: Client, server: RunningSimulator, status: int) -> None:
    server.set_faults({f"redirect-{status}": 1})
    _, headers, body = client.ask(PUT)
    assert headers["x-amz-bucket-region"] == "eu-central-1"
    assert b"<Bucket>bucket</Bucket><Endpoint>s3</Endpoint>" in body
    assert headers.get("location") == (None if status == 301 else "http://s3/bucket/key")


def test_a_skewed_clock_is_told_both_times(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"skew": 1})
    body = client.ask(request(headers="x-amz-date: 20200102T030405Z\r\n"))[2]
    assert b"<RequestTime>20200102T030405Z</RequestTime>" in body
    assert re.search(rb"<ServerTime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z</ServerTime>", body)


def test_a_reset_comes_before_the_body_is_read(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"reset": 1})
    client.socket.sendall(PUT[: -len(BODY)])
    with pytest.raises(ConnectionResetError):
        client.socket.recv(1)
    assert (stored(server), server.counters()["bytes"]) == (0, 0)


def test_a_reset_may_come_after_the_object_was_stored(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"reset-after": 1})
    client.socket.sendall(PUT)
    with pytest.raises(ConnectionResetError):
        client.socket.recv(1)
    assert stored(server) == 1
    counters = server.counters()
    assert (counters["requests"], counters["answers"], counters["bytes"]) == ({"PUT": 1}, {}, len(BODY))


@pytest.mark.parametrize(("fault", "kept"), [("hang", 0), ("hang-after", 1)])
def test_a_hanging_request_is_never_answered_and_its_connection_stays(
    client: Client, server: RunningSimulator, fault: str, kept: int
) -> None:
    server.set_faults({fault: 1}, times=1)
    client.socket.sendall(PUT)
    while not server.counters()["bytes"]:  # the body was read
        pass
    assert stored(server) == kept
    client.socket.sendall(PUT)
    with connect(server) as other:
        assert Client(other).ask(PUT)[0] == 200
    assert not select.select([client.socket], [], [], 0)[0], "neither an answer nor an end"


def test_a_body_that_is_read_slowly_takes_its_time_and_arrives_whole(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"slow-read": 1}, times=1)
    started = time.monotonic()
    client.socket.sendall(PUT + PUT)
    assert client.answer()[1]["etag"] == ETAG
    assert time.monotonic() - started >= len(BODY) / (20 << 10)
    assert client.answer()[1]["etag"] == ETAG, "what came behind it is served too"


def test_a_client_may_leave_while_its_body_is_read_slowly(server: RunningSimulator) -> None:
    server.set_faults({"slow-read": 1}, times=1)
    with connect(server) as connection:
        connection.sendall(PUT[:-1])
        while not server.counters()["faults"]:
            pass
    while server.counters()["connections"]["open"] > 1:
        pass
    assert stored(server) == 0


def test_a_truncated_answer_is_the_beginning_of_one(server: RunningSimulator) -> None:
    server.set_faults({"truncated": 1})
    lengths = set()
    for _ in range(20):
        with connect(server) as connection:
            connection.sendall(PUT)
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"[: len(answer)])
        assert not answer.endswith(b"\r\n\r\n")
        lengths.add(len(answer))
    assert len(lengths) > 10
    assert stored(server) == 1


def test_garbage_is_no_http(server: RunningSimulator) -> None:
    server.set_faults({"garbage": 1})
    connection = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"), timeout=10)
    connection.request("PUT", "/bucket/key", BODY)
    with pytest.raises(http.client.BadStatusLine):
        connection.getresponse()
    connection.close()


def test_a_page_of_html_may_come_instead_of_an_answer(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"html": 1})
    status, headers, body = client.ask(PUT)
    assert (status, headers["content-type"], body[:15]) == (200, "text/html", b"<!DOCTYPE html>")
    assert "etag" not in headers
    assert client.stream.read() == b""


def test_a_wrong_etag_is_that_of_no_object(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"wrong-etag": 1})
    status, headers, _ = client.ask(PUT)
    assert status == 200
    assert re.fullmatch(r'"[0-9a-f]{32}"', headers["etag"])
    assert headers["etag"] != ETAG
    assert [one["md5"] for one in server.list_objects()] == [ETAG.strip('"')]


def test_completing_an_upload_may_fail_with_the_status_of_success(client: Client, server: RunningSimulator) -> None:
    s3, place = boto(server), {"Bucket": "bucket", "Key": "key"}
    place["UploadId"] = s3.create_multipart_upload(**place)["UploadId"]
    part = {"PartNumber": 1, "ETag": s3.upload_part(**place, PartNumber=1, Body=BODY)["ETag"]}
    server.set_faults({"complete-error": 1}, times=1)
    xml = f"<C><Part><PartNumber>1</PartNumber><ETag>{part['ETag']}</ETag></Part></C>".encode()
    assert client.code(request("POST", f"/bucket/key?uploadId={place['UploadId']}", xml)) == (200, "InternalError")
    assert stored(server) == 0
    assert s3.complete_multipart_upload(**place, MultipartUpload={"Parts": [part]})["ETag"].endswith('-1"')


def test_faults_are_found_by_clients_too(server: RunningSimulator) -> None:
    server.set_faults({"slowdown": 1}, on="list")
    s3 = boto(server)
    s3.put_object(Bucket="bucket", Key="key", Body=BODY)
    with pytest.raises(ClientError, match="SlowDown"):
        s3.list_objects_v2(Bucket="bucket")


# --- which requests -------------------------------------------------------------------------------------------


def asked(op: str = "put", key: str = "key") -> Asked:
    return Asked(op, "bucket", key, {})


def drawn(faults: Faults, number: int) -> list[str | None]:
    return [faults.draw(asked(), 0) for _ in range(number)]


def test_shares_are_of_all_requests_and_one_fault_excludes_the_others() -> None:
    faults = Faults(1, [parse_fault(text, 0) for text in ("slowdown=15%", "error=0.05", "reset=3%")])
    found = drawn(faults, 100_000)
    for name, share in (("slowdown", 0.15), ("error", 0.05), ("reset", 0.03), (None, 0.77)):
        assert found.count(name) / len(found) == pytest.approx(share, abs=0.005)


def test_a_seed_gives_the_same_faults_again() -> None:
    first, again, other = (drawn(Faults(seed, [parse_fault("error=50%", 0)]), 200) for seed in (1, 1, 2))
    assert first == again != other


def test_a_seed_gives_the_same_faults_to_the_same_requests() -> None:
    seen = []
    for _ in range(2):
        options = ("--seed", "5", "--fault", "error=30%", "--fault", "slowdown=30%")
        with simulator(*options) as server, connect(server) as connection:
            client = Client(connection)
            seen.append([client.ask(PUT)[0] for _ in range(100)])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {200, 500, 503}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"times": "2"}, "EE.........."),
        ({"skip": "3"}, "...EEEEEEEEE"),
        ({"times": "1", "skip": "5"}, ".....E......"),
        ({"after": "4s"}, "....EEEEEEEE"),
        ({"for": "4s"}, "EEEE........"),
        ({"after": "2s", "for": "3s"}, "..EEE......."),
        ({"times": "0"}, "............"),
    ],
)
def test_a_fault_happens_so_many_times_or_from_a_moment_on(options: dict[str, str], expected: str) -> None:
    faults = Faults()
    faults.put([make_fault("error", "1", options, 100.0)])
    seen = "".join("." if faults.draw(asked(), 100.0 + second) is None else "E" for second in range(len(expected)))
    assert seen == expected


def test_a_fault_happens_to_what_it_is_for() -> None:
    faults = Faults(0, [parse_fault("error=1,on=put+part,key=docs/", 0)])
    assert faults.draw(asked("put", "docs/1"), 0) == "error"
    assert faults.draw(asked("part", "old/docs/1"), 0) == "error"
    assert faults.draw(asked("get", "docs/1"), 0) is None
    assert faults.draw(asked("put", "doc/1"), 0) is None


def test_faults_change_while_it_runs(client: Client, server: RunningSimulator) -> None:
    server.set_faults({"error": 1})
    assert client.ask(PUT)[0] == 500
    server.set_faults({"slowdown": 1})
    assert client.ask(PUT)[0] == 500, "rules of other names stay"
    server.set_faults({"error": 0})
    assert client.ask(PUT)[0] == 503
    server.set_faults()
    assert client.ask(PUT)[0] == 200


@pytest.mark.parametrize(
    "text",
    ["eror=1", "error", "error=2", "error=-1%", "error=nan", "error=1,times=x", "error=1,on=puts", "error=1,often=2"],
)
def test_a_fault_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_fault(text, 0)


def test_a_wrong_option_is_said_at_the_start_and_while_it_runs(server: RunningSimulator) -> None:
    command = [sys.executable, "-m", "asyncup.bench.simulator", "--fault", "eror=1"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert process.returncode == 2
    assert "there is no fault 'eror'" in process.stderr
    with pytest.raises(ValueError, match="there is no fault eror"):
        server.set_faults({"eror": 1})
    with pytest.raises(ValueError, match="has no option 'often'"):
        server.set_faults({"error": 1}, often=2)


def test_no_request_is_hit_that_says_what_has_happened(client: Client, server: RunningSimulator) -> None:
    server.set_faults(dict.fromkeys(random.Random(1).sample(sorted(FAULTS), len(FAULTS)), 1))
    assert client.ask(request("GET", "/-/counters"))[0] == 200
    assert server.counters()["requests"] == {}
