"""A server that answers as a test has written it down, byte by byte, and keeps what it was sent.

It knows nothing of S3 and shares nothing with the client: what it records is what was on the wire, and it can answer
what no real server would. Requests that nothing is written down for are answered with a success.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

ETAG = '"0123456789abcdef0123456789abcdef"'
_NONE: Mapping[str, str] = MappingProxyType({})


class Then(Enum):
    """What becomes of the connection after an answer."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Answer:
    """Raw bytes, and what follows them. With `early`, both happen when the head of the request is there, not its body."""

    text: bytes = b""
    then: Then = Then.KEEP
    early: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came. Header names are in lower case; `connection` counts connections from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


def reply(status: int, body: str = "", headers: Mapping[str, str] = _NONE) -> Answer:
    """A well-formed answer."""
    content = body.encode()
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return Answer("\r\n".join([*lines, "", ""]).encode() + content)


def accept() -> Answer:
    """S3's answer to a PUT that it has stored."""
    return reply(200, headers={"ETag": ETAG})


def refuse(status: int, code: str, more: str = "", headers: Mapping[str, str] = _NONE) -> Answer:
    """S3's answer to a request that it refuses; `more` is XML inside the error."""
    body = f"<Error><Code>{code}</Code><Message>Because.</Message>{more}</Error>"
    return reply(status, f'<?xml version="1.0" encoding="UTF-8"?>\n{body}', headers)


class ScriptedS3:
    """The server. `script` holds the answers still to be given, `requests` what it was asked so far."""

    def __init__(self) -> None:
        self.endpoint_url = ""
        self.requests: list[Request] = []
        self.script: deque[Answer] = deque()
        self._connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server

    def answer(self, *answers: Answer) -> None:
        """Write down the next answers."""
        self.script.extend(answers)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        host, port = self._server.sockets[0].getsockname()
        self.endpoint_url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Take no more connections, and break those that are open."""
        self._server.close()
        await self.begin_again()
        await self._server.wait_closed()

    async def begin_again(self) -> None:
        """Break every connection and forget what was asked and what was to be answered."""
        for writer in list(self._open):
            writer.transport.abort()
        await self.wait_until_idle()
        self.script.clear()
        self.requests.clear()
        self._connections = 0

    async def wait_until_idle(self) -> None:
        """Wait until no connection is open."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: not self._open)

    async def wait_for_requests(self, number: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= number)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self._open.add(writer)
        connection = self._connections
        try:
            while await self._exchange(reader, writer, connection):
                pass
        except (OSError, EOFError):
            pass  # the client went away, as some tests want it to
        finally:
            writer.close()
            async with self._changed:
                self._open.discard(writer)
                self._changed.notify_all()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> bool:
        """Read one request and answer it; False when the connection is to be closed."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = self.script.popleft() if self.script else accept()
        sent = b"" if answer.early else await reader.readexactly(int(headers.get("content-length", 0)))
        async with self._changed:
            self.requests.append(Request(method, target, headers, sent, connection))
            self._changed.notify_all()
        head, end, body = answer.text.partition(b"\r\n\r\n")
        # what answers HEAD has no body, whatever its length says
        writer.write(head + end + (b"" if method == "HEAD" else body))
        await writer.drain()
        if answer.then is Then.HANG:
            await reader.read()
        elif answer.then is Then.RESET:
            # with a linger of nothing, closing sends RST instead of FIN
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return answer.then is Then.KEEP


@asynccontextmanager
async def scripted_s3() -> AsyncGenerator[ScriptedS3]:
    """Run a scripted server on the loopback interface."""
    scripted = ScriptedS3()
    await scripted.start()
    yield scripted
    await scripted.stop()
