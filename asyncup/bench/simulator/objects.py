"""S3's operations on objects, over a store: PUT, GET, HEAD, DELETE, conditions and multipart uploads.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from asyncup.bench.simulator.answers import Answer, Refusal, Words, http_date
from asyncup.bench.simulator.course import Course
from asyncup.bench.simulator.listing import list_objects, list_uploads
from asyncup.bench.simulator.null import Null, completed_xml, created_xml
from asyncup.bench.simulator.store import Entry, Part, Store, Upload

KEY_LIMIT = 1024
#: Bytes of every part but the last, at least.
PART_MINIMUM = 5 << 20

NO_SUCH_KEY = Refusal(404, "NoSuchKey", "The specified key does not exist.")
NO_SUCH_UPLOAD = Refusal(
    404,
    "NoSuchUpload",
    "The specified upload does not exist. The upload ID may be invalid, "
    "or the upload may have been aborted or completed.",
)
PRECONDITION_FAILED = Refusal(
    412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
)
KEY_TOO_LONG = Refusal(400, "KeyTooLongError", "Your key is too long")
INVALID_URI = Refusal(400, "InvalidURI", "Couldn't parse the specified URI.")
INVALID_PART = Refusal(
    400,
    "InvalidPart",
    "One or more of the specified parts could not be found. The part may not have been uploaded, "
    "or the specified entity tag may not match the part's entity tag.",
)
INVALID_PART_ORDER = Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
ENTITY_TOO_SMALL = Refusal(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
MALFORMED = Refusal(
    400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"
)
NOT_KEPT = Refusal(501, "NotImplemented", "The simulator keeps no bodies; start it with --keep all.")

#: Headers that S3 gives back as they came.
_KEPT = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_KEPT_PREFIX = "x-amz-meta-"
_PART = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)
_NUMBER = re.compile(rb"<PartNumber>\s*(\d+)\s*</PartNumber>")
_ETAG = re.compile(rb"<ETag>\s*(?:&quot;|&#34;|\")?([0-9a-fA-F]+)(?:&quot;|&#34;|\")?\s*</ETag>")


class Refused(Exception):
    """An operation ends with `refusal`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class Objects:
    """Carries operations out. What needs no store is answered by the S3 that has none."""

    def __init__(self, store: Store, words: Words, null: Null) -> None:
        self._store = store
        self._words = words
        self._null = null
        self._ways: dict[str, Callable[[Course, str], Answer]] = {
            "put": self._put,
            "get": self._get,
            "head": self._get,
            "delete": self._delete,
            "create": self._create,
            "part": self._put_part,
            "complete": self._complete,
            "abort": self._abort,
            "list": lambda course, _: list_objects(course.asked, store.bucket(course.asked.bucket), words),
            "uploads": lambda course, _: list_uploads(course.asked, store, words),
        }

    def keeps_body(self, op: str) -> bool:
        """Whether an operation can only be carried out with the body in hand."""
        return op == "complete" or (self._store.keeps_bodies and op in ("put", "part"))

    def perform(self, course: Course, digest: str) -> Answer:
        """The answer to a request whose body has come; `digest` is the hexadecimal MD5 of that body."""
        asked = course.asked
        way = self._ways.get(asked.op)
        if way is None:
            return self._null.perform(asked, course.head.method, digest)
        try:
            _check_key(asked.key)
            return way(course, digest)
        except Refused as exc:
            return self._words.error(exc.refusal, course.head.method)

    def _entry(self, course: Course) -> Entry | None:
        return self._store.bucket(course.asked.bucket).entries.get(course.asked.key)

    def _check(self, course: Course) -> None:
        """Hold a write against its conditions.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        fields = course.fields
        none_match, match = fields.get("if-none-match"), fields.get("if-match")
        if none_match is None and match is None:
            return
        found = self._entry(course)
        if none_match is not None:
            if none_match != "*":
                raise Refused(
                    Refusal(
                        501, "NotImplemented", "A header you provided implies functionality that is not implemented"
                    )
                )
            if found is not None:
                raise Refused(PRECONDITION_FAILED._replace(extra="<Condition>If-None-Match</Condition>"))
        if match is not None:
            if found is None:
                raise Refused(NO_SUCH_KEY)
            if match.strip('"') not in ("*", found.etag):
                raise Refused(PRECONDITION_FAILED._replace(extra="<Condition>If-Match</Condition>"))

    def _put(self, course: Course, digest: str) -> Answer:
        self._check(course)
        kind, headers = _described(course.fields)
        body = None if course.body is None or not self._store.keeps_bodies else bytes(course.body.data)
        entry = Entry(course.head.length, digest, self._words.now(), kind, headers, body)
        self._store.put(course.asked.bucket, course.asked.key, entry)
        return self._words.put(digest)

    def _get(self, course: Course, _: str) -> Answer:
        found = self._entry(course)
        if found is None:
            raise Refused(NO_SUCH_KEY)
        headers = f'Last-Modified: {http_date(found.modified)}\r\nETag: "{found.etag}"\r\n{found.headers}'
        if course.asked.op == "head":
            return self._words.make(200, b"", headers, found.kind, length=found.size, bare=True)
        if found.body is None:
            raise Refused(NOT_KEPT)
        return self._words.make(200, found.body, headers, found.kind)

    def _delete(self, course: Course, _: str) -> Answer:
        self._check(course)
        self._store.bucket(course.asked.bucket).delete(course.asked.key)
        return self._words.make(204)

    # --- multipart uploads ------------------------------------------------------------------------------------

    def _create(self, course: Course, _: str) -> Answer:
        asked = course.asked
        kind, headers = _described(course.fields)
        upload = Upload(asked.bucket, asked.key, self._words.now(), kind, headers)
        return self._words.make(200, created_xml(asked, self._store.begin(upload)))

    def _upload(self, course: Course) -> Upload:
        asked = course.asked
        upload = self._store.uploads.get(asked.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (asked.bucket, asked.key):
            raise Refused(NO_SUCH_UPLOAD)
        return upload

    def _put_part(self, course: Course, digest: str) -> Answer:
        text = course.asked.query["partNumber"]
        if not text.isdigit() or not 1 <= int(text) <= 10_000:
            raise Refused(
                Refusal(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
            )
        body = None if course.body is None or not self._store.keeps_bodies else bytes(course.body.data)
        self._upload(course).parts[int(text)] = Part(course.head.length, digest, body)
        return self._words.put(digest)

    def _complete(self, course: Course, _: str) -> Answer:
        """Join parts; the ETag is the MD5 of their MD5s, a dash, and how many there are.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        upload = self._upload(course)
        self._check(course)
        parts = _chosen(bytes(course.body.data) if course.body is not None else b"", upload)
        if any(part.size < PART_MINIMUM for part in parts[:-1]):
            raise Refused(ENTITY_TOO_SMALL)
        joined = hashlib.md5(b"".join(bytes.fromhex(part.md5) for part in parts), usedforsecurity=False)
        etag = f"{joined.hexdigest()}-{len(parts)}"
        body = b"".join(part.body or b"" for part in parts) if self._store.keeps_bodies else None
        size = sum(part.size for part in parts)
        entry = Entry(size, etag, self._words.now(), upload.kind, upload.headers, body)
        self._store.put(upload.bucket, upload.key, entry)
        del self._store.uploads[course.asked.query["uploadId"]]
        return self._words.make(200, completed_xml(course.asked, etag))

    def _abort(self, course: Course, _: str) -> Answer:
        self._upload(course)
        del self._store.uploads[course.asked.query["uploadId"]]
        return self._words.make(204)


def _check_key(key: str) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError as exc:  # what it was read from was not UTF-8
        raise Refused(INVALID_URI) from exc
    if size > KEY_LIMIT:
        raise Refused(KEY_TOO_LONG)


def _chosen(raw: bytes, upload: Upload) -> list[Part]:
    """The parts that the body of a CompleteMultipartUpload names."""
    parts, before = [], 0
    for element in _PART.findall(raw):
        number, etag = _NUMBER.search(element), _ETAG.search(element)
        if number is None or etag is None:
            raise Refused(MALFORMED)
        if int(number[1]) <= before:
            raise Refused(INVALID_PART_ORDER)
        before = int(number[1])
        part = upload.parts.get(before)
        if part is None or part.md5 != etag[1].decode().lower():
            raise Refused(INVALID_PART)
        parts.append(part)
    if not parts:
        raise Refused(MALFORMED)
    return parts


def _described(fields: dict[str, str]) -> tuple[str, str]:
    """The content type, and the lines of the other headers that are kept with an object."""
    lines = [f"{name}: {value}\r\n" for name, value in fields.items() if name in _KEPT or name.startswith(_KEPT_PREFIX)]
    return fields.get("content-type", "binary/octet-stream"), "".join(lines)
