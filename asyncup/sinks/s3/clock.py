"""The clock that requests are signed by: this machine's, set right by what S3 says.

S3 refuses a request whose time is more than fifteen minutes from its own (`RequestTimeTooSkewed`,
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html) and names its own time in the answer's `Date`.
Virtual machines that slept and containers without a time server are wrong by hours; their runs go on all the same.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth

#: Less than this is not what S3 refuses a request for.
_TOLERATED = 300.0
_SIGNATURE = "asyncup-s3v4"
_CONTEXT = "asyncup_clock"


class ServerClock:
    """The server's time, as far as it is known. `say` is told of a difference, once for each that is found."""

    def __init__(self, say: Callable[[str], None] = lambda _: None) -> None:
        self.say = say
        #: Seconds that the server is ahead of this machine.
        self.offset = 0.0

    def now(self) -> float:
        """Seconds since the epoch, by the server's clock."""
        return time.time() + self.offset

    def learn(self, date: str | None) -> bool:
        """Take over the time of an answer that called a request too old or too new; False when it explains nothing.

        `date` is the value of the header `Date` (RFC 9110, section 5.6.7).
        """
        try:
            told = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return False
        if abs(told - self.now()) < _TOLERATED:
            return False
        self.offset = told - time.time()
        minutes, side = round(abs(self.offset) / 60), "behind" if self.offset > 0 else "ahead of"
        self.say(f"this machine's clock is {minutes:,} min {side} S3's; requests are signed by S3's from now on")
        return True

    def govern(self, events: Any) -> None:
        """Sign by this clock what botocore signs for a client with these events."""
        events.register("choose-signer.s3", self._choose)

    def _choose(self, signature_version: Any, context: dict[str, Any], **_: Any) -> str | None:
        if not self.offset or signature_version not in ("v4", "s3v4"):
            return None
        context[_CONTEXT] = self
        return _SIGNATURE


class _ServerTimeAuth(S3SigV4Auth):  # type: ignore[misc, unused-ignore]  # stubs may be there or not
    """Version 4 signatures by the clock in the request's context."""

    def _modify_request_before_signing(self, request: Any) -> None:
        now = dt.datetime.fromtimestamp(request.context[_CONTEXT].now(), dt.timezone.utc)
        request.context["timestamp"] = now.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc, unused-ignore]


AUTH_TYPE_MAPS[_SIGNATURE] = _ServerTimeAuth
