"""`--if-exists`: sinks that send an object only where none is yet, or only where another one is.

A write that must not replace anything is the server's to refuse: `If-None-Match: *`
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). Many servers ignore that header without
a word. So where nobody promises to honour it, each object is looked for before it is sent, and the first one that this
run has stored itself is sent a second time: a server that honours the header refuses it, and one that does not replaces
the run's own object with the same bytes. Nobody else's object is ever put at stake to find out.

A refusal may be the answer to our own success: an attempt whose answer was lost has stored the object. So such keys are
remembered, and what is there then is compared with what was sent.
"""

from __future__ import annotations

from collections.abc import Callable

from asyncup.compare.index import ObjectIndex
from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    Disposition,
    ObjectExists,
    ObjectMissing,
    PayloadCorrupted,
    Throttled,
    Unreachable,
)
from asyncup.model import Likeness, Listed, Receipt, Upload
from asyncup.protocols import Objects, Sink

#: What asks a server to create an object and never to replace one.
CONDITION = ("if-none-match", "*")
#: The largest body that is sent twice to learn whether a server honours the condition.
PROBE_BYTES = 1 << 20
#: Keys of unknown outcome that are remembered. Those in flight are never more than half as many; the others are of rows
#: that failed for good, which nobody asks about again.
UNKNOWN_KEYS = 20_000


class CreatingSink:
    """Creates objects and replaces none: the row of one that is there is skipped, or fails with `fails`.

    `honours` says whether the server is known to honour the condition, None when it is to be found out. `resumed` says
    whether this run goes on with an earlier one, which may have stored objects beyond its watermark; with `fails`, an
    object that is the same already is then taken for its work.
    """

    def __init__(
        self,
        sink: Sink,
        objects: Objects,
        *,
        fails: bool,
        honours: bool | None,
        resumed: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._sink = sink
        self._objects = objects
        self._fails = fails
        self._honours = honours
        self._promised = honours is True
        self._resumed = resumed
        self._say = say
        self._probing = False
        self._unknown: dict[str, AsyncupError] = {}

    async def check(self) -> None:
        """See `Sink.check`."""
        await self._sink.check()

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`.

        Raises:
            ObjectExists: an object of this key is there, and not by us.
            AsyncupError: with the disposition that fits.
        """
        # what was found out with a small object need not hold for one that goes in parts
        if not self._honours or (not self._promised and len(upload.body) > PROBE_BYTES):
            found = await self._objects.look(upload.key)
            if found is not None:
                return await self._ours(upload, found)
        if self._honours is False:
            return await self._send(upload)
        asked = upload._replace(headers=(*upload.headers, CONDITION))
        try:
            receipt = await self._send(asked)
        except ObjectExists as refused:
            self._honours = True
            return await self._ours(upload, None, refused)
        except AsyncupError as error:
            if self._honours is None and "NotImplemented" in error.message:
                self._ignores()
                return await self._send(upload)
            raise
        if self._honours is None:
            await self._probe(asked)
        return receipt

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._sink.close()

    async def _send(self, upload: Upload) -> Receipt:
        try:
            receipt = await self._sink.put(upload)
        except (Throttled, Unreachable, ObjectExists):
            raise  # nothing was stored
        except AsyncupError as error:
            if error.disposition is Disposition.RETRY:
                _remember(self._unknown, upload.key, error)
            raise
        if self._unknown:
            self._unknown.pop(upload.key, None)
        return receipt

    async def _ours(self, upload: Upload, found: Listed | None, refused: ObjectExists | None = None) -> Receipt:
        """The receipt for an object that is there already, if an earlier attempt of ours has put it there.

        It was `found`, or `refused`; more than one attempt of that were made by a sink that retries parts of objects.

        Raises:
            ObjectExists: it has not.
            PayloadCorrupted: it has, but with other bytes than were sent.
        """
        key = upload.key
        earlier = self._unknown.get(key)
        tried = refused.attempts > 1 if refused is not None else False
        if earlier is not None or tried or (self._fails and self._resumed()):
            found = found or await self._objects.look(key)
            try:
                same = found is not None and await self._objects.compare(upload, found) is Likeness.BYTES
            except ObjectMissing:
                found = None
            if found is None:
                raise ConnectionLost("put", key, "an object was there, and has gone again")
            self._unknown.pop(key, None)
            if same:
                return Receipt(key, found.size, found.etag)
            if isinstance(earlier, PayloadCorrupted):
                earlier.disposition = Disposition.DEAD_LETTER
                raise earlier
        raise _exists(key, fails=self._fails, sent=refused is not None)

    async def _probe(self, stored: Upload) -> None:
        """Learn from an object that is known to be there, and to be ours, what the condition is worth here."""
        if self._probing or len(stored.body) > PROBE_BYTES:
            return
        self._probing = True
        try:
            await self._sink.put(stored)
        except ObjectExists:
            self._honours = True
        except AsyncupError:
            return  # no answer to the question; the next one will be asked it
        else:
            self._ignores()
        finally:
            self._probing = False

    def _ignores(self) -> None:
        self._honours = False
        self._say(
            "this server ignores If-None-Match, so each object is looked for before it is sent; one that somebody else "
            "stores in between is replaced"
        )


class DifferentSink:
    """Sends what is missing or differs, by size and checksum or ETag; of what cannot be compared, everything.

    `index` holds what was there before the run.
    """

    def __init__(self, sink: Sink, objects: Objects, index: ObjectIndex) -> None:
        self._sink = sink
        self._objects = objects
        self._index = index
        self._unknown: dict[str, AsyncupError] = {}

    async def check(self) -> None:
        """See `Sink.check`."""
        await self._sink.check()

    async def put(self, upload: Upload) -> Receipt:
        """See `Sink.put`.

        Raises:
            ObjectExists: the object is the same already.
            AsyncupError: with the disposition that fits.
        """
        key = upload.key
        if key not in self._unknown:  # what was sent once is sent: it could be the same by now, and our own
            listed = await self._index.look(key)
            if listed is not None and await self._is_same(upload, listed):
                raise _exists(key, fails=False, sent=False)
        try:
            receipt = await self._sink.put(upload)
        except AsyncupError as error:
            if error.disposition is Disposition.RETRY:
                _remember(self._unknown, key, error)
            raise
        if self._unknown:
            self._unknown.pop(key, None)
        return receipt

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._index.close()
        await self._sink.close()

    async def _is_same(self, upload: Upload, listed: Listed) -> bool:
        try:
            return await self._objects.compare(upload, listed) is Likeness.BYTES
        except ObjectMissing:
            return False


def _remember(errors: dict[str, AsyncupError], key: str, error: AsyncupError) -> None:
    """Keep the error of a key's last attempt, and forget the oldest one when there are too many."""
    errors.pop(key, None)
    errors[key] = error
    if len(errors) > UNKNOWN_KEYS:
        del errors[next(iter(errors))]


def _exists(key: str, *, fails: bool, sent: bool) -> ObjectExists:
    error = ObjectExists(
        "put", key, "there is an object of this key already", "remove it, or use --if-exists different or overwrite"
    )
    if not fails:
        error.disposition, error.attempts = Disposition.SKIP, int(sent)
    return error
