"""Connections to one origin: made when they are needed, kept for a few seconds, spread over the origin's addresses.

The pool has no bound of its own; whoever sends is bounded. S3 closes idle connections after about five seconds, so
they are kept for four. Every name is looked up again after a while, and at once when S3 asks for fewer requests
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-design-patterns.html).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohappyeyeballs import start_connection

from asyncup.sinks.s3.exchange import Connection

KEEP_SECONDS = 4.0
CONNECT_SECONDS = 10.0
LOOKUP_SECONDS = 30.0
#: Handshakes at a time: more would overflow a server's queue, and wait a second for it to come back to them.
_CONNECTING = 64
#: How long another address gets a head start before the next one is tried as well (RFC 8305, section 5).
_HEAD_START = 0.25

AddressInfo = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections go. `tls` is None for http; the certificate is checked against `host`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = field(default=None, compare=False)


class Pool:
    """Connections to an origin. `patience`: seconds for a connection to be made, and the shortest time for an exchange.

    `kind` makes a connection of whom to tell when it is lost.
    """

    def __init__(
        self,
        origin: Origin,
        patience: float,
        kind: Callable[[Callable[[Connection], None]], Connection] = Connection,
    ) -> None:
        self._origin = origin
        self._kind = kind
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._addresses: Sequence[AddressInfo] = ()
        self._looked_up = self._look_up_at = float("-inf")
        self._looking_up = asyncio.Lock()
        self._turn = 0
        self._connecting = asyncio.Semaphore(_CONNECTING)
        self._patience = min(CONNECT_SECONDS, patience)
        self._interval = min(1.0, max(0.01, patience / 10))
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] | None = None
        self._retired = False

    def take(self) -> Connection | None:
        """The idle connection that was used last, or None when there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable and connection.idle_since > self._clock() - KEEP_SECONDS:
                return connection
            connection.abort()
        return None

    async def connect(self) -> Connection:
        """A new connection, to the address whose turn it is, or another one if that does not answer.

        Raises:
            OSError: nobody answers, or the name is unknown; ssl.SSLError when TLS fails.
            TimeoutError: not in time.
        """
        async with asyncio.timeout(self._patience), self._connecting:
            addresses = await self._look_up()
            if len(addresses) == 1:
                host, port = addresses[0][4][:2]
                connection = await self._open_one(host=host, port=port)
            else:
                self._turn += 1
                first = self._turn % len(addresses)
                spread = [*addresses[first:], *addresses[:first]]
                connected = await start_connection(spread, happy_eyeballs_delay=_HEAD_START, interleave=1)
                try:
                    connection = await self._open_one(sock=connected)
                except BaseException:
                    connected.close()
                    raise
        if connection.usable:
            self._open.add(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._interval, self._sweep)
        if self._closed is not None:
            connection.abort("the pool is closed")
        return connection

    async def _open_one(self, **where: Any) -> Connection:
        origin = self._origin
        name = origin.host if origin.tls is not None else None
        connection = self._kind(self._lost)
        try:
            await self._loop.create_connection(lambda: connection, ssl=origin.tls, server_hostname=name, **where)
        except BaseException:
            connection.abort()  # if TLS is up, it would wait half a minute for the server's goodbye
            raise
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose exchange is over for the next one, if it will carry another."""
        if self._retired:
            connection.abort()
        elif connection.usable:
            connection.idle_since = self._clock()
            self._idle.append(connection)

    def look_elsewhere(self) -> None:
        """Look the name up again before the next connection is made, once a second at most."""
        self._look_up_at = min(self._look_up_at, self._looked_up + 1.0)

    def retire(self) -> None:
        """Close what is idle, and everything else as soon as it is given back."""
        for connection in self._idle:
            connection.abort()
        self._retired = True

    async def close(self) -> None:
        """Close every connection, and wait until they are."""
        self._closed = self._loop.create_future()
        for connection in list(self._open):
            connection.abort("the pool is closed")
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._closed
        if self._sweeper is not None:
            self._sweeper.cancel()

    async def _look_up(self) -> Sequence[AddressInfo]:
        """The origin's addresses; the last ones that were found while the name cannot be looked up."""
        if self._clock() >= self._look_up_at:
            async with self._looking_up:  # one asks, for all that connect meanwhile
                now = self._clock()
                if now >= self._look_up_at:
                    host, port = self._origin.host, self._origin.port
                    try:
                        self._addresses = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                    except OSError:
                        if not self._addresses:
                            raise
                    self._looked_up, self._look_up_at = now, now + LOOKUP_SECONDS
        return self._addresses

    def _sweep(self) -> None:
        """Give up exchanges whose time is over, and close what has been idle for long."""
        now = self._clock()
        idle, self._idle = self._idle, []
        for connection in idle:
            if now - connection.idle_since < KEEP_SECONDS:
                self._idle.append(connection)
            else:
                connection.abort()
        for connection in list(self._open):
            connection.give_up(now)
        self._sweeper = self._loop.call_later(self._interval, self._sweep) if self._open else None

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if self._closed is not None and not self._open and not self._closed.done():
            self._closed.set_result(None)

    def __repr__(self) -> str:
        return f"<Pool {self._origin.host}:{self._origin.port}, {len(self._open)} open, {len(self._idle)} idle>"
