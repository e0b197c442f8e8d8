"""The simulator, run as the process that it is: what it answers, how requests may arrive, and what it counts."""

from __future__ import annotations

import contextlib
import hashlib
import re
import selectors
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from asyncup.bench.simulator.framing import HEAD_LIMIT
from asyncup.bench.simulator.launch import RunningSimulator, simulator
from tests.bench.certificate import Certificate, make_certificate
from tests.integration import raw_s3
from tests.integration.raw_s3 import Client, boto, connect

BODY = b"\r\n\r\n" * 300  # looks like the end of a head


def request(method: str = "PUT", target: str = "/bucket/key", body: bytes = BODY, headers: str = "") -> bytes:
    return raw_s3.request(method, target, body, headers)


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    with simulator() as server:
        yield server


@pytest.fixture
def server(running: RunningSimulator) -> RunningSimulator:
    running.reset()
    return running


@pytest.fixture
def client(server: RunningSimulator) -> Iterator[Client]:
    with connect(server) as connection:
        yield Client(connection)


def test_a_put_is_answered_as_by_s3_with_the_md5_of_its_body(client: Client) -> None:
    status, headers, body = client.ask(request())
    assert (status, body) == (200, b"")
    assert headers["etag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    assert headers["server"] == "AmazonS3"
    assert {"x-amz-request-id", "x-amz-id-2", "date"} <= headers.keys()


def test_a_fixed_etag_does_not_look_like_an_md5() -> None:
    with simulator("--etag", "fixed") as server, connect(server) as connection:
        _, headers, _ = Client(connection).ask(request())
    assert not re.fullmatch(r'"[0-9a-f]{32}(-\d+)?"', headers["etag"])


def test_a_connection_serves_many_requests_cut_at_any_byte(client: Client, server: RunningSimulator) -> None:
    raw = request(body=b"0123456789")
    for cut in range(1, len(raw)):
        client.socket.sendall(raw[:cut])
        status, headers, _ = client.ask(raw[cut:])
        assert (status, headers["etag"]) == (200, f'"{hashlib.md5(b"0123456789").hexdigest()}"')
    for byte in raw[:-1]:
        client.socket.sendall(bytes([byte]))
    assert client.ask(raw[-1:])[0] == 200
    assert server.counters()["requests"] == {"PUT": len(raw)}


def test_requests_that_come_at_once_are_answered_in_order(client: Client) -> None:
    bodies = [b"x" * length for length in (0, 1, 100_000, 0, 7)]
    client.socket.sendall(b"".join(request(body=body) for body in bodies))
    assert [client.answer()[1]["etag"] for _ in bodies] == [f'"{hashlib.md5(body).hexdigest()}"' for body in bodies]


def test_a_large_body_is_counted_and_hashed_but_not_kept(client: Client, server: RunningSimulator) -> None:
    body = b"large" * (20 << 20)
    _, headers, _ = client.ask(request(body=body))
    assert headers["etag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert server.counters()["bytes"] == len(body)
    resident = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())[1])
    assert resident < 64 << 10  # KiB, of a body of 100 MiB


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("PUT", "/bucket/a//b%20c", 200, b""),
        ("PUT", "/bucket//leading", 200, b""),
        ("HEAD", "/bucket", 200, b""),
        ("GET", "/bucket/?list-type=2&prefix=a", 200, b"<KeyCount>0</KeyCount>"),
        ("DELETE", "/bucket/key", 204, b""),
        ("GET", "/bucket/key", 501, b"<Code>NotImplemented</Code>"),
        ("PUT", "/bucket/key?tagging", 501, b"<Code>NotImplemented</Code>"),
        ("POST", "/bucket/?delete", 501, b"<Code>NotImplemented</Code>"),
        ("GET", "/-/else", 404, b"/-/counters"),
    ],
)
def test_requests_are_answered_by_what_they_ask_for(
    client: Client, method: str, target: str, status: int, text: bytes
) -> None:
    answer = client.ask(request(method, target, b""))
    assert (answer[0], text in answer[2]) == (status, True)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"PUT /b/k HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /b/k HTTP/1.1\r\nX: ".ljust(HEAD_LIMIT + 1, b"x"), 400),
        (b"PUT /b/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (request(headers="Connection: close\r\n"), 200),
    ],
)
def test_the_connection_ends_where_nothing_can_follow(client: Client, raw: bytes, status: int) -> None:
    assert client.ask(raw)[0] == status
    assert client.stream.read() == b""


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(client: Client) -> None:
    raw = request(headers="Expect: 100-continue\r\n")
    client.socket.sendall(raw[: -len(BODY)])
    assert client.stream.readline() == b"HTTP/1.1 100 Continue\r\n"
    assert client.stream.readline() == b"\r\n"
    assert client.ask(BODY)[0] == 200


