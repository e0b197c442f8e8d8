"""What the stores of state stand on: documents in a bucket, statements in a database; and what they tell of a job."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from asyncup.checkpoints.lease import Holder
from asyncup.errors import AsyncupError
from asyncup.model import Checkpoint, Document


@dataclass(frozen=True, slots=True)
class Entry:
    """What the state holds of one job. `error` says why its checkpoint cannot be read; `holder` is who runs it now."""

    name: str
    location: str
    letters: str
    checkpoint: Checkpoint | None = None
    holder: Holder | None = None
    error: AsyncupError | None = None


class Documents(Protocol):
    """Small objects in a bucket, each call one attempt.

    Raises:
        StateRefused: the server refuses.
        Unreachable, ConnectionLost, ServerFault, Throttled, StaleRequest: no clear answer now.
    """

    async def get(self, key: str) -> Document | None:
        """A document, or None when there is none."""
        ...

    async def put(self, key: str, content: bytes, *, etag: str | None = None, new: bool = False) -> str | None:
        """Write a document; returns its ETag, or None when what is there has not that `etag`, or is not `new`.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        ...

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Remove a document; where the server can, only as long as it has that `etag`."""
        ...

    def keys(self, prefix: str) -> AsyncGenerator[str, None]:
        """The keys that begin with `prefix` and have no slash behind it."""
        ...


class Statements(Protocol):
    """Statements in a database, each in a transaction of its own that is durable when the call returns; one attempt.

    Raises:
        StateRefused: the server refuses.
        Unreachable, ServerFault: no clear answer now.
    """

    async def fetch(self, sql: str, *arguments: Any) -> Sequence[Sequence[Any]]: ...
