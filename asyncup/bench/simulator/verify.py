"""Judges signatures: AWS Signature Version 4 in the Authorization header, with the payload's hash and its checksums.

Written from the specification, apart from what signs in asyncup, which is to be judged by it.
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes
from xml.sax.saxutils import escape

from asyncup.bench.simulator.answers import Refusal
from asyncup.bench.simulator.course import Course
from asyncup.bench.simulator.refusals import ACCESS_DENIED, BAD_DIGEST, EXPIRED_TOKEN, MAX_SKEW, skew_of, skewed

_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=([^,\s]+?)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request\s*,"
    r"\s*SignedHeaders=([^,\s]+)\s*,\s*Signature=([0-9a-f]{64})\s*"
)
_BLANKS = re.compile(r"[ \t]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")

INVALID_ACCESS_KEY = Refusal(
    403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
)
INVALID_TOKEN = Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
MALFORMED = Refusal(400, "AuthorizationHeaderMalformed", "The authorization header that you provided is not valid.")
NOT_SIGNED = ACCESS_DENIED._replace(message="There were headers present in the request which were not signed")
NO_DATE = ACCESS_DENIED._replace(message="AWS authentication requires a valid Date or x-amz-date header")
NO_HASH = Refusal(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
NO_STREAMS = Refusal(501, "NotImplemented", "The simulator does not know payloads that are signed in chunks.")
OTHER_HASH = Refusal(
    400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."
)


@dataclass(frozen=True, slots=True)
class Account:
    """An access key, its secret, and its session token if it has one."""

    access: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def parse_account(text: str) -> Account:
    """From `ACCESS,SECRET[,TOKEN]`. Raises ValueError."""
    parts = text.split(",", 2)
    if len(parts) < 2 or not all(parts):
        raise ValueError("credentials are written as ACCESS,SECRET or ACCESS,SECRET,TOKEN")
    return Account(*parts)


@dataclass(slots=True)
class Verifier:
    """Knows accounts, by their access keys; those that are in `expired` were valid once."""

    accounts: dict[str, Account]
    now: Callable[[], float]
    expired: set[str] = field(default_factory=set)

    def objection(self, course: Course) -> Refusal | None:
        """What is wrong with a request's signature, known when its head has come; None if nothing is."""
        fields = course.fields
        if "authorization" not in fields:
            return ACCESS_DENIED
        found = _AUTHORIZATION.fullmatch(fields["authorization"])
        if found is None:
            return MALFORMED
        access, day, region, service, names, signature = found.groups()
        account = self.accounts.get(access)
        date = fields.get("x-amz-date", "")
        refusal = self._unknown(account, fields) or _incomplete(fields, names.split(";"), date)
        if refusal is not None or account is None:
            return refusal
        now, skew = self.now(), skew_of(date, self.now())
        if skew is None or not date.startswith(day) or service != "s3":
            return NO_DATE if skew is None else MALFORMED
        if skew > MAX_SKEW:
            return skewed(date, now)
        request = _canonical_request(course, names)
        scope = f"{day}/{region}/{service}/aws4_request"
        to_sign = f"{_ALGORITHM}\n{date}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
        expected = hmac.new(_signing_key(account.secret, day, region, service), to_sign.encode(), "sha256").hexdigest()
        if not hmac.compare_digest(expected, signature):
            return _mismatch(account.access, to_sign, signature, request)
        return None

    def _unknown(self, account: Account | None, fields: dict[str, str]) -> Refusal | None:
        if account is None:
            return INVALID_ACCESS_KEY
        if account.access in self.expired:
            return EXPIRED_TOKEN
        if fields.get("x-amz-security-token") != account.token:
            return INVALID_TOKEN
        return None


def payload_objection(course: Course) -> Refusal | None:
    """What a body is not, of what its head says that it is; None if all holds."""
    fields, body = course.fields, b"" if course.body is None else course.body.data
    hashed = fields.get("x-amz-content-sha256", "")
    if _SHA256.fullmatch(hashed) and hashed != hashlib.sha256(body).hexdigest():
        return OTHER_HASH
    sums: dict[str, Callable[[], bytes]] = {
        "content-md5": lambda: hashlib.md5(body, usedforsecurity=False).digest(),
        "x-amz-checksum-crc32": lambda: zlib.crc32(body).to_bytes(4, "big"),
        "x-amz-checksum-sha1": lambda: hashlib.sha1(body, usedforsecurity=False).digest(),
        "x-amz-checksum-sha256": lambda: hashlib.sha256(body).digest(),
    }
    for name, make in sums.items():
        if name in fields and fields[name] != base64.b64encode(make()).decode():
            if name == "content-md5":
                return BAD_DIGEST
            algorithm = name.removeprefix("x-amz-checksum-").upper()
            return BAD_DIGEST._replace(message=f"The {algorithm} you specified did not match the calculated checksum.")
    return None


def _incomplete(fields: dict[str, str], names: list[str], date: str) -> Refusal | None:
    """What every request has to have, and to sign: its host and all that begins with x-amz."""
    if not date:
        return NO_DATE
    hashed = fields.get("x-amz-content-sha256")
    if hashed is None:
        return NO_HASH
    if hashed.startswith("STREAMING-"):
        return NO_STREAMS
    if names != sorted(set(names)) or any(name not in fields for name in names):
        return MALFORMED
    must_be = {name for name in fields if name.startswith("x-amz-")} | {"host"}
    return None if must_be <= set(names) else NOT_SIGNED


def _canonical_request(course: Course, names: str) -> bytes:
    path, _, query = course.head.target.partition("?")
    pairs = sorted(
        (_encode(name, safe=""), _encode(value, safe=""))
        for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)
    )
    headers = "".join(f"{name}:{_BLANKS.sub(' ', course.fields[name])}\n" for name in names.split(";"))
    lines = [
        course.head.method,
        _encode(path, safe="/"),
        "&".join(f"{name}={value}" for name, value in pairs),
        headers,
        names,
        course.fields["x-amz-content-sha256"],
    ]
    return "\n".join(lines).encode("latin-1")


def _encode(text: str, safe: str) -> str:
    """Percent-encoded once: all but unreserved characters, in upper case, whatever the client encoded of it."""
    return quote(unquote_to_bytes(text.encode("latin-1")), safe=f"{safe}-_.~")


@lru_cache
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _mismatch(access: str, to_sign: str, signature: str, request: bytes) -> Refusal:
    """As S3 does, show what should have been signed, which is no secret."""
    return Refusal(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
        extra=f"<AWSAccessKeyId>{escape(access)}</AWSAccessKeyId><StringToSign>{escape(to_sign)}</StringToSign>"
        f"<SignatureProvided>{signature}</SignatureProvided>"
        f"<CanonicalRequest>{escape(request.decode('latin-1'))}</CanonicalRequest>",
    )
