"""AWS Signature Version 4 for S3, as pure functions of a request and a moment.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html. S3's own rules: a path is
encoded once and never normalised, and the payload's hash travels as the header `x-amz-content-sha256`.

The signing key of a day, the credential scope and the text of a second are made once and kept, so that signing a request
is three short hashes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import digest
from urllib.parse import quote

from asyncup.errors import RowRefused

#: What stands for the payload's hash when only the transport protects the payload.
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_PLAIN = re.compile(r"[A-Za-z0-9_.~/-]*").fullmatch
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key and its secret, and the token of a session."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def encode_path(text: str) -> str:
    """A key as the path of a URL: UTF-8, everything but `A-Za-z0-9-._~/` percent-encoded, once.

    Raises:
        RowRefused: UTF-8 cannot hold it.
    """
    try:
        return text if _PLAIN(text) else quote(text, safe="/~")
    except UnicodeEncodeError:
        raise RowRefused("put", ascii(text)[1:-1][:200], "the object key is not text that UTF-8 can hold") from None


def encode_query(parameters: Iterable[tuple[str, str]]) -> str:
    """Parameters as a canonical query string, which is a valid one: encoded, then sorted."""
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in parameters)
    return "&".join(f"{name}={value}" for name, value in pairs)


def canonical_headers(headers: Mapping[str, str]) -> tuple[str, str]:
    """The canonical header lines, one `name:value` with a newline each, and the list of signed names.

    `headers` has names in lower case. Blanks in values are trimmed and folded.
    """
    names = sorted(headers)
    return "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names), ";".join(names)


def canonical_request(method: str, path: str, query: str, headers: Mapping[str, str], payload: str) -> str:
    """The canonical request. `path` and `query` are encoded, `payload` is the hash in hex or `UNSIGNED_PAYLOAD`."""
    lines, names = canonical_headers(headers)
    return f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"


class Signer:
    """Signs canonical requests with one set of credentials for one region and service, at the time of `set_clock`.

    The server's clock is `ahead` seconds ahead of the one that sets it.
    """

    def __init__(self, credentials: Credentials, region: str, service: str = "s3", *, ahead: float = 0.0) -> None:
        self.credentials = credentials
        self.region = region
        self.service = service
        self.ahead = ahead
        self._second = -1
        self._day = ""
        #: The moment as the header `x-amz-date` has it: `20260131T235959Z`.
        self.date = ""
        self._credential = ""

    def set_clock(self, seconds: float) -> None:
        """Sign as of this moment, in seconds since the epoch, from now on."""
        second = int(seconds)
        if second == self._second:
            return
        self._second = second
        self.date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds + self.ahead))
        day = self.date[:8]
        if day != self._day:
            self._day = day
            # what is no text, as an environment may hold it, is no secret either: S3 says so
            key = b"AWS4" + self.credentials.secret_key.encode(errors="surrogatepass")
            for part in (day, self.region, self.service, "aws4_request"):
                key = digest(key, part.encode(), "sha256")
            # HMAC (RFC 2104) as two hashes that have taken in their half of the key already
            block = key.ljust(64, b"\0")
            self._inner, self._outer = sha256(block.translate(_INNER)), sha256(block.translate(_OUTER))
        scope = f"{day}/{self.region}/{self.service}/aws4_request"
        self._to_sign = f"AWS4-HMAC-SHA256\n{self.date}\n{scope}\n"
        self._credential = f"AWS4-HMAC-SHA256 Credential={self.credentials.access_key}/{scope}, SignedHeaders="

    def authorization(self, canonical: str, names: str) -> str:
        """The value of the header `authorization` for a canonical request whose `x-amz-date` is `date`.

        `names` are the signed headers, as `canonical_headers` gives them.
        """
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update((self._to_sign + sha256(canonical.encode()).hexdigest()).encode())
        outer.update(inner.digest())
        return f"{self._credential}{names}, Signature={outer.hexdigest()}"
