"""What a connection does to its client where a well-behaved server would answer."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Protocol

#: Seconds between two pieces of a body that is read slowly.
TICK = 0.02

#: What something between a client and S3 says in its place.
PAGE = b"<!DOCTYPE html><html><head><title>Please wait</title></head><body><h1>Please wait</h1></body></html>\n"
HTML = (
    b"HTTP/1.1 200 OK\r\nServer: proxy\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(PAGE), PAGE)
)


def reset(transport: asyncio.Transport) -> None:
    """End a connection with a TCP reset, whatever is on its way."""
    if transport.is_closing():
        return
    # a close that lingers for no time at all is a reset (socket(7))
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def garbage(dice: random.Random) -> bytes:
    """Bytes that are no HTTP."""
    return b"\x16\x03\x03" + dice.randbytes(dice.randrange(20, 400))


def cut(raw: bytes, dice: random.Random) -> bytes:
    """The beginning of an answer: at least a byte, and not all of it."""
    return raw[: dice.randrange(1, len(raw))]


class Reader(Protocol):
    """A connection that is read for slowly."""

    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def is_within_body(self) -> bool: ...


class Drip(asyncio.Protocol):
    """Stands before a connection and hands it `rate` bytes a second, until the body that is coming is complete."""

    def __init__(self, reader: Reader, transport: asyncio.Transport, rate: float) -> None:
        self._reader = reader
        self._transport = transport
        self._piece = max(1, int(rate * TICK))
        self._held = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._held += data
        self._transport.pause_reading()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._drop)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._reader.connection_lost(exc)

    def pause_writing(self) -> None:
        self._reader.pause_writing()

    def resume_writing(self) -> None:
        self._reader.resume_writing()

    def _drop(self) -> None:
        self._timer = None
        piece = bytes(self._held[: self._piece])
        del self._held[: self._piece]
        self._reader.data_received(piece)
        if self._transport.is_closing():
            return
        if not self._reader.is_within_body():
            self._transport.set_protocol(self._reader)  # type: ignore[arg-type]
            self._transport.resume_reading()
            if self._held:
                self._reader.data_received(bytes(self._held))
        elif self._held:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._drop)
        else:
            self._transport.resume_reading()
