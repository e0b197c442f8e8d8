"""A forward proxy: it sends requests on to where they say, and opens tunnels.

Source: RFC 9110, section 9.3.6, and RFC 9112, section 3.2.2: a server takes a target in absolute form, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class ForwardProxy:
    """`tunnels` and `hosts` are the authorities that clients wanted to reach, through a tunnel or without one."""

    def __init__(self) -> None:
        self.url = ""
        self.hosts: list[str] = []
        self.tunnels: list[str] = []
        self._server: asyncio.Server
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Take no more connections, and break those that are open."""
        self._server.close()
        for task, writer in self._serving.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._connect(reader, writer)
        except* (OSError, EOFError):
            pass  # one of the two went away
        finally:
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target = head.decode("latin-1").split(" ")[:2]
        is_tunnel = method == "CONNECT"
        authority = target if is_tunnel else urlsplit(target).netloc
        (self.tunnels if is_tunnel else self.hosts).append(authority)
        host, _, port = authority.partition(":")
        upstream, onward = await asyncio.open_connection(host, int(port or 80))
        try:
            if is_tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                onward.write(head)
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, onward))
                group.create_task(_pump(upstream, writer))
        finally:
            onward.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@asynccontextmanager
async def forward_proxy() -> AsyncGenerator[ForwardProxy]:
    """Run a proxy on the loopback interface."""
    proxy = ForwardProxy()
    await proxy.start()
    yield proxy
    await proxy.stop()
