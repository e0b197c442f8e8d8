"""How answers are worded: shaped like those of S3, made of parts that were put together beforehand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple
from xml.sax.saxutils import escape

from asyncup.bench.simulator.counters import Counters

#: What `--etag` takes: the MD5 of the body, as S3 promises it in most cases, or something that is plainly not one.
ETAGS = ("md5", "fixed")
FIXED_ETAG = "null-1"
#: The region that all buckets are in, unless `--region` names another.
REGION = "us-east-1"
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'

_REQUEST_ID = "4442587FB7D0A2F9"
_IDS = f"x-amz-id-2: ZOL4VqGi5xdBuKKM6gjNpG9iPcOCI0f5sFZVm9xk7b0yN/6KvYcyVgPnX0Fv5gKJc8Mkq7N3lVE=\r\nx-amz-request-id: {_REQUEST_ID}\r\n"


class Answer(NamedTuple):
    """Bytes for the wire, and the status for the counters. What answers below `/-/` is neither counted nor delayed.

    `rest` is what follows `raw`, made while it is sent, so that it is never all in memory.
    """

    status: int
    raw: bytes
    is_control: bool = False
    rest: Iterator[bytes] | None = None


class Refusal(NamedTuple):
    """What S3 says no with; `extra` is XML inside of its `<Error>`, `headers` are whole lines.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """

    status: int
    code: str
    message: str
    headers: str = ""
    extra: str = ""
    closes: bool = False


class Words:
    """Words answers. Its clock is `offset` seconds ahead of the machine's."""

    def __init__(self, counters: Counters, offset: float = 0.0) -> None:
        self._counters = counters
        self._offset = offset
        self._second = 0
        self._date = ""
        #: The answer to a PUT whose ETag is fixed.
        self.stored = Answer(200, b"")

    def tick(self) -> None:
        """Bring the date up to this second; to be called before anything is worded."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._counters.second(now)
            self._date = http_date(now + self._offset)
            self.stored = self.put(FIXED_ETAG)

    def now(self) -> float:
        """What this server holds for the time, in seconds since 1970."""
        return time.time() + self._offset

    def set_offset(self, offset: float) -> None:
        self._offset = offset
        self._second = 0

    def put(self, etag: str) -> Answer:
        text = f'HTTP/1.1 200 OK\r\n{_IDS}Date: {self._date}\r\nETag: "{etag}"\r\nServer: AmazonS3\r\nContent-Length: 0\r\n\r\n'
        return Answer(200, text.encode())

    def make(
        self,
        status: int,
        body: str | bytes = b"",
        headers: str = "",
        kind: str = "application/xml",
        *,
        length: int | None = None,
        bare: bool = False,
    ) -> Answer:
        """An answer with a body; `bare` for HEAD, whose answer has the headers alone; `length` if it says another."""
        content = body.encode(errors="surrogateescape") if isinstance(body, str) else body
        head = f"HTTP/1.1 {status} {_phrase(status)}\r\n{_IDS}Date: {self._date}\r\n{headers}"
        if status != HTTPStatus.NO_CONTENT:
            if kind:
                head += f"Content-Type: {kind}\r\n"
            head += f"Content-Length: {len(content) if length is None else length}\r\n"
        head += "Server: AmazonS3\r\n\r\n"
        return Answer(status, head.encode("latin-1") + (b"" if bare else content))

    def error(self, refusal: Refusal, method: str) -> Answer:
        return self.make(
            refusal.status,
            error_xml(refusal),
            refusal.headers + ("Connection: close\r\n" if refusal.closes else ""),
            bare=method == "HEAD",
        )

    def stream(self, pieces: Iterator[bytes], kind: str) -> Answer:
        """An answer of pieces whose number is not known beforehand (RFC 9112, 7.1); none may be empty."""
        head = f"HTTP/1.1 200 OK\r\nDate: {self._date}\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        return Answer(200, head.encode(), rest=_chunks(pieces))


def error_xml(refusal: Refusal) -> str:
    return (
        f"{XML}<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>{refusal.extra}"
        f"<RequestId>{_REQUEST_ID}</RequestId></Error>"
    )


def http_date(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def xml_date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _phrase(status: int) -> str:
    return "Slow Down" if status == HTTPStatus.SERVICE_UNAVAILABLE else HTTPStatus(status).phrase


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
