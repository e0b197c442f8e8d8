"""A sink that keeps nothing: for measuring everything before it."""

from __future__ import annotations

from asyncup.model import Receipt, Streamed, Upload, tuple_of


class NullSink:
    """Acknowledges every upload and forgets it."""

    async def check(self) -> None:
        """Always there."""

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`. A streamed body is read to its end, as it would be to be sent."""
        key, body, _ = upload
        if body.__class__ is Streamed:
            return Receipt(key, await _read(body))
        return tuple_of(Receipt, (key, len(body), None))

    async def close(self) -> None:
        """Nothing to give back."""


async def _read(body: Streamed) -> int:
    size = 0
    async with body.open() as (_, slices):
        async for piece in slices:
            size += len(piece)
    return size
