"""The wire lane: PUTs over connections of our own, at the least cost that signing and sending allow.

A PUT costs no task, no exception and no look at anything that is the same for all of them. One call is one attempt;
only the silent end of an idle connection is made good here, since it says nothing about the request.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from html import unescape

from asyncup.errors import AsyncupError, ConnectionLost, DestinationRefused, StaleRequest, Throttled, Unreachable
from asyncup.model import Headers, Receipt, Upload
from asyncup.sinks.s3.errors import ELSEWHERE, EXPIRED, from_status
from asyncup.sinks.s3.exchange import INLINE_BODY, Answer, Connection, ExchangeError
from asyncup.sinks.s3.framing import Framer, Place
from asyncup.sinks.s3.integrity import THREAD_BYTES, Integrity, Seal
from asyncup.sinks.s3.pool import Origin, Pool
from asyncup.sinks.s3.settings import S3Settings
from asyncup.sinks.s3.signing import Credentials, Signer, encode_path, encode_query

#: Seconds between two looks at the credentials, which botocore renews minutes before they expire.
_CREDENTIALS_SECONDS = 30.0
_ENCRYPTION = b"x-amz-server-side-encryption"
_CODE = re.compile(rb"<Code>([^<]{1,200})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,2000})</Message>")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a bucket is: what its URLs look like, where connections go, and the region that requests are signed for."""

    place: Place
    origin: Origin
    region: str


