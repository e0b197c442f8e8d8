"""What S3 refuses requests with, as faults take it: the words are those that S3 uses.

https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList
"""

from __future__ import annotations

import calendar
import time
from xml.sax.saxutils import escape

from asyncup.bench.simulator.answers import Refusal, xml_date

#: Seconds by which a request's clock and S3's may differ.
MAX_SKEW = 900
#: Of S3 for a client that sends too fast, be it a fault or the limit.
SLOW_DOWN = Refusal(503, "SlowDown", "Please reduce your request rate.")
INTERNAL_ERROR = Refusal(500, "InternalError", "We encountered an internal error. Please try again.")
EXPIRED_TOKEN = Refusal(400, "ExpiredToken", "The provided token has expired.")
ACCESS_DENIED = Refusal(403, "AccessDenied", "Access Denied")
BAD_DIGEST = Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")

#: By the name of a fault; `redirect-…` and `skew` are made for each request.
FIXED: dict[str, Refusal] = {
    "slowdown": SLOW_DOWN,
    "error": INTERNAL_ERROR,
    "unavailable": Refusal(503, "ServiceUnavailable", "Service is unable to handle request."),
    "request-timeout": Refusal(
        400,
        "RequestTimeout",
        "Your socket connection to the server was not read from or written to within the timeout period. "
        "Idle connections will be closed.",
        closes=True,
    ),
    "bad-digest": BAD_DIGEST,
    "expired-token": EXPIRED_TOKEN,
    "conflict": Refusal(
        409,
        "ConditionalRequestConflict",
        "The conditional request cannot succeed due to a conflicting operation against this resource.",
    ),
    "aborted": Refusal(
        409,
        "OperationAborted",
        "A conflicting conditional operation is currently in progress against this resource. Please try again.",
    ),
    "access-denied": ACCESS_DENIED,
    "kms-throttle": Refusal(400, "ThrottlingException", "Rate exceeded"),
}


def skewed(requested: str, now: float) -> Refusal:
    """A request that says `requested` for its time, at a server whose time is `now`."""
    return Refusal(
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        extra=f"<RequestTime>{escape(requested)}</RequestTime><ServerTime>{xml_date(now)}</ServerTime>"
        f"<MaxAllowedSkewMilliseconds>{MAX_SKEW * 1000}</MaxAllowedSkewMilliseconds>",
    )


def skew_of(requested: str, now: float) -> float | None:
    """Seconds between two clocks, where `requested` is an x-amz-date; None if it is no date."""
    try:
        moment = time.strptime(requested, "%Y%m%dT%H%M%SZ")
    except ValueError:
        return None
    return abs(calendar.timegm(moment) - now)


def redirected(status: int, bucket: str, region: str, endpoint: str, path: str) -> Refusal:
    """301 or 307 to the region and the endpoint that the bucket is to be asked at.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/Redirects.html
    """
    permanent = status == 301
    return Refusal(
        status,
        "PermanentRedirect" if permanent else "TemporaryRedirect",
        "The bucket you are attempting to access must be addressed using the specified endpoint. "
        "Please send all future requests to this endpoint."
        if permanent
        else "Please re-send this request to the specified temporary endpoint. "
        "Continue to use the original request endpoint for future requests.",
        f"x-amz-bucket-region: {region}\r\n" + ("" if permanent else f"Location: http://{endpoint}{path}\r\n"),
        f"<Bucket>{escape(bucket)}</Bucket><Endpoint>{escape(endpoint)}</Endpoint>",
    )
