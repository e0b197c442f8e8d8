"""The head of a PUT, signed: everything that is the same for many of them is compiled once.

No column value gets into a head as it is: the path is percent-encoded, header values are checked. A second header or
a second request cannot be smuggled in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from asyncup.errors import DestinationRefused, RowRefused
from asyncup.model import Headers
from asyncup.sinks.s3.integrity import Seal
from asyncup.sinks.s3.signing import Signer, canonical_request
from asyncup.version import __version__

#: RFC 9110, sections 5.1 and 5.5. S3 reads header values as ASCII.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e]*").fullmatch
#: What a head has already, and what says where a request ends or how its connection goes on.
_OWN = frozenset(
    {
        *("host", "user-agent", "authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"),
        *("content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"),
    }
)
#: Sets of headers whose compiled form is kept; where every row has a set of its own, keeping them would be in vain.
_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects of a run go, as URLs have it: the host with its port, and the path before an object's key."""

    host: str
    base: str


class Framer:
    """Frames PUTs to one place with one set of credentials: `signer` is None for requests without credentials.

    `always` are headers of every request, `objects` those of every request that creates an object.
    """

    def __init__(
        self, place: Place, signer: Signer | None, checksum: str | None, always: Headers, objects: Headers
    ) -> None:
        self._host = place.host.replace("%", "%%")
        self._signer = signer
        self._checksum = checksum
        self._always = always
        self._objects = objects
        self._compiled: dict[Headers | None, tuple[str, str, str]] = {}
        self._names: dict[str, str] = {}

    def head(self, path: str, query: str, headers: Headers | None, size: int, seal: Seal) -> bytes:
        """The head of a PUT with a body of `size` bytes; `path` and `query` are encoded.

        `headers` are the object's own, lower-case names; None for a request that creates none, such as a part.

        Raises:
            RowRefused: a header cannot be sent.
            DestinationRefused: the credentials cannot.
        """
        frame = self._compiled.get(headers)
        if frame is None:
            frame = self._compile(headers)
        first, canonical, names = frame
        target = f"{path}?{query}" if query else path
        checksum = () if self._checksum is None else (seal.checksum,)
        signer = self._signer
        if signer is None:
            return (first % (target, *checksum, size)).encode()
        date = signer.date
        signed = canonical % (path, query, *checksum, seal.payload, date, seal.payload)
        return (first % (target, *checksum, seal.payload, date, signer.authorization(signed, names), size)).encode()

    def _compile(self, headers: Headers | None) -> tuple[str, str, str]:
        """A request's head and its canonical request, with places for what differs, and the names that are signed.

        What differs is in the order checksum, payload, date, which is that of the headers' names.
        """
        given = {**dict(self._always), **({} if headers is None else {**dict(self._objects), **dict(headers)})}
        fixed = {}
        for name, value in given.items():
            if not _VALUE(value):
                raise RowRefused(
                    "put", name, f"{value[:80]!r} cannot be sent as a header: printable ASCII only", "change the value"
                )
            fixed[self._names.get(name) or self._admit(name)] = value.strip().replace("%", "%%")
        differing = {} if self._checksum is None else {self._checksum: "%s"}
        if self._signer is not None:
            credentials = self._signer.credentials
            if not _VALUE(credentials.access_key + (credentials.token or "")):
                raise DestinationRefused(
                    "put",
                    "credentials",
                    "the access key or the session token has characters that no header can carry",
                    "check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or the profile that they come from",
                )
            if credentials.token is not None:
                fixed["x-amz-security-token"] = credentials.token.replace("%", "%%")
            differing |= {"x-amz-content-sha256": "%s", "x-amz-date": "%s"}
        lines = [f"Host: {self._host}", f"User-Agent: asyncup/{__version__}"]
        lines += [f"{name}: {value}" for name, value in (fixed | differing).items()]
        lines += ["Authorization: %s"] if self._signer is not None else []
        first = "\r\n".join(["PUT %s HTTP/1.1", *lines, "Content-Length: %d", "", ""])
        signed = {"host": self._host} | fixed | differing
        canonical = canonical_request("PUT", "%s", "%s", signed, "%s")
        names = canonical.rsplit("\n", 2)[1]
        frame = (first, canonical, names.replace("%%", "%"))
        if len(self._compiled) >= _KEPT:
            self._compiled.clear()
        self._compiled[headers] = frame
        return frame

    def _admit(self, name: str) -> str:
        """A header's name as the text of a frame has it, looked at once."""
        if not _NAME(name) or name in _OWN or name == self._checksum:
            raise RowRefused("put", name, f"an object cannot have the header {name[:80]!r}", "leave it out")
        written = name.replace("%", "%%")
        if len(self._names) < _KEPT:
            self._names[name] = written
        return written
