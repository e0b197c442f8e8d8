"""What a request asks S3 for: buckets are named in the path, and the query says which operation is meant."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from asyncup.bench.simulator.framing import Head

#: Where what is not S3 lies; no bucket can have this name.
CONTROL = "/-/"
#: Names of operations, as `on=` of a fault takes them.
OPERATIONS = (
    "put",
    "part",
    "create",
    "complete",
    "abort",
    "delete",
    "get",
    "head",
    "list",
    "uploads",
    "bucket",
    "other",
)
#: Those that write objects.
WRITES = frozenset({"put", "part", "create", "complete", "abort", "delete"})


class Asked(NamedTuple):
    """An operation of `OPERATIONS` and its subject. A key that is not UTF-8 has surrogates in it."""

    op: str
    bucket: str
    key: str
    query: dict[str, str]


def read_asked(head: Head) -> Asked:
    path, _, text = head.target.partition("?")
    bucket, _, key = path[1:].partition("/")
    query = dict(parse_qsl(text, keep_blank_values=True)) if text else {}
    query.pop("x-id", None)  # a name that some SDKs give the operation
    return Asked(_operation(head.method, bool(key), query), bucket, unquote(key, errors="surrogateescape"), query)


def _operation(method: str, is_object: bool, query: dict[str, str]) -> str:
    if not is_object:
        return _of_bucket(method, query)
    multipart = "uploadId" in query
    match method:
        case "PUT" if not query:
            return "put"
        case "PUT" if multipart and "partNumber" in query:
            return "part"
        case "POST" if "uploads" in query:
            return "create"
        case "POST" if multipart:
            return "complete"
        case "DELETE" if multipart:
            return "abort"
        case "DELETE" | "GET" | "HEAD" if not query:
            return method.lower()
        case _:
            return "other"


def _of_bucket(method: str, query: dict[str, str]) -> str:
    match method:
        case "HEAD":
            return "bucket"
        case "GET" if not query or "list-type" in query:
            return "list"
        case "GET" if "location" in query:
            return "bucket"
        case "GET" if "uploads" in query:
            return "uploads"
        case _:
            return "other"
