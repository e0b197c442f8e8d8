"""Messages between processes: pickles of protocol 5, with large bodies beside them, which nobody copies to send them.

Source: https://peps.python.org/pep-0574/. Both ends are ours, started by the same run.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from asyncup.model import Products, Row, Upload
from asyncup.transforms.failures import Failure

#: Bodies from this size on go beside the pickle.
_BESIDE = 16 << 10
#: A pickle up to this size goes with its head in one piece.
_TOGETHER = 64 << 10
_HEAD = struct.Struct("<IQ")


class Wire:
    """One end of a pair of connected sockets; blocking."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        """For `select`."""
        return self._end.fileno()

    def send(self, message: object) -> None:
        """Send one message.

        Raises:
            OSError: the other end is gone.
        """
        beside: list[pickle.PickleBuffer] = []
        plain = pickle.dumps(message, protocol=5, buffer_callback=beside.append)
        buffers = [buffer.raw() for buffer in beside]
        head = _HEAD.pack(len(buffers), len(plain)) + struct.pack(f"<{len(buffers)}Q", *map(len, buffers))
        if len(plain) <= _TOGETHER:
            self._end.sendall(head + plain)
        else:
            self._end.sendall(head)
            self._end.sendall(plain)
        for buffer in buffers:
            self._end.sendall(buffer)

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            EOFError: the other end is gone.
        """
        try:
            count, length = _HEAD.unpack(self._exactly(_HEAD.size))
            sizes = struct.unpack(f"<{count}Q", self._exactly(8 * count))
            plain = self._exactly(length)
            buffers = [self._exactly(size) for size in sizes]
        except OSError as exc:
            raise EOFError(str(exc)) from None
        return pickle.loads(plain, buffers=buffers)  # noqa: S301 - from a process of ours

    def _exactly(self, size: int) -> bytes:
        """That many bytes, in one piece as the kernel gives them unless a signal cuts them."""
        if not size:
            return b""
        found = self._end.recv(size, socket.MSG_WAITALL)
        if len(found) == size:
            return found
        pieces = [found]
        while size := size - len(found):
            if not found:
                raise EOFError("the other process is gone")
            found = self._end.recv(size, socket.MSG_WAITALL)
            pieces.append(found)
        return b"".join(pieces)

    def close(self) -> None:
        """Close this end; the other one sees it."""
        self._end.close()


def sendable(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Rows as plain tuples, with large bodies beside the pickle. A driver's rows know how to do nothing of that."""
    return [(*row[:-1], _beside(row[-1])) for row in rows]


def returnable(made: Sequence[Products | Failure]) -> list[Any]:
    """The same of what was made."""
    return [one if isinstance(one, Failure) else tuple(map(_product, one)) for one in made]


def _product(made: bytes | Upload) -> Any:
    if isinstance(made, Upload):
        return made._replace(body=_beside(made.body)) if len(made.body) >= _BESIDE else made
    return _beside(made)


def _beside(body: Any) -> Any:
    return pickle.PickleBuffer(body) if body is not None and len(body) >= _BESIDE else body
