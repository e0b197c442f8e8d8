"""One connection: requests cut anywhere, in any number, with bodies that are counted as they come."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any, cast

from asyncup.bench.simulator.course import Course
from asyncup.bench.simulator.delay import CLOSES, RESETS, STAYS, write
from asyncup.bench.simulator.framing import END_OF_HEAD, HEAD_LIMIT, BadRequest, Head, read_head
from asyncup.bench.simulator.judge import Judge
from asyncup.bench.simulator.misbehaviour import Drip, reset
from asyncup.bench.simulator.null import Null
from asyncup.bench.simulator.world import World

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Answers requests in their order. A client that does not read its answers is not read from either."""

    def __init__(self, world: World, null: Null, judge: Judge) -> None:
        self._world = world
        self._null = null
        self._judge = judge
        self._transport: asyncio.Transport
        self._rest = b""  # the beginning of a head
        self._head: Head | None = None  # the request whose body is coming
        self._course: Course | None = None  # what becomes of it, if that was looked at
        self._left = 0  # bytes of that body still to come
        self._digest: Any = None
        self._due = 0.0  # when the last answer leaves
        self._over = False  # the last answer has been given
        self._stream: Iterator[bytes] | None = None  # an answer that is made while it is sent
        self._is_full = False  # the client does not read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another ancestry
        self._world.counters.opened()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop gives it
        self._over = True
        self._stream = None
        self._world.counters.closed()

    def pause_writing(self) -> None:
        self._is_full = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        self._transport.resume_reading()
        self._go_on()

    def is_within_body(self) -> bool:
        return self._head is not None and not self._over

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
                    self._set_aside(data[position:])
                    return
                if head.expects_continue and position == size and self._left:
                    self._send(_CONTINUE, STAYS)
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
        self._digest = hashlib.md5(usedforsecurity=False) if self._null.digests else None
        if self._world.watches:
            return self._enter(head, raw)
        return head

    def _enter(self, head: Head, raw: bytes) -> Head | None:
        self._course = course = self._judge.enter(head, raw)
        if course is None:
            return head
        if course.body is not None:
            self._digest = course.body
        if course.fault == "reset":
            self._world.counters.unanswered(head.method, 0)
            self._over = True
            reset(self._transport)
            return None
        if course.fault == "slow-read" and self._left:
            self._head = head
            return None
        return head

    def _set_aside(self, data: bytes) -> None:
        """Read on slowly, if there is a body to be read."""
        if self.is_within_body():
            Drip(self, self._transport, self._world.manners.slow_read).data_received(data)

    def _finish(self, head: Head) -> None:
        digest = None if self._digest is None else self._digest.hexdigest()
        course = self._course
        if course is not None:
            self._course = None
            self._conclude(head, course, digest)
            return
        answer = self._null.answer(head, digest)
        self._over = head.closes
        if answer.is_control:
            write(self._transport, answer.raw, head.closes and answer.rest is None)
            if answer.rest is not None:
                self._stream = answer.rest
                self._go_on()
        else:
            self._world.counters.answered(head.method, answer.status, head.length)
            self._due = self._world.delay.send(self._transport, answer.raw, head.closes, self._due)

    def _conclude(self, head: Head, course: Course, digest: str | None) -> None:
        answer = self._judge.conclude(course, digest)
        counters, fault = self._world.counters, course.fault
        self._over = head.closes or course.ends
        if answer is None:
            counters.unanswered(head.method, head.length)
            self._over = True  # what comes from now on is read, and forgotten
            if fault == "reset-after":
                self._send(b"", RESETS)
        elif course.spoils:
            counters.unanswered(head.method, head.length)
            self._send(answer.raw, CLOSES)
        else:
            counters.answered(head.method, answer.status, head.length)
            self._send(answer.raw, CLOSES if self._over else STAYS)

    def _send(self, raw: bytes, ends: int) -> None:
        self._due = self._world.delay.send(self._transport, raw, ends, self._due)

    def _go_on(self) -> None:
        """Send as much of a streamed answer as the client takes; nothing else is asked on this connection meanwhile."""
        while self._stream is not None and not self._is_full:
            piece = next(self._stream, None)
            if piece is not None:
                write(self._transport, piece, STAYS)
                continue
            self._stream = None
            if self._over:
                self._transport.close()

    def _refuse(self, reason: BadRequest) -> None:
        answer = self._null.refuse(reason)
        self._world.counters.answered("", answer.status, 0)
        self._over = True
        self._send(answer.raw, CLOSES)
