"""Any blocking library as a sink: a plain `put(upload)`, called in threads of its own.

    def put(upload):
        client.put_object(Bucket="bucket", Key=upload.key, Body=upload.body)

    sink = ExecutorSink(put, threads=32)

A thread cannot be stopped. A call that does not return in time has failed, its thread is left to itself, and another one
takes its place, up to as many as there are threads; what is left to itself never keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, Protocol, cast

from asyncup.errors import AsyncupError, ConnectionLost, DestinationRefused, RowRefused
from asyncup.flow.ending import Grace
from asyncup.flow.threads import Threads
from asyncup.model import UNTOLD, Receipt, Streamed, Upload
from asyncup.sinks.foreign import meaning
from asyncup.sinks.largebody import LargeBody, Questions

#: Seconds for a target to give back what it holds.
CLOSE_SECONDS = 10.0
#: A second more for each of these, as for any upload.
_MIB = 1 << 20


class Target(Protocol):
    """What keeps objects, one call at a time in each of several threads.

    It may have more: `check()`, which raises when objects cannot be put there, without writing any; `close()`; and
    `whole_bodies = True`, which says that it takes nothing but bytes.
    """

    def put(self, upload: Upload) -> Receipt | str | None:
        """Store one object, whole or not at all; return once it is durable, with its ETag if it has one.

        `upload.body` is bytes; those of more than 16 MiB come as a `LargeBody`, a file to read from.
        Errors of `asyncup.errors` mean what they say. Of others, `OSError`, timeouts, and answers such as 429, 500 and
        503 are tried again, and whatever says that this object cannot be put (`ValueError`, `TypeError`, 4xx) fails its row.
        """
        ...


class ExecutorSink:
    """Calls a target in at most `threads` threads. See `Sink`.

    `attempt_timeout` is in seconds, for one call, and a second more for each MiB of it; for a `LargeBody` since it was
    last read from. With `whole_bodies` every body is bytes, and large ones are in memory whole, beside what `--memory` bounds.

    Raises:
        TypeError: the target cannot be called, or is async.
    """

    def __init__(
        self,
        target: Target | Callable[[Upload], Any],
        *,
        threads: int = 32,
        attempt_timeout: float = 60.0,
        whole_bodies: bool | None = None,
        name: str = "",
        grace: Grace | None = None,
    ) -> None:
        put = getattr(target, "put", None) or target
        if not callable(put):
            raise TypeError(f"a {type(target).__name__} is no target: it has no put(upload), and cannot be called")
        if inspect.iscoroutinefunction(put) or inspect.iscoroutinefunction(getattr(put, "__call__", None)):  # noqa: B004
            raise TypeError("put is async; it has to be a plain function, which blocks")
        self._put: Callable[[Upload], Any] = put
        self._target = target
        self._timeout = attempt_timeout
        self._whole_bodies = getattr(target, "whole_bodies", False) if whole_bodies is None else whole_bodies
        self._name = name or getattr(put, "__qualname__", type(target).__name__)
        self._grace = grace or Grace()
        self._threads = Threads(threads, "asyncup-sink")
        self._accepted = self._is_closed = False

    async def check(self) -> None:
        """See `Sink.check`: asks the target's own `check`, if it has one."""
        check = getattr(self._target, "check", None)
        if check is None:
            return
        error: AsyncupError | None = None
        raised: BaseException | None = None
        try:
            calling = Calling(self._threads, check, "check", self._name, self._timeout)
            _, raised = await calling.result()
            error = None if raised is None else meaning(raised, "check", self._name, accepted=False)
        except ConnectionLost as late:
            error = late
        if isinstance(error, RowRefused):  # there is no row: it is the destination
            raise DestinationRefused("check", self._name, error.message) from raised
        if error is not None:
            raise error

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`."""
        body = upload.body
        if isinstance(body, Streamed):
            if not self._whole_bodies:
                return await self._put_large(upload, body)
            body = await _collected(body)
            upload = upload._replace(body=body)
        returned, error = await self._call(upload, len(body)).result()
        if error is not None:
            raise self._meaning(error, upload.key)
        return self._receipt(upload.key, len(body), returned)

    async def close(self) -> None:
        """See `Sink.close`: the target's own `close` has a few seconds; threads that hang are left behind."""
        if self._is_closed:
            return
        self._is_closed = True
        self._threads.close()
        close = getattr(self._target, "close", None)
        if close is None:
            return
        closing = Threads(1, "asyncup-sink-close")
        with contextlib.suppress(ConnectionLost):
            await Calling(closing, close, "close", self._name, min(CLOSE_SECONDS, self._grace.left)).result()
        closing.close()

    async def _put_large(self, upload: Upload, body: Streamed) -> Receipt:
        """Have the target read the body while it sends it."""
        reading = _Reading()
        calling: Calling | None = None
        try:
            again = True
            while again:
                async with body.open() as (told, slices):
                    given = reading.reopened(None if told == UNTOLD else told)
                    calling = calling or self._call(upload._replace(body=cast("bytes", given)), len(body))
                    again = await reading.answer(slices, calling)
                    if not again:  # whose body it is hears of what fails, too
                        returned = self._returned(upload.key, calling, given, reading.failure)
        finally:
            reading.end()
            if calling is not None:
                calling.forget()
        return self._receipt(upload.key, reading.sent if given.size is None else given.size, returned)

    def _returned(self, key: str, calling: Calling, body: LargeBody, failure: Exception | None) -> object:
        """What a call that has ended returned, if it is a success."""
        returned, error = calling.done.result()
        if failure is not None:
            raise failure
        if error is not None:
            raise self._meaning(error, key, is_large=True)
        if not body.is_read:
            raise RowRefused(
                "put", key, f"{self._name} returned before it had read all of the body", "read it to its end"
            )
        return returned

    def _call(self, upload: Upload, size: int) -> Calling:
        return Calling(self._threads, lambda: self._put(upload), "put", upload.key, self._timeout + size / _MIB)

    def _receipt(self, key: str, size: int, returned: object) -> Receipt:
        if inspect.isawaitable(returned):
            if inspect.iscoroutine(returned):
                returned.close()
            raise DestinationRefused(
                "put", self._name, "it returned a coroutine, so nothing was put", "put has to be a plain function"
            )
        self._accepted = True
        if isinstance(returned, Receipt):
            return returned
        return Receipt(key, size, returned if isinstance(returned, str) else None)

    def _meaning(self, raised: BaseException, key: str, *, is_large: bool = False) -> AsyncupError:
        error = meaning(raised, "put", key, accepted=self._accepted)
        if error is not raised:
            error.__cause__ = raised
        if is_large and isinstance(raised, (TypeError, AttributeError)):
            error.hint = "a body of more than 16 MiB comes as a file: read from it, or say whole_bodies = True"
        return error


class Calling:
    """One call in a thread, for `seconds` at most. `done` is what it returned, and what it raised."""

    def __init__(
        self, threads: Threads, call: Callable[[], object], op: str, subject: str, seconds: float | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[tuple[object, BaseException | None]] = self._loop.create_future()
        self._threads, self._work_of, self._op, self._subject, self._seconds = threads, call, op, subject, seconds
        self._thread: threading.Thread | None = None
        self._is_forgotten = False
        threads.submit(self._work)

    async def result(self) -> tuple[object, BaseException | None]:
        """Wait for its end.

        Raises:
            ConnectionLost: it did not come in time.
        """
        try:
            await self.wait()
        finally:
            self.forget()
        return self.done.result()

    async def wait(self, other: asyncio.Future[Any] | None = None) -> None:
        """Wait for its end, or for something else to happen before it.

        Raises:
            ConnectionLost: neither did in time. The thread is given up.
        """
        futures = {self.done} if other is None else {self.done, other}
        ended, _ = await asyncio.wait(futures, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
        if not ended:
            self.forget()
            if self._thread is not None:
                self._threads.give_up(self._thread)
            raise ConnectionLost(
                self._op,
                self._subject,
                f"it did not end within {self._seconds:.3g} s"
                if self._thread
                else "every thread hangs in another call",
            )

    def forget(self) -> None:
        """Nobody waits for it any more: it need not begin."""
        self._is_forgotten = True

    def _work(self) -> None:
        if self._is_forgotten:
            return
        self._thread = threading.current_thread()
        answer: tuple[object, BaseException | None]
        try:
            answer = self._work_of(), None
        except BaseException as exc:  # noqa: BLE001 - whoever waits for it decides
            answer = None, exc
        with contextlib.suppress(RuntimeError):  # the loop has gone, and left this behind
            self._loop.call_soon_threadsafe(self._end, answer)

    def _end(self, answer: tuple[object, BaseException | None]) -> None:
        if not self.done.done():
            self.done.set_result(answer)


class _Reading:
    """A large body, read by the event loop for the thread that sends it."""

    def __init__(self) -> None:
        self._questions = Questions()
        self._body: LargeBody | None = None
        self._first: Future[bytes] | None = None
        #: Bytes that were given out since it was opened.
        self.sent = 0
        #: What its reading raised.
        self.failure: Exception | None = None

    def reopened(self, size: int | None) -> LargeBody:
        """It is open, at its beginning."""
        self.sent = 0
        if self._body is None:
            self._body = LargeBody(self._questions, size)
        else:
            self._body.reopened(size)
        return self._body

    async def answer(self, slices: AsyncIterator[bytes], calling: Calling) -> bool:
        """Give the thread what it asks for, until its call has ended; True when it is to be opened again before that."""
        if self._first is not None:
            await self._give(slices, self._first)
            self._first = None
        while True:
            asked = self._questions.asked
            await calling.wait(asked)
            if calling.done.done():
                return False
            is_first, reply = asked.result()
            self._questions.turn()
            if is_first and self.failure is None:
                self._first = reply
                return True
            await self._give(slices, reply)

    async def _give(self, slices: AsyncIterator[bytes], reply: Future[bytes]) -> None:
        piece = b""
        try:
            if self.failure is None:
                piece = await anext(slices, b"")
        except Exception as exc:  # noqa: BLE001 - it goes out as it is, once the call has ended
            self.failure = exc
        if self.failure is None:
            self.sent += len(piece)
            reply.set_result(piece)
        else:
            reply.set_exception(OSError(f"the body cannot be read: {self.failure}"))

    def end(self) -> None:
        """Answer no more."""
        self._questions.end()


async def _collected(body: Streamed) -> bytes:
    async with body.open() as (_, slices):
        return b"".join([piece async for piece in slices])
