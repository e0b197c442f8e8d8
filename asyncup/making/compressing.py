"""Bodies made smaller before they are sent; large ones off the event loop, streamed ones slice by slice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from asyncup.model import UNTOLD, Slices, Streamed, Upload
from asyncup.protocols import Compression


class Compressor:
    """Compresses uploads that are worth it, and says so in their headers.

    A key that ends with `suffix` says that its object is compressed, which is what happens here.
    """

    def __init__(self, compression: Compression, suffix: str = "") -> None:
        self._compression = compression
        self._suffix = suffix
        self._header = ("content-encoding", compression.encoding)

    async def compress(self, upload: Upload) -> Upload:
        """The upload with a smaller body; as it is where that is empty, or compressed already."""
        key, body, headers = upload
        content_type = next((value for name, value in headers if name == "content-type"), None)
        if not self._compression.applies(key.removesuffix(self._suffix), content_type, headers):
            return upload
        if isinstance(body, Streamed):
            return Upload(key, self._streamed(body), (*headers, self._header))
        if not body:
            return upload
        compress = self._compression.compress
        smaller = await asyncio.to_thread(compress, body) if self._compression.is_heavy(len(body)) else compress(body)
        return Upload(key, smaller, (*headers, self._header))

    def _streamed(self, body: Streamed) -> Streamed:
        return Streamed(body.size, body.window, lambda: self._opened(body))

    @asynccontextmanager
    async def _opened(self, body: Streamed) -> AsyncGenerator[Slices]:
        async with body.open() as read, aclosing(self._slices(read)) as slices:
            yield Slices(UNTOLD, slices)

    async def _slices(self, read: Slices) -> AsyncGenerator[bytes]:
        stream = self._compression.stream()
        async for piece in read.slices:
            smaller = [await asyncio.to_thread(stream.add, piece)]
            del piece
            if smaller[0]:
                yield smaller.pop()
        yield stream.finish()
