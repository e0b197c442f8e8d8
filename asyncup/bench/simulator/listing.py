"""ListObjectsV2 and ListMultipartUploads.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from asyncup.bench.simulator.answers import NAMESPACE, XML, Answer, Refusal, Words, xml_date
from asyncup.bench.simulator.asked import Asked
from asyncup.bench.simulator.store import Bucket, Store

#: Keys of one answer, at most.
LIMIT = 1000
#: Sorts behind every key that begins with what stands before it.
_LAST = "\U0010ffff"


@dataclass(slots=True)
class _Page:
    """What one answer lists. `last` is where the next one goes on, None at the end."""

    keys: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    last: str | None = None


def list_objects(asked: Asked, bucket: Bucket, words: Words) -> Answer:
    """The answer to ListObjectsV2. With the query of another listing it is 501."""
    query = asked.query
    if query.get("list-type") != "2":
        return words.error(Refusal(501, "NotImplemented", "The simulator knows ListObjectsV2 alone."), "GET")
    try:
        limit = min(int(query.get("max-keys", LIMIT)), LIMIT)
        after = _from_token(query["continuation-token"]) if "continuation-token" in query else query.get("start-after")
    except ValueError as exc:
        return words.error(Refusal(400, "InvalidArgument", str(exc)), "GET")
    page = _read(bucket, query.get("prefix", ""), query.get("delimiter", ""), after, limit)
    is_encoded = query.get("encoding-type") == "url"

    def text(value: str) -> str:
        return quote_plus(value, safe="/*", errors="surrogateescape") if is_encoded else escape(value)

    parts = [
        f"{XML}<ListBucketResult {NAMESPACE}><Name>{escape(asked.bucket)}</Name>",
        f"<Prefix>{text(query.get('prefix', ''))}</Prefix>",
        f"<KeyCount>{len(page.keys) + len(page.prefixes)}</KeyCount><MaxKeys>{limit}</MaxKeys>",
        f"<IsTruncated>{'false' if page.last is None else 'true'}</IsTruncated>",
    ]
    if is_encoded:
        parts.append("<EncodingType>url</EncodingType>")
    for name, tag in (("delimiter", "Delimiter"), ("start-after", "StartAfter")):
        if name in query:
            parts.append(f"<{tag}>{text(query[name])}</{tag}>")
    if "continuation-token" in query:
        parts.append(f"<ContinuationToken>{escape(query['continuation-token'])}</ContinuationToken>")
    if page.last is not None:
        parts.append(f"<NextContinuationToken>{_to_token(page.last)}</NextContinuationToken>")
    for key in page.keys:
        entry = bucket.entries[key]
        parts.append(
            f"<Contents><Key>{text(key)}</Key><LastModified>{xml_date(entry.modified)}</LastModified>"
            f"<ETag>&quot;{entry.etag}&quot;</ETag><Size>{entry.size}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
    parts += [f"<CommonPrefixes><Prefix>{text(prefix)}</Prefix></CommonPrefixes>" for prefix in page.prefixes]
    parts.append("</ListBucketResult>")
    return words.make(200, "".join(parts))


def _read(bucket: Bucket, prefix: str, delimiter: str, after: str | None, limit: int) -> _Page:
    keys, page = bucket.keys(), _Page()
    position = bisect_left(keys, prefix)
    if after is not None:
        position = max(position, bisect_right(keys, after))
    last = ""
    while position < len(keys) and keys[position].startswith(prefix):
        if len(page.keys) + len(page.prefixes) >= limit:
            page.last = last if limit else None
            break
        key = keys[position]
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            page.keys.append(key)
            last = key
            position += 1
        else:
            page.prefixes.append(key[: end + len(delimiter)])
            last = page.prefixes[-1] + _LAST
            position = bisect_right(keys, last)
    return page


def list_uploads(asked: Asked, store: Store, words: Words) -> Answer:
    """The answer to ListMultipartUploads: the first thousand below the prefix, in the order of their keys."""
    prefix = asked.query.get("prefix", "")
    found = sorted(
        (upload.key, name, upload.started)
        for name, upload in store.uploads.items()
        if upload.bucket == asked.bucket and upload.key.startswith(prefix)
    )
    uploads = "".join(
        f"<Upload><Key>{escape(key)}</Key><UploadId>{name}</UploadId><Initiated>{xml_date(started)}</Initiated></Upload>"
        for key, name, started in found[:LIMIT]
    )
    body = f"<Bucket>{escape(asked.bucket)}</Bucket><MaxUploads>{LIMIT}</MaxUploads>"
    is_cut = "true" if len(found) > LIMIT else "false"
    return words.make(
        200,
        f"{XML}<ListMultipartUploadsResult {NAMESPACE}>{body}<IsTruncated>{is_cut}</IsTruncated>{uploads}"
        "</ListMultipartUploadsResult>",
    )


def _to_token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode(errors="surrogateescape")).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode(errors="surrogateescape")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise ValueError("The continuation token provided is incorrect") from exc
