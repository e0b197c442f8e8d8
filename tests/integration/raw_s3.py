"""Requests as bytes and answers as they come: what a client library would hide of a server."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from asyncup.bench.simulator.launch import RunningSimulator

ACCESS = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def request(method: str = "PUT", target: str = "/bucket/key", body: bytes = b"", headers: str = "") -> bytes:
    """`headers` are whole lines."""
    return f"{method} {target} HTTP/1.1\r\nHost: s3\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


class Client:
    """A socket that knows just enough of HTTP to tell answers apart."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.stream = connection.makefile("rb")

    def ask(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        self.socket.sendall(raw)
        return self.answer(bare=raw.startswith(b"HEAD"))

    def answer(self, *, bare: bool = False) -> tuple[int, dict[str, str], bytes]:
        status = int(self.stream.readline().split()[1])
        headers = {}
        while line := self.stream.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers, b"" if bare else self.stream.read(int(headers.get("content-length", 0)))

    def code(self, raw: bytes) -> tuple[int, str]:
        """The status of an answer, and the code of the error that it holds."""
        status, _, body = self.ask(raw)
        found = re.search(rb"<Code>(\w+)</Code>", body)
        return status, "" if found is None else found[1].decode()


def connect(server: RunningSimulator) -> socket.socket:
    place = urlsplit(server.endpoint_url)
    connection = socket.create_connection((place.hostname, place.port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def boto(server: RunningSimulator, secret: str = SECRET, token: str | None = None) -> boto3.client:
    """A client that tries everything once."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=secret,
        aws_session_token=token,
        verify=None if server.authority is None else str(server.authority),
        config=Config(retries={"total_max_attempts": 1}),
    )
