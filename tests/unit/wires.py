"""A transport in memory, for the tests of one connection: it does what the loop's transports do, when it is told to."""

from __future__ import annotations

import asyncio

from asyncup.sinks.s3.exchange import Answer, Connection, ExchangeError

#: As the transports of asyncio have it by default.
HIGH, LOW = 64 << 10, 16 << 10


class Wire:
    """A connection and the transport beneath it. With `blocked`, what is written waits for `drain`."""

    def __init__(self, *, blocked: bool = False) -> None:
        self.blocked = blocked
        self.written = bytearray()
        self.waiting = 0
        self.most_waiting = 0
        self.aborted = False
        self.received = b""
        self.lost: list[Connection] = []
        self.connection = Connection(self.lost.append)
        self.connection.connection_made(self)  # type: ignore[arg-type]
        self._paused = False

    # --- what the connection calls

    def write(self, data: bytes | memoryview) -> None:
        if self.aborted:
            raise AssertionError("written to a closed connection")
        self.written += data
        if self.blocked:
            self.waiting += len(data)
            self.most_waiting = max(self.most_waiting, self.waiting)
            if self.waiting > HIGH and not self._paused:
                self._paused = True
                self.connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True

    # --- what the network does

    def drain(self, size: int) -> None:
        """The peer takes so many bytes."""
        self.waiting = max(0, self.waiting - size)
        if self._paused and self.waiting <= LOW:
            self._paused = False
            self.connection.resume_writing()

    def receive(self, *pieces: bytes) -> None:
        """The peer sends these pieces, as far as anybody still listens."""
        for piece in pieces:
            if self.aborted:
                return
            self.received += piece
            self.connection.data_received(piece)

    def end(self, exc: Exception | None = None) -> None:
        """The connection ends, by the peer or after an abort, which the loop reports like a proper end."""
        self.connection.connection_lost(None if self.aborted else exc)
        self.aborted = True
        assert self.lost == [self.connection]


def outcome(waiter: asyncio.Future[Answer]) -> Answer | ExchangeError:
    """What a request came to; it must have come to something."""
    assert waiter.done()
    error = waiter.exception()
    if error is None:
        return waiter.result()
    assert isinstance(error, ExchangeError)
    return error


async def exchange(*pieces: bytes, ended: bool = False) -> tuple[Answer | ExchangeError, Wire]:
    """One request over a new connection that is answered in these pieces, and after which the server may end it."""
    wire = Wire()
    waiter = wire.connection.request(b"request")
    wire.receive(*pieces)
    if ended or wire.aborted:
        wire.end()
    return outcome(waiter), wire