def test_counters_tell_requests_answers_and_connections_and_begin_anew(
    client: Client, server: RunningSimulator
) -> None:
    client.ask(request())
    client.ask(request("DELETE"))
    client.ask(request("GET", "/bucket/key", b""))
    counters = server.counters()
    assert counters["requests"] == {"PUT": 1, "DELETE": 1, "GET": 1}
    assert counters["answers"] == {"200": 1, "204": 1, "501": 1}
    assert counters["bytes"] == 2 * len(BODY)
    # the one that asks for the counters is a connection too
    assert counters["connections"]["open"] == 2
    assert counters["cpu_seconds"] > 0
    server.reset()
    counters = server.counters()
    assert counters["requests"] == counters["answers"] == {}
    assert (counters["bytes"], counters["connections"]["open"]) == (0, 2)


def test_what_was_accepted_is_counted_by_seconds(client: Client, server: RunningSimulator) -> None:
    for _ in range(50):
        client.ask(request(body=b""))
    client.ask(request("GET", "/bucket/key", b""))
    counters = server.counters()
    assert sum(counters["accepted_by_second"]) == 50
    assert sum(server.counters()["accepted_by_second"]) == 50, "to be asked changes nothing"
    assert len(counters["throttled_by_second"]) == len(counters["accepted_by_second"])


def test_no_answer_comes_before_the_latency_is_over_and_all_wait_at_the_same_time() -> None:
    with simulator("--latency", "58.8ms") as server:
        connections = [connect(server) for _ in range(100)]
        started = time.monotonic()
        for connection in connections:
            connection.sendall(request())
        first_sent = time.monotonic() - started
        for connection in connections:
            assert Client(connection).answer()[0] == 200
            assert time.monotonic() - started >= 0.0588
            connection.close()
        together = time.monotonic() - started
        counters = server.counters()
    assert together < first_sent + 1, "one after another they would take six seconds"
    assert counters["in_flight_peak"] > 1
    assert counters["late_seconds"] > 0


def test_a_latency_that_is_drawn_lets_answers_overtake_each_other_but_never_on_one_connection() -> None:
    with simulator("--latency", "lognormal:5ms,1.5", "--seed", "3") as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(server)) for _ in range(40)]
        started, arrived = time.monotonic(), {}
        for connection in connections:
            connection.sendall(request(body=b"x"))
        with selectors.DefaultSelector() as selector:
            for number, connection in enumerate(connections):
                selector.register(connection, selectors.EVENT_READ, number)
            while len(arrived) < len(connections):
                for found, _ in selector.select(10):
                    arrived[found.data] = time.monotonic() - started
                    selector.unregister(found.fileobj)
        assert list(arrived) != sorted(arrived)
        assert max(arrived.values()) > 4 * min(arrived.values()), "a heavy tail"
        client = Client(stack.enter_context(connect(server)))
        bodies = [b"x" * length for length in range(50)]
        client.socket.sendall(b"".join(request(body=body) for body in bodies))
        assert [client.answer()[1]["etag"] for _ in bodies] == [f'"{hashlib.md5(body).hexdigest()}"' for body in bodies]


def test_the_latency_changes_while_it_runs(client: Client, server: RunningSimulator) -> None:
    server.set_latency("100ms")
    started = time.monotonic()
    client.ask(request())
    assert time.monotonic() - started >= 0.1
    server.set_latency("0")


def test_boto3_stores_objects_in_one_piece_and_in_parts(server: RunningSimulator) -> None:
    client = boto(server)
    place = {"Bucket": "bucket", "Key": "a <b> & c/ä"}
    assert client.head_bucket(Bucket="bucket")["BucketRegion"] == "us-east-1"
    assert client.list_objects_v2(Bucket="bucket")["KeyCount"] == 0
    assert client.put_object(**place, Body=BODY)["ETag"] == f'"{hashlib.md5(BODY).hexdigest()}"'
    begun = client.create_multipart_upload(**place)
    assert (begun["Bucket"], begun["Key"]) == (place["Bucket"], place["Key"])
    upload = {**place, "UploadId": begun["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=BODY)["ETag"]}
        for number in (1, 2)
    ]
    done = client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert (done["Key"], done["ETag"].endswith('-1"')) == (place["Key"], True)
    client.abort_multipart_upload(**upload)
    with pytest.raises(ClientError, match="NotImplemented"):
        client.get_object(**place)
    assert client.create_multipart_upload(**place)["UploadId"] != begun["UploadId"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_it_speaks_tls(certificate: Certificate) -> None:
    with simulator("--tls-cert", str(certificate.server), authority=certificate.authority) as server:
        assert server.endpoint_url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=certificate.authority)
        with context.wrap_socket(connect(server), server_hostname="127.0.0.1") as connection:
            client = Client(connection)
            assert client.ask(request())[0] == client.ask(request())[0] == 200
        assert boto(server).delete_object(Bucket="bucket", Key="key")["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert server.counters()["requests"] == {"PUT": 2, "DELETE": 1}


@pytest.mark.parametrize("how", ["stdin", "SIGTERM"])
def test_it_ends_when_it_is_told_to_even_with_answers_waiting(how: str) -> None:
    with simulator("--latency", "1h") as server, connect(server) as connection:
        connection.sendall(request())
        while not server.counters()["requests"]:  # asking is not delayed
            pass
        if how == "stdin":
            server.process.stdin.close()
        else:
            server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
