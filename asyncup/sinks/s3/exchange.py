"""One HTTP/1.1 connection that carries one exchange at a time: a request that is framed already, and its answer.

httptools parses what comes back, strictly; this module decides what an answer is worth. An answer counts only when it
is whole and came to a request that was sent whole. Whatever else a server does (garbage, endless headers, a wrong
length, bytes that nobody asked for) closes the connection, and costs the exchange that was under way: RFC 9112,
sections 6.3 and 9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from asyncup.model import tuple_of

#: An answer to a PUT is a few hundred bytes, an error a few thousand; more than this is read by nobody.
MAX_ANSWER = 128 << 10
#: Bodies up to here are written together with their head; longer ones in slices, as fast as the peer takes them.
INLINE_BODY = 64 << 10
_SLICE = 256 << 10
#: How far an answer has come.
_NOTHING, _BEGUN, _HEAD = range(3)


class ExchangeError(Exception):
    """The exchange broke: the connection ended, took too long, or said what is not HTTP.

    `silent` is True when not one byte of an answer had come: an idle connection that the server has closed looks so.
    `clean` is True when the connection was closed rather than reset.
    """

    def __init__(self, reason: str, *, silent: bool = False, clean: bool = False) -> None:
        super().__init__(reason)
        self.silent = silent
        self.clean = clean


class Answer(NamedTuple):
    """What the server said. `whole` is False when the body was cut off by a limit, or came before the request was sent.

    Header names are as the server wrote them; `header` finds them in any case.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    whole: bool = True

    @property
    def etag(self) -> str | None:
        """The ETag with its quotes. Nearly every server writes the name as AWS does."""
        value = self.headers.get(b"ETag")
        return value.strip().decode("latin-1") if value is not None else self.header(b"etag")

    def header(self, name: bytes) -> str | None:
        """A header by its name in lower case."""
        for key, value in self.headers.items():
            if key.lower() == name:
                return value.strip().decode("latin-1")
        return None


class Connection(asyncio.Protocol):
    """A connection, from the moment it is made until `lost` is called with it."""

    def __init__(self, lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._transport: Any = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._room: asyncio.Future[None] | None = None
        self._paused = False
        self._sending = False
        self._headers: dict[bytes, bytes] = {}
        self._head: Mapping[bytes, bytes] = {}
        self.on_header = self._headers.__setitem__  # no Python frame for a header
        self._parser = HttpResponseParser(self)
        self._body: list[bytes] = []
        self._received = 0
        self._stage = _NOTHING
        self._answer: Answer | None = None
        self._reusable = self._surplus = False
        #: False once the connection must not carry another exchange.
        self.usable = True
        #: On the loop's clock: when the exchange under way is given up, and since when none is.
        self.deadline = 0.0
        self.idle_since = self._loop.time()

    # --- sending ----------------------------------------------------------------------------------------------

    def request(self, data: bytes) -> asyncio.Future[Answer]:
        """Send a whole request; the future gives the answer, or ExchangeError."""
        waiter = self._waiter = self._loop.create_future()
        if self.usable:
            self._transport.write(data)
        else:
            self._break("the connection was closed", silent=True, clean=True)
        return waiter

    async def stream(self, head: bytes, body: bytes | memoryview) -> Answer:
        """Send a request with a long body, no faster than the peer takes it, and return its answer.

        An answer that comes before the end of the body ends the sending.

        Raises:
            ExchangeError: the exchange broke.
        """
        self._sending = True
        waiter = self.request(head)
        view = memoryview(body)
        try:
            for start in range(0, len(view), _SLICE):
                if self._paused:
                    self._room = self._loop.create_future()
                    await self._room
                if waiter.done():
                    break
                self._transport.write(view[start : start + _SLICE])
            else:
                self._sending = False
            return await waiter
        except BaseException:
            waiter.cancel()  # nobody will look at what becomes of it
            raise

    def abort(self, reason: str = "") -> None:
        """Close at once; an exchange that is under way breaks with `reason`."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
        if reason:
            self._break(reason)

    def give_up(self, now: float) -> None:
        """End an exchange whose deadline has passed."""
        if self._waiter is not None and now > self.deadline:
            self.abort("no answer in time")

    # --- what the loop calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._waiter is not None:
            lengthless = {b"content-length", b"transfer-encoding"}.isdisjoint(name.lower() for name in self._headers)
            if exc is None and self._stage == _HEAD and lengthless:
                # an answer without a length ends with its connection
                self._finish(Answer(self._parser.get_status_code(), self._head, b"".join(self._body)))
            else:
                self._break(_said(exc), silent=not self._received, clean=exc is None)
        self.resume_writing()
        self._lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()  # nobody asked
            return
        self._received += len(data)
        if self._received > MAX_ANSWER:
            data = data[: MAX_ANSWER - self._received]
            self._surplus = True
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            if self._answer is None:
                why = exc if isinstance(exc, HttpParserError) else "it switches to another protocol"
                self.abort(f"the answer is not HTTP: {why}")
                return
            self._surplus = True
        if self._answer is not None:
            self._finish(self._answer)
        elif self._surplus:
            self._cut_off()

    # --- what the parser calls --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._stage:
            self._surplus = True
        self._stage = _BEGUN

    def on_headers_complete(self) -> None:
        self._stage = _HEAD
        self._head = self._headers.copy()  # trailers are no part of it (RFC 9110, section 6.5.1)

    def on_body(self, body: bytes) -> None:
        if self._answer is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._answer is not None:
            return  # of a second answer
        status = self._parser.get_status_code()
        if 200 > status >= 100:
            self._stage = _NOTHING  # an interim answer (RFC 9110, section 15.2); the final one is still to come
            self._headers.clear()
            self._body.clear()
        else:
            self._reusable = self._parser.should_keep_alive()
            body = b"".join(self._body) if self._body else b""
            self._answer = tuple_of(Answer, (status, self._head, body, True))

    # --- how an exchange ends ---------------------------------------------------------------------------------

    def _finish(self, answer: Answer) -> None:
        waiter, self._waiter = self._waiter, None
        early = self._sending or self._transport.get_write_buffer_size() > 0
        if early or self._surplus or not self._reusable:
            self.abort()
            self.resume_writing()  # whoever still sends is to see that the answer is there
            if early:
                answer = answer._replace(whole=False)
        else:
            self._received, self._stage, self._answer = 0, _NOTHING, None
            self._headers.clear()
            if self._body:
                self._body.clear()
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _cut_off(self) -> None:
        """Nobody needs the rest of an endless body, but its head may say enough; it is no success in any case."""
        if self._stage == _HEAD:
            self._finish(Answer(self._parser.get_status_code(), self._head, b"".join(self._body), whole=False))
        else:
            self.abort(f"the answer's head is longer than {MAX_ANSWER >> 10} KiB")

    def _break(self, reason: str, *, silent: bool = False, clean: bool = False) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(ExchangeError(reason, silent=silent, clean=clean))

    def __repr__(self) -> str:
        state = "closed" if not self.usable else "idle" if self._waiter is None else "busy"
        return f"<Connection {state}>"


def _said(exc: Exception | None) -> str:
    return f"the connection broke: {exc or exc.__class__.__name__}" if exc else "the server closed the connection"
