"""What others make of the same bytes: botocore's own signer, and readers of HTTP that share nothing with asyncup.

The readers are written from RFC 9112 and slow. They take what that standard allows a recipient to take.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from asyncup.sinks.s3.signing import Credentials

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_REQUEST_FIELD = re.compile(rb"(" + _TOKEN + rb"): ([\t\x20-\x7e]*)")
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: [^\r\n]*)?\r\n")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[^\r\n]*)?\r\n")


def signed_by_botocore(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    region: str,
    seconds: float,
    trusts_tls: bool = False,
) -> dict[str, str]:
    """The headers of a request as botocore signs it at this moment, names in lower case.

    With `trusts_tls` a checksum over TLS stands in for the payload's hash, as it does for botocore's PutObject.
    """
    request = AWSRequest(method, url, dict(headers), body)
    checksums = [name for name in headers if name.startswith("x-amz-checksum-")]
    if trusts_tls and checksums:
        algorithm = {"in": "header", "name": checksums[0]}
        request.context = {"has_streaming_input": True, "checksum": {"request_algorithm": algorithm}}
    keys = BotoCredentials(credentials.access_key, credentials.secret_key, credentials.token)
    with pytest.MonkeyPatch.context() as patch:
        now = dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
        patch.setattr("botocore.auth.get_current_datetime", lambda: now)
        S3SigV4Auth(keys, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@dataclass(frozen=True)
class Request:
    """A request as it was sent; header names are in lower case, values without blanks at their ends."""

    method: str
    target: str
    headers: list[tuple[str, str]]


def read_request(head: bytes) -> Request:
    """The one head that these bytes are, to the letter of RFC 9112; AssertionError when they are anything else."""
    assert head.endswith(b"\r\n\r\n")
    first, *fields = head[:-4].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    assert line, first
    headers = []
    for field in fields:
        parsed = _REQUEST_FIELD.fullmatch(field)
        assert parsed, field
        headers.append((parsed[1].decode().lower(), parsed[2].decode().strip(" \t")))
    return Request(line[1].decode(), line[2].decode(), headers)


@dataclass(frozen=True)
class Response:
    """A final response as it was received, and what came after it. Of headers that come twice the last one counts."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    rest: bytes


def read_response(data: bytes, ended: bool) -> Response | None:
    """The complete final response at the start of the data, after interim ones; None when there is none.

    `ended` says that the server has ended the connection properly after the data.
    """
    rest = data
    while True:
        head = _read_head(rest.lstrip(b"\r\n"))
        if head is None:
            return None
        status, headers, rest = head
        if not 100 <= status < 200:
            found = _read_body(status, headers, rest, ended)
            return None if found is None else Response(status, headers, *found)
        if status == 101:
            return None


def _read_head(data: bytes) -> tuple[int, dict[bytes, bytes], bytes] | None:
    line = _STATUS_LINE.match(data)
    if line is None:
        return None
    fields = _read_fields(data, line.end())
    return None if fields is None else (int(line[1]), *fields)


def _read_fields(data: bytes, at: int) -> tuple[dict[bytes, bytes], bytes] | None:
    headers: dict[bytes, bytes] = {}
    lengths = 0
    while field := _FIELD.match(data, at):
        headers[field[1]] = field[2].rstrip(b" \t")
        lengths += field[1].lower() == b"content-length"
        at = field.end()
    return (headers, data[at + 2 :]) if data.startswith(b"\r\n", at) and lengths < 2 else None


def _read_body(status: int, headers: dict[bytes, bytes], rest: bytes, ended: bool) -> tuple[bytes, bytes] | None:
    """The body and what follows it: RFC 9112, section 6.3. What that calls faulty is no answer here."""
    if status in (204, 304):
        return b"", rest
    known = {name.lower(): value for name, value in headers.items()}
    coding, length = known.get(b"transfer-encoding"), known.get(b"content-length")
    if coding is not None:
        if length is not None or coding.lower().split(b",")[-1].strip(b" \t") != b"chunked":
            return None
        return _read_chunks(rest)
    if length is not None:
        if not re.fullmatch(rb"[0-9]+", length) or len(rest) < int(length):
            return None
        return rest[: int(length)], rest[int(length) :]
    return (rest, b"") if ended else None


def _read_chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while chunk := _CHUNK.match(rest):
        size = int(chunk[1], 16)
        rest = rest[chunk.end() :]
        if size == 0:
            trailers = _read_fields(rest, 0)
            return None if trailers is None else (body, trailers[1])
        body += rest[:size]
        if rest[size : size + 2] != b"\r\n":
            return None
        rest = rest[size + 2 :]
    return None
