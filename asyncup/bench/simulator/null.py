"""The S3 that keeps nothing: all buckets exist, no object does, and every PUT is answered at once.

Whatever is not known is answered with 501.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote
from xml.sax.saxutils import escape

from asyncup.bench.simulator.answers import NAMESPACE, REGION, XML, Answer, Refusal, Words
from asyncup.bench.simulator.asked import CONTROL, Asked, read_asked
from asyncup.bench.simulator.framing import BadRequest, Head

MULTIPART_ETAG = "d41d8cd98f00b204e9800998ecf8427e-1"
UNKNOWN = Refusal(501, "NotImplemented", "The simulator does not know this request.")


class Null:
    """Answers requests. `digests` says whether bodies are to be hashed for it; `control` answers what is no S3."""

    def __init__(self, etag: str, words: Words, control: Callable[[Head], Answer], region: str | None = None) -> None:
        self.digests = etag == "md5"
        self._words = words
        self._control = control
        self._region = region or REGION
        self._uploads = 0

    def answer(self, head: Head, digest: str | None) -> Answer:
        """The answer to a request whose body has come; `digest` is the hexadecimal MD5 of that body."""
        words = self._words
        words.tick()
        method, target = head.method, head.target
        if target.startswith(CONTROL):
            return self._control(head)
        if method == "PUT" and "?" not in target and 0 < target.find("/", 1) < len(target) - 1:
            return words.stored if digest is None else words.put(digest)
        return self.perform(read_asked(head), method, digest)

    def perform(self, asked: Asked, method: str, digest: str | None) -> Answer:
        """The answer to an operation, of whatever kind."""
        words = self._words
        match asked.op:
            case "put" | "part":
                return words.stored if digest is None else words.put(digest)
            case "bucket" | "list":
                return self._bucket(asked, method)
            case "delete" | "abort":
                return words.make(204)
            case "create":
                self._uploads += 1
                return words.make(200, created_xml(asked, f"upload-{self._uploads}"))
            case "complete":
                return words.make(200, completed_xml(asked, MULTIPART_ETAG))
            case _:
                return words.error(UNKNOWN, method)

    def refuse(self, reason: BadRequest) -> Answer:
        """The answer to what is no request, after which the connection ends."""
        self._words.tick()
        return self._words.error(Refusal(reason.status, reason.code, str(reason), closes=True), "")

    def _bucket(self, asked: Asked, method: str) -> Answer:
        if "location" in asked.query:
            region = "" if self._region == REGION else self._region
            return self._words.make(200, f"{XML}<LocationConstraint {NAMESPACE}>{region}</LocationConstraint>")
        body = (
            f"{XML}<ListBucketResult {NAMESPACE}><Name>{escape(asked.bucket)}</Name><Prefix></Prefix>"
            "<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
        )
        return self._words.make(200, body, f"x-amz-bucket-region: {self._region}\r\n", bare=method == "HEAD")


def created_xml(asked: Asked, upload_id: str) -> str:
    inner = f"{_place(asked)}<UploadId>{upload_id}</UploadId>"
    return f"{XML}<InitiateMultipartUploadResult {NAMESPACE}>{inner}</InitiateMultipartUploadResult>"


def completed_xml(asked: Asked, etag: str) -> str:
    inner = (
        f"<Location>http://localhost/{escape(asked.bucket)}</Location>{_place(asked)}<ETag>&quot;{etag}&quot;</ETag>"
    )
    return f"{XML}<CompleteMultipartUploadResult {NAMESPACE}>{inner}</CompleteMultipartUploadResult>"


def _place(asked: Asked) -> str:
    return f"<Bucket>{escape(unquote(asked.bucket))}</Bucket><Key>{escape(asked.key)}</Key>"
