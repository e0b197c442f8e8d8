"""A job's checkpoint and its lock as one JSON object in S3, written with conditions.

The object holds the lease of the run that has the job, and the checkpoint. Every write names the ETag of the one before
(`If-Match`, the first one `If-None-Match: *`), so that no run ever overwrites what it has not seen: who is refused has
lost the job. A write whose answer was lost is told from another run's by the id of its writer and its number.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html

Whether a lease has run out is judged by the server's clock alone: the object's age, its `Last-Modified` against the
`Date` of the answer. A server that does not hold to conditions is found out when the job is taken, by two writes that
have to fail. It cannot keep two runs apart that begin in the same instant; what can be done without it is to look before each
write.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asyncup.checkpoints.codec import from_json, to_json
from asyncup.checkpoints.files import file_name
from asyncup.checkpoints.lease import MARGIN_SECONDS, RELEASE_SECONDS, Tenure, refused
from asyncup.checkpoints.leased import LeasedState
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.places import Documents, Entry
from asyncup.errors import StateLost, StateRefused
from asyncup.flow.retry import Retrier
from asyncup.model import Checkpoint, Document

#: An ETag that no object has.
_NO_ETAG = '"00000000000000000000000000000000"'
#: How often the object may change while it is taken; then somebody else is faster.
_TRIES = 5


class S3Checkpoints:
    """One job's checkpoint and lease. `place` is `s3://bucket`, `prefix` what its keys begin with, a slash included."""

    def __init__(self, documents: Documents, place: str, prefix: str, name: str, owner: Owner, tenure: Tenure) -> None:
        self._documents = documents
        self._key = prefix + file_name(name, ".json")
        self._name = name
        self._owner = owner
        self.tenure = tenure
        self._etag: str | None = None
        self._serial = 0
        self._checkpoint: Any = None
        self._written = b""
        self.location = f"{place}/{self._key}"
        self.is_guarded = True

    async def take(self, retrier: Retrier, *, restart: bool = False) -> None:
        """Take the job, or refuse to; `restart` forgets its checkpoint. Sets `is_guarded`.

        Raises:
            StateRefused: another run holds it, or what is there is none of ours.
        """
        for _ in range(_TRIES):
            found = await retrier.run(self._documents.get, self._key)
            state = await self._check_free(found, retrier, restart=restart)
            self._etag = None if found is None else found.etag
            self._checkpoint = None if state is None or restart else state.checkpoint
            content = self._next(self._owner)
            if await retrier.run(lambda given: self.tenure.timed(self._write(given)), content):
                break
        else:
            reason = "other runs of this job take and leave it all the time"
            raise StateRefused("lock job", self._name, reason, "give this run a --name of its own")
        await self._probe(retrier)

    async def load(self) -> Checkpoint | None:
        """See `CheckpointStore.load`. It came with the lease.

        Raises:
            StateRefused: it is none that this version can read.
        """
        return None if self._checkpoint is None else from_json(self._checkpoint, self.location)

    async def save(self, checkpoint: Checkpoint) -> None:
        """See `CheckpointStore.save`."""
        self._checkpoint = to_json(checkpoint)
        await self._replace("save checkpoint")

    async def forget(self) -> None:
        """Remove the checkpoint, durably, and keep the lease."""
        self._checkpoint = None
        await self._replace("forget checkpoint")

    async def keep(self) -> None:
        """See `Lease.keep`."""
        if self.tenure.is_due:
            await self._replace("renew lease")

    async def confirm(self) -> None:
        """See that the lease will outlast a request that is about to be made; renew it where it would not. One attempt.

        Raises:
            StateLost: another run has the job.
            AsyncupError: no clear answer now.
        """
        if self.tenure.left < MARGIN_SECONDS:
            await self.tenure.timed(self._written_once("renew lease", self._next(self._owner)))

    async def release(self) -> None:
        """Give the lease back, and leave nothing behind where nothing was saved.

        Raises:
            StateLost: it could not be, so it has to run out.
        """
        if self._checkpoint is None:
            await self.tenure.insist(self._remove, "release job", self._name, patience=RELEASE_SECONDS)
        else:
            await self._replace("release job", releases=True, patience=RELEASE_SECONDS)

    async def _check_free(self, found: Document | None, retrier: Retrier, *, restart: bool) -> LeasedState | None:
        """The state, if nobody holds it.

        Raises:
            StateRefused: somebody does.
        """
        if found is None:
            return None
        try:
            state = LeasedState.decoded(found, self.location)
        except StateRefused:
            if restart:
                return None
            raise
        holder = state.holder(found)
        if holder is None or state.writer == self._owner.id or await asyncio.to_thread(holder.owner.is_dead):
            return state
        if holder.until is None:  # a server without a clock: a lease that is not renewed while we watch has run out
            await asyncio.sleep(state.seconds)
            again = await retrier.run(self._documents.get, self._key)
            if again is None or again.etag == found.etag:
                return state
        raise refused(self._name, holder, state.seconds)

    async def _probe(self, retrier: Retrier) -> None:
        """See whether the server holds to conditions, by two writes that must fail, of what is there already.

        What a server does that ignores them is to write the same again.
        """
        conditions: tuple[dict[str, Any], ...] = ({"new": True}, {"etag": _NO_ETAG})
        for condition in conditions:
            etag = await retrier.run(lambda given: self._documents.put(self._key, self._written, **given), condition)
            if etag is not None:
                self._etag, self.is_guarded, self.tenure.is_fenced = etag, False, False

    def _next(self, owner: Owner | None) -> bytes:
        self._serial += 1
        return LeasedState(self._owner.id, self._serial, owner, self.tenure.seconds, self._checkpoint).encoded()

    async def _replace(self, op: str, *, releases: bool = False, patience: float = 1e9) -> None:
        content = self._next(None if releases else self._owner)
        await self.tenure.insist(lambda: self._written_once(op, content), op, self.location, patience=patience)

    async def _written_once(self, op: str, content: bytes) -> None:
        if not await self._write(content):
            raise await self._taken(op)

    async def _remove(self) -> None:
        """Remove the object while it is surely ours: there are servers that ignore the condition of a delete."""
        if self.tenure.left > 0:
            await self._documents.delete(self._key, etag=self._etag)

    async def _write(self, content: bytes) -> bool:
        """Write the object in place of the version that we know; False when it is another one that is not ours."""
        if not self.is_guarded:
            found = await self._documents.get(self._key)
            if found is None or self._is_ours(found) is None:
                return False
        for _ in range(_TRIES):
            etag = await self._documents.put(self._key, content, etag=self._etag, new=self._etag is None)
            if etag is None:
                found = await self._documents.get(self._key)
                ours = None if found is None else self._is_ours(found)
                if found is None or ours is None:
                    return False
                self._etag = found.etag
                if ours.serial != self._serial:
                    continue  # an earlier write of ours whose answer was lost: on top of that one
            else:
                self._etag = etag
            self._written = content
            return True
        return False

    def _is_ours(self, found: Document) -> LeasedState | None:
        try:
            state = LeasedState.decoded(found, self.location)
        except StateRefused:
            return None
        return state if state.writer == self._owner.id else None

    async def _taken(self, op: str) -> StateLost:
        """The error for an object that somebody else has written."""
        found = await self._documents.get(self._key)
        reason = "the object has been removed"
        if found is not None:
            reason = "another program has written it"
            try:
                holder = LeasedState.decoded(found, self.location).holder(found)
                reason = f"another run has taken this job over: {holder}" if holder else "another run has had this job"
            except StateRefused:
                pass
        return StateLost(op, self.location, reason, "let one run of a job end before the next one begins")


