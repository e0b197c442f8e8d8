"""Verification as a sink: what a run would send is compared with what is there, and nothing is sent.

So rows are read, rendered, retried, bounded and interrupted exactly as they are when they are sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from asyncup.compare.index import ObjectIndex
from asyncup.errors import ObjectDiffers, ObjectMissing
from asyncup.model import DeadLetter, Likeness, Receipt, Upload
from asyncup.protocols import Objects
from asyncup.report import DIFFERENCES, Difference

_OP = "verify"


class ComparingSink:
    """Acknowledges an upload whose object is the same already. `deep` reads every object.

    `by_size` counts those of which nothing but the size could be compared.
    """

    def __init__(
        self, index: ObjectIndex, objects: Objects, check: Callable[[], Awaitable[None]], *, deep: bool
    ) -> None:
        self._index = index
        self._objects = objects
        self._check = check
        self._deep = deep
        self.by_size = 0

    async def check(self) -> None:
        """See `Sink.check`."""
        await self._check()

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`.

        Raises:
            ObjectMissing, ObjectDiffers: the row's object is not as it should be.
            AsyncupError: it could not be compared.
        """
        listed = await self._index.look(upload.key)
        if listed is None:
            raise ObjectMissing(_OP, upload.key, "there is no such object")
        likeness = await self._objects.compare(upload, listed, deep=self._deep)
        if isinstance(likeness, str):
            raise ObjectDiffers(_OP, upload.key, likeness)
        self.by_size += likeness is Likeness.SIZE
        return Receipt(upload.key, listed.size, listed.etag)

    async def close(self) -> None:
        """Nothing is this sink's own."""


class Differences:
    """The rows whose objects are missing or different: all are counted, the first ones kept; and the extra objects.

    A dead-letter store, since to the pipeline they are rows that failed.
    """

    location = ""

    def __init__(self) -> None:
        self.missing = self.different = self.extra = 0
        self.first: list[Difference] = []

    @property
    def letters(self) -> int:
        """How many rows there are."""
        return self.missing + self.different

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterStore.append`."""
        await asyncio.sleep(0)
        for letter in letters:
            is_missing = letter.error == ObjectMissing.__name__
            if is_missing:
                self.missing += 1
            else:
                self.different += 1
            kind = "missing" if is_missing else "different"
            self._keep(Difference(kind, letter.key, letter.object_key, letter.message))

    async def find_extra(self, index: ObjectIndex, stop: Callable[[], bool]) -> bool:
        """Count the objects that no row has asked for; False when it was stopped before the end."""
        async for unseen in index.unseen():
            self.extra += len(unseen)
            for listed in unseen[: max(0, DIFFERENCES - len(self.first))]:
                self._keep(Difference("extra", None, listed.key, "it is the object of no row"))
            if stop():
                return False
        return True

    def _keep(self, difference: Difference) -> None:
        if len(self.first) < DIFFERENCES:
            self.first.append(difference)
