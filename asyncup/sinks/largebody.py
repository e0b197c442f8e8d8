"""A body too large for memory, as a file that a blocking library reads in a thread of its own.

The bytes come slice by slice over the event loop: the thread asks, and whoever holds the reading answers.
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import CancelledError, Future
from typing import cast

#: What a library is given at a time at least, if it asks for less.
_BUFFER = 1 << 20


class Questions:
    """What the reading thread asks, for the event loop: `True` for the first slice, `False` for the next one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[tuple[bool, Future[bytes]]] = self._loop.create_future()
        self._reply: Future[bytes] | None = None
        self._is_over = False

    @property
    def asked(self) -> asyncio.Future[tuple[bool, Future[bytes]]]:
        """The next question, once there is one, and where the answer goes. Who takes it calls `turn`."""
        return self._asked

    def turn(self) -> None:
        """The question was taken, so that another can be asked once it is answered."""
        self._asked = self._loop.create_future()

    def end(self) -> None:
        """Answer none any more."""
        self._is_over = True
        if self._reply is not None:
            self._reply.cancel()

    def ask(self, *, first: bool) -> bytes:
        """Called in the thread; waits for the answer. Raises OSError when there is none any more."""
        reply: Future[bytes] = Future()
        try:
            self._loop.call_soon_threadsafe(self._take, first, reply)
            return reply.result()
        except (CancelledError, RuntimeError):
            raise OSError("the body cannot be read any more: this attempt is over") from None

    def _take(self, first: bool, reply: Future[bytes]) -> None:
        if self._is_over or self._asked.done():
            reply.cancel()
        else:
            self._reply = reply
            self._asked.set_result((first, reply))


class LargeBody(io.BufferedReader):
    """A readable file, to be read by one thread. To seek backwards is to read it from the beginning once more.

    Attributes:
        size: its bytes; None where only its end tells, and then it can be read once, from beginning to end.
    """

    def __init__(self, questions: Questions, size: int | None) -> None:
        super().__init__(_Slices(questions, size), _BUFFER)

    @property
    def size(self) -> int | None:
        return cast(_Slices, self.raw).size

    def reopened(self, size: int | None) -> None:
        """It is read from the beginning, and may have another size by now."""
        cast(_Slices, self.raw).size = size

    @property
    def is_read(self) -> bool:
        """Whether all of it was asked for."""
        return cast(_Slices, self.raw).is_read


class _Slices(io.RawIOBase):
    def __init__(self, questions: Questions, size: int | None) -> None:
        self.size, self.is_read = size, size == 0
        self._questions = questions
        self._rest = memoryview(b"")
        self._at = 0  # where the rest begins
        self._position = 0  # where the next byte is to be read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.size is not None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self.size is None:
            raise io.UnsupportedOperation("this body is made while it is read: it can be read once")
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("a negative position")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self.size is not None and self._position >= self.size:
            return 0
        if self._position < self._at:
            self._rest, self._at = memoryview(self._questions.ask(first=True)), 0
        while self._position > self._at or not self._rest:
            skipped = min(self._position - self._at, len(self._rest))
            self._rest, self._at = self._rest[skipped:], self._at + skipped
            if not self._rest:
                self._rest = memoryview(self._questions.ask(first=False))
                if not self._rest:
                    self.is_read = True
                    return 0
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest, self._at = self._rest[count:], self._at + count
        self._position = self._at
        self.is_read = self.is_read or self._at == self.size
        return count
