"""Servers that say as little as it takes to count their connections: on as many addresses as a test wants."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from asyncup.sinks.s3.pool import KEEP_SECONDS

OK = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 0\r\n\r\n'


@dataclass
class Door:
    """What has come in. `accepted` are the addresses at which connections arrived, in order; `open` those still there."""

    port: int = 0
    accepted: list[str] = field(default_factory=list)
    open: set[asyncio.BaseTransport] = field(default_factory=set)
    answers: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def hang_up(self) -> None:
        """Close every connection."""
        for transport in list(self.open):
            transport.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a connection came or went, and this is so: not so long that it is so by itself."""
        async with asyncio.timeout(KEEP_SECONDS - 1):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class _Guest(asyncio.Protocol):
    def __init__(self, door: Door) -> None:
        self._door = door
        self._transport: Any = None
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._door.accepted.append(transport.get_extra_info("sockname")[0])
        self._door.open.add(transport)
        self._door.changed.set()

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while self._door.answers and b"\r\n\r\n" in self._heard:
            _, _, self._heard = self._heard.partition(b"\r\n\r\n")
            self._transport.write(OK)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.open.discard(self._transport)
        self._door.changed.set()


class _TlsGuest(asyncio.Protocol):
    """Shakes hands, and counts as come in then. asyncio's own servers send no alerts, and forget some of who hang up."""

    def __init__(self, door: Door, context: ssl.SSLContext) -> None:
        self._door = door
        self._transport: Any = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._door.open.add(transport)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        failed = False
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
                self._door.accepted.append(self._transport.get_extra_info("sockname")[0])
                self._door.changed.set()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            failed = True
        self._transport.write(self._outgoing.read())
        if failed:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.open.discard(self._transport)
        self._door.changed.set()


@asynccontextmanager
async def door(*hosts: str, tls: ssl.SSLContext | None = None, answers: bool = True) -> AsyncIterator[Door]:
    """Listen on these addresses, at one port. Answer every head, or nothing at all, or shake hands as TLS does."""
    opened = Door(answers=answers)
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []

    def guest() -> asyncio.Protocol:
        return _Guest(opened) if tls is None else _TlsGuest(opened, tls)

    try:
        for host in hosts or ("127.0.0.1",):
            servers.append(await loop.create_server(guest, host, opened.port, backlog=500))
            opened.port = servers[0].sockets[0].getsockname()[1]
        yield opened
    finally:
        for server in servers:
            server.close()
        opened.hang_up()
        for server in servers:
            await server.wait_closed()


@asynccontextmanager
async def deaf(host: str, port: int = 0) -> AsyncIterator[int]:
    """A port of an address at which connections are neither taken nor refused: whoever calls waits."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.bind((host, port))
        listener.listen(0)
        waiting = []
        try:
            while True:  # fill the queue
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                try:
                    async with asyncio.timeout(0.1):
                        await loop.sock_connect(waiting[-1], listener.getsockname())
                except TimeoutError:
                    break
            yield listener.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


class Names:
    """Stands in for the resolver of the running loop. `hosts` is what the next look-up of a name finds, or its error."""

    def __init__(self, *hosts: str) -> None:
        self.hosts: tuple[str, ...] | OSError = hosts
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        loop: Any = asyncio.get_running_loop()
        self._resolve = loop.getaddrinfo
        loop.getaddrinfo = self._look_up

    async def while_asked(self, *waiting: Coroutine[Any, Any, Any]) -> None:
        """Answer nobody until one of these has asked and all others had the time to, and then wait for all."""
        asked = len(self.asked)
        self.gate.clear()
        done = asyncio.gather(*waiting)
        while len(self.asked) == asked:
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        self.gate.set()
        await done

    async def _look_up(self, host: str, port: int, **options: Any) -> Any:
        if not host.endswith(".test"):  # uvloop asks for addresses, too
            return await self._resolve(host, port, **options)
        self.asked.append(host)
        await self.gate.wait()
        if isinstance(self.hosts, OSError):
            raise self.hosts
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port)) for one in self.hosts]
