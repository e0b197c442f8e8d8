"""What an error of S3 or of the way to it means for a run.

Source of the codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. Other servers use the same
names; what is unknown is judged by its HTTP status.
"""

from __future__ import annotations

import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from botocore import exceptions as boto

from asyncup.errors import (
    AsyncupError,
    BucketElsewhere,
    ClockSkewed,
    ConnectionLost,
    CredentialsExpired,
    DestinationRefused,
    Disposition,
    ObjectExists,
    PayloadCorrupted,
    RowRefused,
    ServerFault,
    Throttled,
    Unreachable,
)

THROTTLED = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "RequestThrottled",
        "ServiceUnavailable",
    }
)
AGAIN = frozenset(
    {
        "RequestTimeout",
        "IncompleteBody",
        "OperationAborted",
        "ConditionalRequestConflict",
        "InternalError",
        "ServerBusy",
        "Busy",
    }
)
CORRUPTED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch"})
STALE = {
    "RequestTimeTooSkewed": "set this machine's clock: S3 allows 15 minutes of difference",
    "RequestExpired": "set this machine's clock: S3 allows 15 minutes of difference",
    "ExpiredToken": "the session token has expired: renew the credentials (aws sso login, or a new assume-role)",
    "ExpiredTokenException": "the session token has expired: renew the credentials",
    "TokenRefreshRequired": "renew the credentials",
    "PermanentRedirect": "the bucket lives elsewhere: give its --region or --endpoint-url",
    "TemporaryRedirect": "the bucket lives elsewhere: give its --region or --endpoint-url",
    "AuthorizationHeaderMalformed": "the bucket lives in another region: give it with --region",
    "IllegalLocationConstraintException": "the bucket lives in another region: give it with --region",
}
#: Codes that say that the request's time is not the server's.
SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
#: Codes that say that the credentials are too old.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
#: Codes that say that the bucket is elsewhere.
ELSEWHERE = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
RUN = {
    "NoSuchBucket": "check the bucket's name in --to, and --endpoint-url and --region",
    "InvalidBucketName": "check the bucket's name in --to",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID, or the profile that it comes from",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, or the profile that it comes from",
    "InvalidToken": "check AWS_SESSION_TOKEN, or the profile that it comes from",
    "InvalidSecurity": "check the credentials",
    "AccountProblem": "ask AWS about this account",
    "AllAccessDisabled": "ask AWS about this bucket",
    "NotSignedUp": "ask AWS about this account",
    "MethodNotAllowed": "this endpoint does not take PUT: check --endpoint-url",
}
ROW = frozenset(
    {
        "KeyTooLongError",
        "KeyTooLong",
        "EntityTooLarge",
        "MetadataTooLarge",
        "InvalidArgument",
        "InvalidObjectName",
        "XMinioInvalidObjectName",
        "RequestHeaderSectionTooLarge",
        "InvalidURI",
    }
)
#: What is asked of the destination. Every other operation fetches credentials.
_OPERATIONS = frozenset(
    {
        "HeadBucket",
        "PutObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
        "ListObjectsV2",
        "HeadObject",
        "GetObject",
        "DeleteObject",
    }
)
#: What to do when nobody answers.
REACH = "check --endpoint-url, --region and network"
_DENIED = "the credentials need s3:PutObject on this bucket and prefix (and kms:GenerateDataKey where it encrypts)"


def from_status(
    status: int, code: str, message: str, op: str, subject: str, *, accepted: bool, retry_after: float | None = None
) -> AsyncupError:
    """The error for an HTTP answer with an S3 error code (empty when there was none).

    `accepted` says whether this destination has accepted an object before: until then, a refusal that would meet
    every row is the run's, afterwards it is the row's.
    """
    text = f"{code}: {message}" if code and message else code or message or f"HTTP status {status}"
    if code in RUN:
        return DestinationRefused(op, subject, text, RUN[code])
    if code in STALE or status in (301, 302, 303, 307, 308):
        kind = ClockSkewed if code in SKEWED else CredentialsExpired if code in EXPIRED else BucketElsewhere
        return kind(op, subject, text, STALE.get(code, STALE["PermanentRedirect"]))
    if code in CORRUPTED:
        return PayloadCorrupted(op, subject, text)
    if code in THROTTLED or status in (429, 503):
        return Throttled(op, subject, text, retry_after=retry_after)
    if code in AGAIN or status in (408, 425, 499) or (status >= 500 and status != 501):
        return ServerFault(op, subject, text, retry_after=retry_after)
    if code == "PreconditionFailed" or status == 412:
        return ObjectExists(op, subject, "there is an object of this key already")  # no other condition is ever sent
    if code in ROW:
        return RowRefused(op, subject, text)
    if accepted:
        return RowRefused(op, subject, text, _DENIED if status == 403 else None)
    hint = _DENIED if status in (401, 403) else RUN["NoSuchBucket"] if status == 404 else None
    return DestinationRefused(op, subject, text, hint or "the first object was refused, so the others would be too")


