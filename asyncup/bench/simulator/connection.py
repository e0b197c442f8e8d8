"""One connection: requests cut anywhere, in any number, with bodies that are counted and forgotten."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, cast

from asyncup.bench.simulator.answers import Answers
from asyncup.bench.simulator.counters import Counters
from asyncup.bench.simulator.delay import Delay, write
from asyncup.bench.simulator.framing import END_OF_HEAD, HEAD_LIMIT, BadRequest, Head, read_head

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Answers requests in their order. A client that does not read its answers is not read from either."""

    def __init__(self, answers: Answers, delay: Delay, counters: Counters) -> None:
        self._answers = answers
        self._delay = delay
        self._counters = counters
        self._transport: asyncio.Transport
        self._rest = b""  # the beginning of a head
        self._head: Head | None = None  # the request whose body is coming
        self._left = 0  # bytes of that body still to come
        self._digest: Any = None
        self._over = False  # the last answer has been given

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another ancestry
        self._counters.opened()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop gives it
        self._counters.closed()

    def pause_writing(self) -> None:
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        position, size = 0, len(data)
        while position < size and not self._over:
            head = self._head
            if head is None:
                end = data.find(END_OF_HEAD, position)
                if end < 0:
                    self._keep(data[position:])
                    return
                head = self._begin(data[position:end])
                position = end + 4
                if head is None:
                    return
                if head.expects_continue and position == size and self._left:
                    self._delay.send(self._transport, _CONTINUE, last=False)
            if self._left:
                taken = min(size - position, self._left)
                if self._digest is not None:
                    self._digest.update(memoryview(data)[position : position + taken])
                position += taken
                self._left -= taken
            if self._left:
                self._head = head
                return
            self._head = None
            self._finish(head)

    def _keep(self, beginning: bytes) -> None:
        if len(beginning) > HEAD_LIMIT:
            self._refuse(BadRequest(400, "RequestHeaderSectionTooLarge", "Your request header section is too large."))
        self._rest = beginning

    def _begin(self, raw: bytes) -> Head | None:
        try:
            head = read_head(raw)
        except BadRequest as exc:
            self._refuse(exc)
            return None
        self._left = head.length
        self._digest = hashlib.md5(usedforsecurity=False) if self._answers.digests else None
        return head

    def _finish(self, head: Head) -> None:
        answer = self._answers.answer(head, None if self._digest is None else self._digest.hexdigest())
        self._over = head.closes
        if answer.is_control:
            write(self._transport, answer.raw, head.closes)
        else:
            self._counters.answered(head.method, answer.status, head.length)
            self._delay.send(self._transport, answer.raw, head.closes)

    def _refuse(self, reason: BadRequest) -> None:
        answer = self._answers.refuse(reason)
        self._counters.answered("", answer.status, 0)
        self._over = True
        self._delay.send(self._transport, answer.raw, last=True)