class WireLane:
    """PUTs into one bucket.

    `credentials` gives the current ones, or None to send requests without; others than those that are given to it, which
    S3 calls expired. `locate` finds the bucket again when S3 says that it is elsewhere.
    """

    def __init__(
        self,
        settings: S3Settings,
        location: Location,
        integrity: Integrity,
        credentials: Callable[[Credentials | None], Awaitable[Credentials | None]],
        locate: Callable[[], Awaitable[Location]],
    ) -> None:
        self._settings = settings
        self._location = location
        self._integrity = integrity
        self._credentials = credentials
        self._locate = locate
        self._has_moved = self._has_expired = False
        self._mending = asyncio.Lock()
        self._known: Credentials | None = None
        self._credentials_due = float("-inf")
        self._signer: Signer | None = None
        self._framer = self._new_framer()
        self._base = location.place.base
        self._pool = Pool(location.origin, settings.attempt_timeout)
        self._clock = asyncio.get_running_loop().time
        self._patience = settings.patience
        #: Whether the destination has taken an object; from then on a refusal is the row's.
        self.accepted = False

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        key, body, headers = upload
        size, integrity = len(body), self._integrity
        seal = integrity.seal(body) if size <= THREAD_BYTES else await integrity.seal_apart(body)
        answer = await self._send("put", key, "", headers, body, seal)
        etag = answer.etag
        # S3 names an ETag and sends no body; a 200 with another body comes from something in between
        if answer.status != 200 or not answer.whole or not (etag or answer.header(b"content-length") == "0"):
            raise self._refused(answer, "put", key)
        if not integrity.agrees(seal, etag):
            integrity.judge(seal, etag, answer.header(_ENCRYPTION), "put", key)
        self.accepted = True
        return Receipt(key, size, etag)

    async def put_part(self, key: str, upload_id: str, number: int, body: memoryview) -> tuple[str, str | None]:
        """Store one part of a multipart upload; its ETag and its checksum.

        Raises:
            AsyncupError: as for `put`.
        """
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        seal = await self._integrity.seal_apart(body)
        answer = await self._send("put part", key, query, None, body, seal)
        etag = answer.etag
        if answer.status != 200 or not answer.whole or not etag:
            raise self._refused(answer, "put part", key)
        if not self._integrity.agrees(seal, etag):
            self._integrity.judge(seal, etag, answer.header(_ENCRYPTION), "put part", key)
        return etag, seal.checksum

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._pool.close()

    # --- one request ------------------------------------------------------------------------------------------

    async def _send(
        self, op: str, key: str, query: str, headers: Headers | None, body: bytes | memoryview, seal: Seal
    ) -> Answer:
        now = time.time()
        if now >= self._credentials_due:
            await self._renew(now)
        if self._signer is not None:
            self._signer.set_clock(now)
        pool, size = self._pool, len(body)
        head = self._framer.head(self._base + encode_path(key), query, headers, size, seal)
        connection = pool.take()
        while True:
            pooled = connection is not None
            if connection is None:
                connection = await _connect(pool, op, key)
            connection.deadline = self._clock() + self._patience(size)
            try:
                if size <= INLINE_BODY:
                    answer = await connection.request(head + body)
                else:
                    answer = await connection.stream(head, body)
            except ExchangeError as exc:
                # a connection that was closed while nobody used it tells nothing, except to a conditional request,
                # which may have been carried out
                if pooled and exc.silent and not _is_conditional(headers):
                    connection = None
                    continue
                raise ConnectionLost(op, key, str(exc)) from exc
            except BaseException:
                connection.abort()
                raise
            if answer.status >= 300 and (answer.status >= 500 or size > INLINE_BODY):
                # AWS advises a new connection after a 503, and a server that refuses a long body may not read it all
                connection.abort()
            pool.give_back(connection)
            return answer

    def _refused(self, answer: Answer, op: str, key: str) -> AsyncupError:
        """The error that an answer comes to which is no success of this request."""
        status = answer.status
        code, message = _CODE.search(answer.body), _MESSAGE.search(answer.body)
        if status < 300 and code is None:
            why = "does not say that the object is stored" if answer.whole else "came before all of the object was sent"
            return ConnectionLost(op, key, f"the answer {why}")
        wish = answer.header(b"retry-after") or ""
        error = from_status(
            status if status >= 300 else 500,  # S3 may say 200 first and then that it failed
            _text(code),
            _text(message),
            op,
            key,
            accepted=self.accepted,
            retry_after=min(float(wish), 60.0) if wish.isdecimal() else None,
        )
        if isinstance(error, Throttled):
            self._pool.look_elsewhere()
        elif isinstance(error, StaleRequest):
            self._credentials_due = float("-inf")
            self._has_moved = self._has_moved or status < 400 or _text(code) in ELSEWHERE
            self._has_expired = self._has_expired or _text(code) in EXPIRED
        return error

    # --- credentials ------------------------------------------------------------------------------------------

    async def _renew(self, now: float) -> None:
        """Look whether there are new credentials; while one sender asks, the others use what is there.

        After a refusal for expired credentials, or because the bucket is elsewhere, all wait until that is mended.
        """
        if self._has_moved or self._has_expired:
            async with self._mending:
                if self._has_moved:
                    self._move(await self._locate())
                if self._has_expired:
                    self._use(await self._credentials(self._known))
                    self._has_expired = False
        if self._signer is not None:
            self._credentials_due = now + _CREDENTIALS_SECONDS
        self._use(await self._credentials(None))
        self._credentials_due = now + _CREDENTIALS_SECONDS

    def _use(self, credentials: Credentials | None) -> None:
        if credentials != self._known or self._signer is None:
            self._known = credentials
            self._signer = Signer(credentials, self._location.region) if credentials is not None else None
            self._framer = self._new_framer()

    def _move(self, location: Location) -> None:
        self._has_moved = False
        if location != self._location:
            self._pool.retire()
            self._pool = Pool(location.origin, self._settings.attempt_timeout)
            self._location, self._base, self._signer = location, location.place.base, None

    def _new_framer(self) -> Framer:
        settings = self._settings
        return Framer(
            self._location.place,
            self._signer,
            self._integrity.header,
            settings.request_headers(),
            settings.object_headers(),
        )


def _is_conditional(headers: Headers | None) -> bool:
    return headers is not None and any(name.startswith("if-") for name, _ in headers)


def _text(match: re.Match[bytes] | None) -> str:
    return unescape(match[1].decode(errors="replace")) if match else ""


async def _connect(pool: Pool, op: str, key: str) -> Connection:
    try:
        return await pool.connect()
    except (ConnectionError, ssl.SSLEOFError, TimeoutError) as exc:
        said = "it does not answer in time" if isinstance(exc, TimeoutError) else str(exc)
        raise _unreachable(op, key, said) from exc
    except ssl.SSLError as exc:
        raise DestinationRefused(
            op, key, f"TLS failed: {exc}", "give the server's authority with --ca-bundle, or check --endpoint-url"
        ) from exc
    except OSError as exc:
        raise _unreachable(op, key, str(exc)) from exc


def _unreachable(op: str, key: str, said: str) -> Unreachable:
    return Unreachable(op, key, f"S3 cannot be reached: {said}", "check --endpoint-url, --region and network")
