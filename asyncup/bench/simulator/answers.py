"""What is answered: shaped like the answers of S3, made of parts that were put together beforehand.

Buckets are named in the path and all exist; no object does. Whatever is not known is answered with 501.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from asyncup.bench.simulator.counters import Counters
from asyncup.bench.simulator.framing import BadRequest, Head

#: What `--etag` takes: the MD5 of the body, as S3 promises it in most cases, or something that is plainly not one.
ETAGS = ("md5", "fixed")
FIXED_ETAG = "null-1"
MULTIPART_ETAG = "d41d8cd98f00b204e9800998ecf8427e-1"
REGION = "us-east-1"
#: Where what is not S3 lies; no bucket can have this name.
CONTROL = "/-/"

_REQUEST_ID = "4442587FB7D0A2F9"
_IDS = f"x-amz-id-2: ZOL4VqGi5xdBuKKM6gjNpG9iPcOCI0f5sFZVm9xk7b0yN/6KvYcyVgPnX0Fv5gKJc8Mkq7N3lVE=\r\nx-amz-request-id: {_REQUEST_ID}\r\n"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes for the wire, and the status for the counters. What answers below `/-/` is neither counted nor delayed."""

    status: int
    raw: bytes
    is_control: bool = False


class Answers:
    """Answers requests. `digests` says whether bodies are to be hashed for it."""

    def __init__(self, etag: str, counters: Counters) -> None:
        self.digests = etag == "md5"
        self._counters = counters
        self._second = 0
        self._date = ""
        self._uploads = 0
        self._stored = Answer(200, b"")

    def answer(self, head: Head, digest: str | None) -> Answer:
        """The answer to a request whose body has come; `digest` is the hexadecimal MD5 of that body."""
        self._new_second()
        method, target = head.method, head.target
        if target.startswith(CONTROL):
            return self._control(method, target)
        path, _, query = target.partition("?")
        is_object = path.find("/", 1) > 0 and not path.endswith("/", 0, path.find("/", 1) + 2)
        if method == "PUT" and is_object and (not query or _is_part(query)):
            return self._stored if digest is None else self._put(digest)
        if method in ("GET", "HEAD") and not is_object and (not query or "list-type=" in query):
            return self._bucket(method, path)
        if is_object and method == "DELETE" and (not query or "uploadId" in _names(query)):
            return self._make(204)
        if is_object and method == "POST":
            if "uploads" in _names(query):
                return self._initiate(path)
            if "uploadId" in _names(query):
                return self._complete(path)
        return self._error(501, "NotImplemented", "The simulator does not know this request.", method)

    def refuse(self, reason: BadRequest) -> Answer:
        """The answer to what is no request, after which the connection ends."""
        self._new_second()
        return self._error(reason.status, reason.code, str(reason), "", "Connection: close\r\n")

    def _new_second(self) -> None:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
            self._stored = self._put(FIXED_ETAG)

    def _put(self, etag: str) -> Answer:
        text = f'HTTP/1.1 200 OK\r\n{_IDS}Date: {self._date}\r\nETag: "{etag}"\r\nServer: AmazonS3\r\nContent-Length: 0\r\n\r\n'
        return Answer(200, text.encode())

    def _make(
        self, status: int, body: str = "", headers: str = "", kind: str = "application/xml", *, bare: bool = False
    ) -> Answer:
        """An answer with a body; `bare` for HEAD, whose answer has the headers alone."""
        content = body.encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{_IDS}Date: {self._date}\r\n{headers}"
        if status != HTTPStatus.NO_CONTENT:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        head += "Server: AmazonS3\r\n\r\n"
        return Answer(status, head.encode() + (b"" if bare else content))

    def _error(self, status: int, code: str, message: str, method: str, headers: str = "") -> Answer:
        body = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{_REQUEST_ID}</RequestId></Error>"
        return self._make(status, _XML + body, headers, bare=method == "HEAD")

    def _bucket(self, method: str, path: str) -> Answer:
        body = (
            f"{_XML}<ListBucketResult {_NAMESPACE}><Name>{_text(path.strip('/'))}</Name><Prefix></Prefix>"
            "<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
        )
        return self._make(200, body, f"x-amz-bucket-region: {REGION}\r\n", bare=method == "HEAD")

    def _initiate(self, path: str) -> Answer:
        self._uploads += 1
        body = f"{_place(path)}<UploadId>upload-{self._uploads}</UploadId>"
        return self._make(
            200, f"{_XML}<InitiateMultipartUploadResult {_NAMESPACE}>{body}</InitiateMultipartUploadResult>"
        )

    def _complete(self, path: str) -> Answer:
        body = f"<Location>http://localhost{escape(path)}</Location>{_place(path)}<ETag>&quot;{MULTIPART_ETAG}&quot;</ETag>"
        return self._make(
            200, f"{_XML}<CompleteMultipartUploadResult {_NAMESPACE}>{body}</CompleteMultipartUploadResult>"
        )

    def _control(self, method: str, target: str) -> Answer:
        asked = (method, target.removeprefix(CONTROL))
        if asked not in {("GET", "counters"), ("POST", "reset")}:
            answer = self._make(404, "there is GET /-/counters and POST /-/reset\n", kind="text/plain")
        else:
            if method == "POST":
                self._counters.reset()
            answer = self._make(200, json.dumps(self._counters.as_json()) + "\n", kind="application/json")
        return Answer(answer.status, answer.raw, is_control=True)


def _names(query: str) -> dict[str, list[str]]:
    return parse_qs(query, keep_blank_values=True)


def _is_part(query: str) -> bool:
    names = _names(query)
    return "partNumber" in names and "uploadId" in names


def _text(raw: str) -> str:
    return escape(unquote(raw))


def _place(path: str) -> str:
    bucket, _, key = path[1:].partition("/")
    return f"<Bucket>{_text(bucket)}</Bucket><Key>{_text(key)}</Key>"
