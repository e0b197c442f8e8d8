"""What an exception of a library means for a run, though asyncup knows nothing of the library and imports none.

Libraries of HTTP services say the status of an answer in one of a few places: botocore in `response`, those of Google
and `urllib` in `code`, those of Azure in `status_code`, requests and httpx in the `response` that they have. Others are
told by the names of their classes. What is left is a defect of the sink's own code if Python would say so, else it may
pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    DestinationRefused,
    ObjectExists,
    PayloadCorrupted,
    RowRefused,
    ServerFault,
    Throttled,
)

#: Codes of S3 and its like (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
_THROTTLED = frozenset(
    {
        *("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"),
        *("TooManyRequestsException", "BandwidthLimitExceeded", "RequestThrottled", "ServiceUnavailable"),
    }
)
_AGAIN = frozenset(
    {"RequestTimeout", "IncompleteBody", "OperationAborted", "ConditionalRequestConflict", "InternalError"}
)
_CORRUPTED = frozenset({"BadDigest", "XAmzContentSHA256Mismatch"})
#: What every object after it would meet as well.
_RUN = frozenset(
    {
        *("NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"),
        *("ExpiredTokenException", "RequestTimeTooSkewed", "NoCredentialsError", "PartialCredentialsError"),
        *("TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "ProfileNotFound"),
        *("DefaultCredentialsError", "RefreshError", "AuthenticationException", "BadHostKeyException"),
    }
)
#: The same until one object has been taken: then it is this one's key that is not permitted.
_RUN_AT_FIRST = frozenset({"AccessDenied", "AuthenticationFailed", "AuthorizationFailure"})
#: Classes of libraries for what broke on the way, none of which is an OSError.
_BROKEN = frozenset(
    {
        *("HTTPClientError", "ConnectionError", "ResponseStreamingError", "IncompleteReadError"),  # botocore
        *("HTTPError", "HTTPException", "TransportError"),  # urllib3, http.client; httpx, google.auth
        *("ServiceRequestError", "ServiceResponseError"),  # azure
        *("RetryError", "SSHException", "EOFError", "error_temp"),  # google, paramiko, ftplib
    }
)
#: Errors of the operating system that say that this one thing cannot be.
_ROW_OS_ERRORS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
#: What Python raises where code does something that cannot be done.
_DEFECTS = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NameError, AssertionError),
    *(NotImplementedError, ImportError, SyntaxError, RecursionError),
)
#: Characters of a library's message that are kept.
_LONGEST = 1000
_CREDENTIALS = "see to the credentials and the names that the sink's library uses"


def meaning(error: BaseException, op: str, subject: str, *, accepted: bool) -> AsyncupError:
    """The error of ours that an exception of a sink's `put` stands for; one of ours is itself.

    `accepted` says whether this destination has taken an object before.
    """
    if isinstance(error, AsyncupError):
        return error
    text = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST].removesuffix(": ")
    if not isinstance(error, Exception):
        return DestinationRefused(op, subject, text, "the sink's own code wants to end the process")
    causes = list(_causes(error))
    names = {cls.__name__ for one in causes for cls in type(one).__mro__}
    status, code = next((found for one in causes if any(found := _answer(one))), (None, ""))
    names.add(code)
    kind = _kind(names, status, accepted=accepted)
    if kind is not None:
        return kind(op, subject, text, _CREDENTIALS if kind is DestinationRefused else None)
    if isinstance(error, _ROW_OS_ERRORS):
        return RowRefused(op, subject, text)
    if isinstance(error, OSError) or names & _BROKEN or any("Timeout" in name for name in names):
        return ConnectionLost(op, subject, text)
    if isinstance(error, _DEFECTS):
        return RowRefused(op, subject, text, "an error that may pass is raised as OSError, or as one of asyncup.errors")
    return ServerFault(op, subject, text)


def _kind(names: set[str], status: int | None, *, accepted: bool) -> type[AsyncupError] | None:
    """What an answer means, by its code or status; None where there is none that says anything."""
    if names & _RUN or status == 401 or (names & _RUN_AT_FIRST and not accepted):
        return DestinationRefused
    if names & _CORRUPTED:
        return PayloadCorrupted
    if names & _THROTTLED or status == 429:
        return Throttled
    if names & _AGAIN or (status is not None and (status in {408, 425, 499} or status >= 500) and status != 501):
        return ServerFault
    if status is None or status < 400:
        return None
    return ObjectExists if status == 412 else RowRefused


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those it came from: boto3's transfers, for one, hide the answer in such a one."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _answer(error: BaseException) -> tuple[int | None, str]:
    """The HTTP status and the code of an answer that an exception tells of, as far as it does."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        status = _mapping(response.get("ResponseMetadata")).get("HTTPStatusCode")
        return _status(status), str(_mapping(response.get("Error")).get("Code", ""))
    code = getattr(error, "code", None)
    for holder in (error, response):
        for name in ("status_code", "status", "http_status", "code"):
            status = _status(getattr(holder, name, None))
            if status is not None:
                return status, code if isinstance(code, str) else ""
    return None, code if isinstance(code, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _status(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and 100 <= value <= 599 else None
