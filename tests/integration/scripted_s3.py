"""A server that answers as a test has written it down, byte by byte, and keeps what it was sent.

It knows nothing of S3 and shares nothing with the client: what it records is what was on the wire, and it can answer
what no real server would. Requests that nothing is written down for are answered as usual: with a success.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

ETAG = '"0123456789abcdef0123456789abcdef"'
UPLOAD_ID = "an upload&id/"
_NONE: Mapping[str, str] = MappingProxyType({})


class Then(Enum):
    """What becomes of the connection after an answer."""

    KEEP = "keep"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Answer:
    """Raw bytes, and what follows them.

    With `early`, both happen when the head of the request is there, not its body; with `after`, when that is set.
    """

    text: bytes = b""
    then: Then = Then.KEEP
    early: bool = False
    after: asyncio.Event | None = None


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
    """The server. `script` holds the answers still to be given, `requests` what it was asked so far.

    `usual` makes the answers that are not in the script. `busiest` is the most requests that waited for their answers
    at a time.
    """

    def __init__(self) -> None:
        self.endpoint_url = ""
        self.requests: list[Request] = []
        self.script: deque[Answer] = deque()
        self.usual: Callable[[Request], Answer] = _accept
        self.busiest = 0
        self._busy = 0
        self._connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server

    def answer(self, *answers: Answer) -> None:
        """Write down the next answers."""
        self.script.extend(answers)

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20, ssl=tls)
        host, self.port = self._server.sockets[0].getsockname()
        self.endpoint_url = f"{'http' if tls is None else 'https'}://{host}:{self.port}"

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
        self.usual = _accept
        self._connections = self.busiest = 0

    async def wait_until_idle(self) -> None:
        """Wait until no connection is open."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: not self._open)

    async def wait_for_requests(self, number: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= number)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self._open.add(writer)  # at once, so that whoever stops the server knows of it
        task = asyncio.create_task(self._serve(reader, writer, self._connections))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
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
        raw = await reader.readuntil(b"\r\n\r\n")
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            return await self._answer(raw, reader, writer, connection)
        finally:
            self._busy -= 1

    async def _answer(
        self, raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        scripted = self.script.popleft() if self.script else None
        is_early = scripted is not None and scripted.early
        sent = b"" if is_early else await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, target, headers, sent, connection)
        answer = scripted or self.usual(request)
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        if answer.after is not None:
            await answer.after.wait()
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


def _accept(_: Request) -> Answer:
    return accept()


def step(request: Request) -> str:
    """What a request asks for: put, create, part N, complete or abort; else its method."""
    query = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
    if request.method == "PUT":
        return f"part {query['partNumber'][0]}" if "partNumber" in query else "put"
    if request.method == "POST":
        return "create" if "uploads" in query else "complete"
    return "abort" if request.method == "DELETE" else request.method


def answer_as_s3(request: Request) -> Answer:
    """What S3 answers when all is well, ETags and multipart uploads included."""
    match step(request).split(" ")[0]:
        case "put" | "part":
            return reply(200, headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})
        case "create":
            return reply(
                200,
                f"<InitiateMultipartUploadResult><UploadId>{escape(UPLOAD_ID)}</UploadId></InitiateMultipartUploadResult>",
            )
        case "complete":
            return reply(
                200, f'<CompleteMultipartUploadResult><ETag>{ETAG[:-1]}-3"</ETag></CompleteMultipartUploadResult>'
            )
        case "abort":
            return reply(204)
        case _:
            return reply(200)


def lead_names_to(server: ScriptedS3, monkeypatch: pytest.MonkeyPatch, domain: str = ".amazonaws.com") -> None:
    """Make names, those of AWS unless told otherwise, lead to a server of the test, whatever their port."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if str(host).endswith(domain):
            host, port = "127.0.0.1", server.port
        return look_up(host, port, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@asynccontextmanager
async def scripted_s3(tls: ssl.SSLContext | None = None) -> AsyncGenerator[ScriptedS3]:
    """Run a scripted server on the loopback interface."""
    scripted = ScriptedS3()
    await scripted.start(tls)
    yield scripted
    await scripted.stop()