def seconds_to_wait(wish: str | None, date: str | None = None) -> float | None:
    """What the header `Retry-After` asks for: seconds, or a date (RFC 9110, section 10.2.3); a minute at most.

    `date` is the header `Date` of the same answer: what the server's clock said, which need not be what ours says.
    """
    if wish is None:
        return None
    if wish.isdecimal():
        return min(float(wish), 60.0)
    until = _seconds(wish)
    if until is None:
        return None
    now = _seconds(date)
    return min(max(until - (time.time() if now is None else now), 0.0), 60.0)


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None


def from_botocore(exc: Exception, op: str, subject: str, *, accepted: bool = False) -> AsyncupError:
    """The error for an exception of a request: of botocore, of aiohttp or of the network beneath them."""
    if isinstance(exc, boto.ClientError):
        return _from_client_error(exc, op, subject, accepted=accepted)
    if isinstance(exc, boto.BotoCoreError) and not isinstance(exc, (boto.HTTPClientError, boto.ConnectionError)):
        return _from_settings(exc, op, subject)
    reason = str(exc) or exc.__class__.__name__
    cause = exc.kwargs.get("error", exc) if isinstance(exc, boto.BotoCoreError) else exc
    if isinstance(exc, boto.SSLError) or isinstance(cause, (ssl.SSLError, aiohttp.ClientSSLError, FileNotFoundError)):
        return from_tls(cause, op, subject, accepted=accepted)
    if isinstance(exc, boto.ProxyConnectionError):
        return Unreachable(op, subject, f"the proxy cannot be reached: {reason}", "check HTTP_PROXY and HTTPS_PROXY")
    if isinstance(exc, boto.ConnectTimeoutError) or isinstance(cause, (aiohttp.ClientConnectorError, socket.gaierror)):
        return Unreachable(op, subject, f"S3 cannot be reached: {reason}", REACH)
    if isinstance(exc, boto.HTTPClientError) and isinstance(cause, ValueError) and not isinstance(cause, UnicodeError):
        return DestinationRefused(
            op,
            subject,
            f"the request cannot be sent: {cause}",
            "check AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and --endpoint-url for characters that do not belong there",
        )
    if isinstance(exc, TimeoutError):
        return ConnectionLost(op, subject, "no answer in time")
    # the rest: a reset, which botocore calls a failure to connect, and answers over which its parser stumbles
    if isinstance(exc, boto.ConnectionError):
        reason = str(cause)
    elif not isinstance(exc, (boto.HTTPClientError, aiohttp.ClientError, OSError)):
        reason = repr(exc)
    return ConnectionLost(op, subject, f"the exchange broke: {reason}")


def from_tls(exc: BaseException, op: str, subject: str, *, accepted: bool) -> AsyncupError:
    """The error for TLS that failed: a certificate stays what it is, all else may be an accident where TLS has worked."""
    if accepted and "CERTIFICATE_VERIFY_FAILED" not in str(exc):
        return Unreachable(op, subject, f"S3 cannot be reached: TLS failed: {exc}", REACH)
    hint = "give the server's authority with --ca-bundle, or check --endpoint-url"
    if any(sign in str(exc).lower() for sign in ("wrong version number", "wrong_version_number", "record layer")):
        hint = "it does not seem to speak TLS: write --endpoint-url with http://"
    return DestinationRefused(op, subject, f"TLS failed: {exc}", hint)


def _from_settings(exc: Exception, op: str, subject: str) -> DestinationRefused:
    """The error for what botocore refuses before anything is sent."""
    if isinstance(exc, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)):
        return DestinationRefused(
            "find credentials",
            subject,
            str(exc),
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a --profile, or use --no-sign-request",
        )
    if isinstance(exc, boto.ProfileNotFound):
        return DestinationRefused("find credentials", subject, str(exc), "check --profile and ~/.aws/config")
    return DestinationRefused(op, subject, str(exc), "check --to, --endpoint-url, --region and --profile")


def _from_client_error(exc: boto.ClientError, op: str, subject: str, *, accepted: bool) -> AsyncupError:
    response: Any = exc.response
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    code = str(error.get("Code") or "")
    headers = metadata.get("HTTPHeaders", {})
    mapped = from_status(
        status,
        "" if code.isdigit() else code,
        str(error.get("Message") or ""),
        op,
        subject,
        accepted=accepted,
        retry_after=seconds_to_wait(headers.get("retry-after"), headers.get("date")),
    )
    mapped.request_id, mapped.host_id = metadata.get("RequestId"), metadata.get("HostId")
    if exc.operation_name in _OPERATIONS or mapped.disposition is Disposition.RETRY:
        return mapped
    return DestinationRefused("find credentials", subject, str(exc), "check the role and the --profile it comes from")
