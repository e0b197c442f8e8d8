"""Verification as a sink: what a run would send is compared with what is there, and nothing is sent.

So rows are read, rendered, retried, bounded and interrupted exactly as they are when they are sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from asyncup.compare.index import ObjectIndex
from asyncup.errors import AsyncupError, BodyRefused, Disposition, ObjectDiffers, ObjectMissing, RowGone
from asyncup.model import DeadLetter, Likeness, Receipt, Upload
from asyncup.protocols import Objects
from asyncup.report import DIFFERENCES, NO_OBJECT, Difference

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
            AsyncupError: it could not be compared, which says nothing of the row and ends the run when it stays so.
        """
        listed = await self._index.look(upload.key)
        if listed is None:
            raise ObjectMissing(_OP, upload.key, NO_OBJECT)
        try:
            likeness = await self._objects.compare(upload, listed, deep=self._deep)
        except (ObjectMissing, BodyRefused, RowGone):  # this row's, where others can be compared
            raise
        except AsyncupError as error:
            error.exhausted = Disposition.ABORT
            if error.disposition is not Disposition.RETRY:
                error.disposition = Disposition.ABORT
            raise
        if isinstance(likeness, str):
            raise ObjectDiffers(_OP, upload.key, likeness)
        self.by_size += likeness is Likeness.SIZE
        return Receipt(upload.key, listed.size, listed.etag)

    async def close(self) -> None:
        """Nothing is this sink's own."""


class Differences:
    """The rows whose objects are missing or different: all are counted, the first ones kept; and the extra objects.

    A dead-letter store, since to the pipeline they are rows that failed. `state` objects are asyncup's own. The rows of a
    pack have one object, and so one difference.
    """

    location = ""

    def __init__(self, index: ObjectIndex, *, packed: bool = False) -> None:
        self._index = index
        self._packed = packed
        self.missing = self.different = self.extra = self.state = 0
        self.first: list[Difference] = []

    @property
    def letters(self) -> int:
        """How many rows there are."""
        return self.missing + self.different

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterStore.append`."""
        for letter in letters:
            is_missing = letter.error == ObjectMissing.__name__ or (
                # a row that is refused was not compared: is there an object all the same?
                letter.error != ObjectDiffers.__name__
                and (letter.object_key is None or await self._index.look(letter.object_key) is None)
            )
            if is_missing:
                self.missing += 1
            else:
                self.different += 1
            kind = "missing" if is_missing else "different"
            self._keep(Difference(kind, letter.key, letter.object_key, letter.message))

    async def find_extra(self, is_state: Callable[[str], object], stop: Callable[[], bool]) -> bool:
        """Count the objects that no row has asked for; False when it was stopped before the end."""
        async for found in self._index.unseen():
            unseen = [listed for listed in found if not is_state(listed.key)]
            self.extra += len(unseen)
            self.state += len(found) - len(unseen)
            for listed in unseen[: max(0, DIFFERENCES - len(self.first))]:
                self._keep(Difference("extra", None, listed.key, "it is the object of no row"))
            if stop():
                return False
        return True

    def _keep(self, difference: Difference) -> None:
        last = self.first[-1] if self._packed and self.first else None
        if last is not None and difference.key is not None and _is_of_one(last, difference):
            self.first[-1] = replace(last, rows=last.rows + 1, last=difference.key)
        elif len(self.first) < DIFFERENCES:
            self.first.append(difference)


def _is_of_one(one: Difference, other: Difference) -> bool:
    """Whether two differences are of one object."""
    return (one.kind, one.object_key, one.reason) == (other.kind, other.object_key, other.reason)
