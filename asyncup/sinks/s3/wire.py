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

from asyncup.errors import AsyncupError, ConnectionLost, Unreachable
from asyncup.model import Headers, Receipt, Upload, tuple_of
from asyncup.sinks.s3.clock import ServerClock
from asyncup.sinks.s3.errors import ELSEWHERE, EXPIRED, REACH, SKEWED, from_status, from_tls, seconds_to_wait
from asyncup.sinks.s3.exchange import INLINE_BODY, Answer, Connection, ExchangeError
from asyncup.sinks.s3.finding import Turn
from asyncup.sinks.s3.framing import Framer, Place
from asyncup.sinks.s3.integrity import THREAD_BYTES, Integrity, Seal
from asyncup.sinks.s3.pool import Origin, Pool
from asyncup.sinks.s3.requestlog import HOST_ID, REQUEST_ID, RequestLog
from asyncup.sinks.s3.settings import S3Settings
from asyncup.sinks.s3.signing import Credentials, Signer, encode_path, encode_query

#: Seconds between two looks at the credentials, which botocore renews minutes before they expire.
_CREDENTIALS_SECONDS = 30.0
#: The header of an answer that says how the object is encrypted.
ENCRYPTION = b"x-amz-server-side-encryption"
#: A connection that is reset within this time of its last exchange was not reset because nobody used it.
_IDLE_SECONDS = 0.1
#: What is said of an object that is there already, by who has read the request: a row in each of which costs no connection.
_HARMLESS = frozenset({409, 412})
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
    S3 calls expired. `locate` finds the bucket again when S3 says that it is elsewhere. `server_clock` is what is signed by.
    """

    def __init__(
        self,
        settings: S3Settings,
        location: Location,
        integrity: Integrity,
        credentials: Callable[[Credentials | None], Awaitable[Credentials | None]],
        locate: Callable[[], Awaitable[Location]],
        server_clock: ServerClock,
    ) -> None:
        self._settings = settings
        self._location = location
        self._integrity = integrity
        self._credentials = credentials
        self._locate = locate
        self._server_clock = server_clock
        self._has_moved = self._has_expired = False
        self._mending = Turn()
        self._known: Credentials | None = None
        self._credentials_due = float("-inf")
        self._signer: Signer | None = None
        self._framer = self._new_framer()
        self._base = location.place.base
        self._log = RequestLog.open(settings.bucket)
        self._pools = [self._new_pool(location)]
        self._clock = asyncio.get_running_loop().time
        self._patience = settings.patience
        #: Whether the destination has taken an object; from then on a refusal is the row's.
        self.accepted = False

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`.

        Nearly every row goes over a connection that is there, in one write; what is different for the others is in
        `_send`.
        """
        body: bytes  # a streamed one goes in parts
        key, body, headers = upload  # type: ignore[assignment]
        size, integrity = len(body), self._integrity
        seal = integrity.seal(body) if size <= THREAD_BYTES else await integrity.seal_apart(body)
        pool, framer, signer, now = self._pools[-1], self._framer, self._signer, time.time()
        head, connection = b"", None
        if size <= INLINE_BODY and now < self._credentials_due:
            if signer is not None:
                signer.set_clock(now)
            head = framer.head(self._base + encode_path(key), "", headers, size, seal)
            connection = pool.take()
        if connection is None:
            answer = await self._send("put", key, "", headers, body, seal)
        else:
            begun = self._clock()
            connection.deadline = begun + self._patience(size)
            try:
                answer = await connection.request(head + body)
            except ExchangeError as exc:
                _check_silence(exc, "put", key, headers, begun - connection.idle_since)
                answer = await self._send("put", key, "", headers, body, seal)
            except BaseException:
                connection.abort()
                raise
            else:
                if answer.status >= 300:
                    self._learn(answer, framer, connection)
                pool.give_back(connection)
        etag = answer.etag
        # S3 names an ETag and sends no body; a 200 with another body comes from something in between
        if answer.status != 200 or not answer.whole or not (etag or answer.header(b"content-length") == "0"):
            raise self._refused(answer, "put", key)
        if not integrity.agrees(seal, etag):
            integrity.judge(seal, etag, answer.header(ENCRYPTION), "put", key)
        self.accepted = True
        return tuple_of(Receipt, (key, size, etag))

    async def put_part(self, key: str, upload_id: str, number: int, body: memoryview) -> tuple[str, str | None]:
        """Store one part of a multipart upload; its ETag and its checksum.

        Raises:
            AsyncupError: as for `put`.
        """
        seal = await self._integrity.seal_apart(body)
        answer = await self._send("put part", key, self.part_query(upload_id, number), None, body, seal)
        etag = answer.etag
        if answer.status != 200 or not answer.whole or not etag:
            raise self._refused(answer, "put part", key)
        if not self._integrity.agrees(seal, etag):
            self._integrity.judge(seal, etag, answer.header(ENCRYPTION), "put part", key)
        return etag, seal.checksum

    @staticmethod
    def part_query(upload_id: str, number: int) -> str:
        """What stands behind the path of a part."""
        return encode_query([("partNumber", str(number)), ("uploadId", upload_id)])

    async def close(self) -> None:
        """See `Sink.close`."""
        for pool in self._pools:
            await pool.close()

    # --- one request ------------------------------------------------------------------------------------------

    async def _send(
        self, op: str, key: str, query: str, headers: Headers | None, body: bytes | memoryview, seal: Seal
    ) -> Answer:
        size = len(body)
        head = await self._head(key, query, headers, size, seal)
        pool, framer = self._pools[-1], self._framer
        connection = pool.take()
        while True:
            idle = None if connection is None else self._clock() - connection.idle_since
            if connection is None:
                connection = await self._connect(pool, op, key)
            connection.deadline = self._clock() + self._patience(size)
            try:
                if size <= INLINE_BODY:
                    answer = await connection.request(head + body)
                else:
                    answer = await connection.stream(head, body)
            except ExchangeError as exc:
                _check_silence(exc, op, key, headers, idle)
                connection = None
            except BaseException:
                connection.abort()
                raise
            else:
                if answer.status >= 300:
                    self._learn(answer, framer, connection)
                pool.give_back(connection)
                return answer

    async def _head(self, key: str, query: str, headers: Headers | None, size: int, seal: Seal) -> bytes:
        """The head of a request, signed as of now with the credentials there are."""
        now = time.time()
        if now >= self._credentials_due:
            await self._renew(now)
        if self._signer is not None:
            self._signer.set_clock(now)
        return self._framer.head(self._base + encode_path(key), query, headers, size, seal)

    def _refused(self, answer: Answer, op: str, key: str) -> AsyncupError:
        """The error that an answer comes to which is no success of this request."""
        status, code = answer.status, _text(_CODE, answer)
        if status < 300 and not code:
            why = "" if answer.whole else ": it is too long, or came before all of the object was sent"
            return ConnectionLost(op, key, f"the answer does not say that the object is stored{why}")
        error = from_status(
            status if status >= 300 else 500,  # S3 may say 200 first and then that it failed
            code,
            _text(_MESSAGE, answer),
            op,
            key,
            accepted=self.accepted,
            retry_after=seconds_to_wait(answer.header(b"retry-after"), answer.header(b"date")),
        )
        error.request_id, error.host_id = answer.header(REQUEST_ID), answer.header(HOST_ID)
        return error

    async def _connect(self, pool: Pool, op: str, key: str) -> Connection:
        try:
            return await pool.connect()
        except TimeoutError as exc:
            raise _unreachable(op, key, "it does not answer in time") from exc
        except ssl.SSLEOFError as exc:
            raise _unreachable(op, key, str(exc)) from exc
        except ssl.SSLError as exc:
            raise from_tls(exc, op, key, accepted=self.accepted) from exc
        except (OSError, RuntimeError) as exc:  # RuntimeError: uvloop's, of a connection that ended while it was made
            raise _unreachable(op, key, str(exc) or exc.__class__.__name__) from exc

    def _learn(self, answer: Answer, framer: Framer, connection: Connection) -> None:
        """Take from a refusal what concerns the requests to come.

        What one with other credentials, or to another place, was refused for is mended already.
        """
        if answer.status not in _HARMLESS:
            connection.abort()  # as AWS advises after a 503; and who refuses a body may not have read it all
        code = _text(_CODE, answer)
        if answer.status == 503:
            self._pools[-1].look_elsewhere()
        elif framer is self._framer:
            self._has_moved = self._has_moved or answer.status < 400 or code in ELSEWHERE
            self._has_expired = self._has_expired or code in EXPIRED
            if code in SKEWED:
                self._server_clock.learn(answer.header(b"date"))
            if self._signer is not None and self._signer.ahead != self._server_clock.offset:
                self._signer = None
                self._credentials_due = float("-inf")
            if self._has_moved or self._has_expired:
                self._credentials_due = float("-inf")

    # --- credentials ------------------------------------------------------------------------------------------

    async def _renew(self, now: float) -> None:
        """Look whether there are new credentials; while one sender asks, the others use what is there.

        After a refusal for expired credentials, or because the bucket is elsewhere, all wait until that is mended.
        """
        if self._has_moved or self._has_expired:
            async with self._mending.taken():
                if self._has_moved:
                    self._move(await self._locate())
                if self._has_expired:
                    self._use(await self._credentials(self._known))
                    self._has_expired = False
        if self._signer is not None:
            self._credentials_due = now + _CREDENTIALS_SECONDS
        try:
            self._use(await self._credentials(None))
        except Unreachable:
            if self._signer is None:
                raise
            return  # those that are there may be good for a while; if not, S3 says so
        if not (self._has_moved or self._has_expired):  # somebody may have been refused meanwhile
            self._credentials_due = now + _CREDENTIALS_SECONDS

    def _use(self, credentials: Credentials | None) -> None:
        if credentials != self._known or self._signer is None:
            self._known = credentials
            region, ahead = self._location.region, self._server_clock.offset
            self._signer = Signer(credentials, region, ahead=ahead) if credentials is not None else None
            self._framer = self._new_framer()

    def _move(self, location: Location) -> None:
        self._has_moved = False
        if location != self._location:
            self._pools[-1].retire()
            self._pools.append(self._new_pool(location))
            self._location, self._base, self._signer = location, location.place.base, None

    def _new_pool(self, location: Location) -> Pool:
        kind = Connection if self._log is None else self._log.connections(location.place)
        return Pool(location.origin, self._settings.attempt_timeout, kind)

    def _new_framer(self) -> Framer:
        settings = self._settings
        return Framer(
            self._location.place,
            self._signer,
            self._integrity.header,
            settings.request_headers(),
            settings.object_headers(),
        )


def _check_silence(exc: ExchangeError, op: str, key: str, headers: Headers | None, idle: float | None) -> None:
    """Let an exchange be made again that broke because a connection was closed while nobody used it.

    That tells nothing, except to a conditional request, which may have been carried out. `idle` is for how long the
    connection was not used, in seconds, None for a new one.

    Raises:
        ConnectionLost: it broke in another way.
    """
    is_conditional = headers is not None and any(name.startswith("if-") for name, _ in headers)
    if idle is None or not (exc.silent and (exc.clean or idle >= _IDLE_SECONDS)) or is_conditional:
        raise ConnectionLost(op, key, str(exc)) from exc


def _text(pattern: re.Pattern[bytes], answer: Answer) -> str:
    found = pattern.search(answer.body)
    return unescape(found[1].decode(errors="replace")) if found else ""


def _unreachable(op: str, key: str, said: str) -> Unreachable:
    return Unreachable(op, key, f"S3 cannot be reached: {said}", REACH)
