"""A sink that keeps nothing: for measuring everything before it."""

from __future__ import annotations

from asyncup.model import Receipt, Upload


class NullSink:
    """Acknowledges every upload and forgets it."""

    async def check(self) -> None:
        """Always there."""

    async def put(self, upload: Upload) -> Receipt:
        return Receipt(upload.key, len(upload.body))

    async def close(self) -> None:
        """Nothing to give back."""