async def entries(documents: Documents, place: str, prefix: str, retrier: Retrier) -> list[Entry]:
    """Every job whose state lies under a prefix, by name.

    Raises:
        AsyncupError: it cannot be read.
    """
    found = []
    for key in sorted(await retrier.run(lambda _: _keys(documents, prefix), None)):
        entry = await _entry(documents, place, key, key.removeprefix(prefix).removesuffix(".json"), retrier)
        if entry.checkpoint is not None or entry.holder is not None or entry.error is not None:
            found.append(entry)
    return found


async def look(documents: Documents, place: str, prefix: str, name: str, retrier: Retrier) -> Entry:
    """What is there of one job, whether or not anything was saved.

    Raises:
        AsyncupError: it cannot be read.
    """
    return await _entry(documents, place, prefix + file_name(name, ".json"), name, retrier)


async def _entry(documents: Documents, place: str, key: str, name: str, retrier: Retrier) -> Entry:
    location = f"{place}/{key}"
    letters = f"{place}/{key.removesuffix('.json')}.dead-letters/"
    document = await retrier.run(documents.get, key)
    if document is None:
        return Entry(name, location, letters)
    try:
        state = LeasedState.decoded(document, location)
        checkpoint = None if state.checkpoint is None else from_json(state.checkpoint, location)
    except StateRefused as exc:
        return Entry(name, location, letters, error=exc)
    holder = state.holder(document)
    if holder is not None and await asyncio.to_thread(holder.owner.is_dead):
        holder = None
    return Entry(name if checkpoint is None else checkpoint.name, location, letters, checkpoint, holder)


async def _keys(documents: Documents, prefix: str) -> list[str]:
    return [key async for key in documents.keys(prefix) if key.endswith(".json")]
