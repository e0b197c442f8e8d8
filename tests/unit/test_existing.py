"""`--if-exists` without a server: what is there stays, what is missing is put, and our own work is recognised.

The store honours `If-None-Match: *`, ignores it, or knows no such header; it can store an object and lose the answer.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence

import pytest

from asyncup.compare import existing
from asyncup.compare.existing import CONDITION, CreatingSink, DifferentSink
from asyncup.compare.index import ObjectIndex
from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    DestinationRefused,
    Disposition,
    ObjectExists,
    ObjectMissing,
    PayloadCorrupted,
    ServerFault,
    Throttled,
    Unreachable,
)
from asyncup.model import Likeness, Listed, Receipt, Upload
from asyncup.testing import MemorySink

HONOURS, IGNORES, UNKNOWN = "honours", "ignores", "knows no such header"
every_store = pytest.mark.parametrize("manner", [HONOURS, IGNORES, UNKNOWN])


class Store(MemorySink):
    """Objects in memory, listed and compared as S3 would. `looks` counts the questions for one object."""

    def __init__(self, manner: str, **objects: bytes) -> None:
        super().__init__()
        self.objects = {key: Upload(key, body) for key, body in objects.items()}
        self.manner = manner
        self.looks = 0
        self.puts: list[str] = []
        #: What becomes of the next PUTs of a key: an error, and whether the object is stored all the same.
        self.faults: dict[str, list[tuple[AsyncupError, bytes | None]]] = {}
        self.weak = False

    async def put(self, upload: Upload) -> Receipt:
        await asyncio.sleep(0)
        self.puts.append(upload.key)
        conditional = CONDITION in upload.headers
        if conditional and self.manner == UNKNOWN:
            raise DestinationRefused("put", upload.key, "NotImplemented: A header you provided implies functionality")
        if conditional and self.manner == HONOURS and upload.key in self.objects:
            raise ObjectExists("put", upload.key, "412")
        if self.faults.get(upload.key):
            error, stored = self.faults[upload.key].pop(0)
            if stored is not None:
                self.objects[upload.key] = Upload(upload.key, stored)
            raise error
        self.objects[upload.key] = upload
        return Receipt(upload.key, len(upload.body))

    def pages(self, prefix: str) -> AsyncGenerator[Sequence[Listed], None]:
        async def listed() -> AsyncGenerator[Sequence[Listed], None]:
            yield [_listed(one) for key, one in sorted(self.objects.items()) if key.startswith(prefix)]

        return listed()

    async def look(self, key: str) -> Listed | None:
        await asyncio.sleep(0)
        self.looks += 1
        return _listed(self.objects[key]) if key in self.objects else None

    async def compare(self, upload: Upload, listed: Listed, *, deep: bool = False) -> Likeness | str:
        await asyncio.sleep(0)
        if upload.key not in self.objects:
            raise ObjectMissing("compare", upload.key, "gone")
        if len(upload.body) != listed.size:
            return "size"
        if self.weak:
            return Likeness.SIZE
        return Likeness.BYTES if _listed(upload).etag == listed.etag else "etag"

    def bodies(self) -> dict[str, bytes]:
        return {key: upload.body for key, upload in self.objects.items()}


def _listed(upload: Upload) -> Listed:
    return Listed(upload.key, len(upload.body), hashlib.md5(upload.body).hexdigest())


def creating(store: Store, *, fails: bool = False, honours: bool | None = None, resumed: bool = False) -> CreatingSink:
    return CreatingSink(store, store, fails=fails, honours=honours, resumed=lambda: resumed)


async def disposition(sink: CreatingSink | DifferentSink, key: str, body: bytes) -> Disposition | None:
    """What becomes of an upload: None when it is put."""
    try:
        await sink.put(Upload(key, body))
    except ObjectExists as error:
        return error.disposition
    return None


LOST = ConnectionLost("put", "new", "reset")


# --- skip and fail ----------------------------------------------------------------------------------------------


@every_store
@pytest.mark.parametrize(("fails", "wanted"), [(False, Disposition.SKIP), (True, Disposition.DEAD_LETTER)])
async def test_what_is_there_is_never_sent_and_what_is_not_is_put(
    manner: str, fails: bool, wanted: Disposition
) -> None:
    store = Store(manner, old1=b"theirs", old2=b"theirs")
    sink = creating(store, fails=fails)
    outcomes = [await disposition(sink, key, b"ours") for key in ("old1", "new1", "old2", "new2", "new1")]
    assert outcomes == [wanted, None, wanted, None, wanted]
    assert store.bodies() == {"old1": b"theirs", "old2": b"theirs", "new1": b"ours", "new2": b"ours"}


async def test_once_a_server_has_refused_to_replace_an_object_it_is_not_asked_before_each_put() -> None:
    store = Store(HONOURS)
    sink = creating(store)
    for number in range(5):
        await sink.put(Upload(f"new {number}", b"ours"))
    assert store.looks == 1
    assert store.puts == ["new 0", "new 0", "new 1", "new 2", "new 3", "new 4"]


async def test_where_the_provider_promises_it_nothing_is_asked_and_nothing_sent_twice() -> None:
    store = Store(HONOURS, old=b"theirs")
    sink = creating(store, honours=True)
    assert [await disposition(sink, key, b"ours") for key in ("new", "old")] == [None, Disposition.SKIP]
    assert (store.looks, store.puts) == (0, ["new", "old"])


async def test_a_server_that_ignores_the_condition_is_asked_before_each_put_and_said_so_once() -> None:
    store, said = Store(IGNORES), []
    sink = CreatingSink(store, store, fails=False, honours=None, say=said.append)
    for number in range(4):
        await sink.put(Upload(f"new {number}", b"ours"))
    assert store.looks == 4
    assert store.puts == ["new 0", "new 0", "new 1", "new 2", "new 3"]
    assert len(said) == 1
    assert "If-None-Match" in said[0]


async def test_many_at_once_find_out_with_one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(IGNORES, **{f"old{number}": b"theirs" for number in range(20)})
    sink = creating(store)
    keys = [f"{age}{number}" for number in range(20) for age in ("new", "old")]
    outcomes = await asyncio.gather(*[disposition(sink, key, b"ours") for key in keys])
    assert outcomes == [None, Disposition.SKIP] * 20
    assert {body for key, body in store.bodies().items() if key.startswith("old")} == {b"theirs"}
    assert len(store.puts) == 21


async def test_a_large_object_is_not_sent_twice_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "PROBE_BYTES", 10)
    store = Store(HONOURS)
    sink = creating(store)
    for key, size in (("large", 11), ("small", 10), ("last", 1)):
        await sink.put(Upload(key, bytes(size)))
    assert store.puts == ["large", "small", "small", "last"]


async def test_before_a_large_object_is_sent_it_is_looked_for_unless_the_provider_promises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(existing, "PROBE_BYTES", 10)
    for honours, looks in ((None, 2), (True, 0)):
        store = Store(HONOURS)
        sink = creating(store, honours=honours)
        await sink.put(Upload("small", b"ours"))
        await sink.put(Upload("large", bytes(11)))
        assert store.looks == looks


async def test_a_probe_that_fails_leaves_the_question_open_and_the_row_put() -> None:
    store = Store(HONOURS)
    sink = creating(store)
    store.manner = IGNORES  # so that the second PUT of the first object meets the fault
    store.faults["first"] = []
    put = store.put

    async def failing(upload: Upload) -> Receipt:
        receipt = await put(upload)
        store.faults["first"] = [(ServerFault("put", "first", "503"), None)]
        return receipt

    store.put = failing  # type: ignore[method-assign]
    assert (await sink.put(Upload("first", b"ours"))).size == 4
    store.manner = HONOURS
    await sink.put(Upload("second", b"ours"))
    await sink.put(Upload("third", b"ours"))
    assert store.puts == ["first", "first", "second", "second", "third"]


@every_store
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("error", [LOST, ServerFault("put", "new", "500")])
async def test_an_object_whose_answer_was_lost_is_recognised_as_our_own(
    manner: str, fails: bool, error: AsyncupError
) -> None:
    store = Store(manner)
    sink = creating(store, fails=fails)
    await sink.put(Upload("first", b"so that the manner is known"))
    store.faults["new"] = [(error, b"ours")]
    with pytest.raises(type(error)):
        await sink.put(Upload("new", b"ours"))
    receipt = await sink.put(Upload("new", b"ours"))
    assert (receipt.key, receipt.size) == ("new", 4)
    assert await disposition(sink, "new", b"ours") is not None  # that is settled: from now on it is there


@pytest.mark.parametrize(("body", "wanted"), [(b"ours", None), (b"else", Disposition.SKIP)])
async def test_a_refusal_after_attempts_below_may_be_our_own_success(body: bytes, wanted: Disposition | None) -> None:
    store = Store(HONOURS)
    sink = creating(store, honours=True)
    refused = ObjectExists("put multipart", "new", "412")
    refused.attempts = 2
    store.faults["new"] = [(refused, body)]
    assert await disposition(sink, "new", b"ours") is wanted


@every_store
async def test_an_object_that_somebody_else_put_meanwhile_is_not_taken_for_ours(manner: str) -> None:
    store = Store(manner)
    sink = creating(store)
    await sink.put(Upload("first", b"so that the manner is known"))
    store.faults["new"] = [(LOST, None)]
    with pytest.raises(ConnectionLost):
        await sink.put(Upload("new", b"ours"))
    store.objects["new"] = Upload("new", b"else")
    assert await disposition(sink, "new", b"ours") is Disposition.SKIP
    assert store.bodies()["new"] == b"else"


async def test_what_can_only_be_compared_by_size_is_not_taken_for_ours() -> None:
    store = Store(HONOURS)
    store.weak = True
    sink = creating(store, fails=True, honours=True)
    store.faults["new"] = [(LOST, b"ours")]
    with pytest.raises(ConnectionLost):
        await sink.put(Upload("new", b"ours"))
    assert await disposition(sink, "new", b"ours") is Disposition.DEAD_LETTER


@pytest.mark.parametrize("error", [Throttled("put", "new", "503"), Unreachable("put", "new", "refused")])
async def test_an_attempt_that_stored_nothing_is_not_remembered(error: AsyncupError) -> None:
    store = Store(HONOURS)
    sink = creating(store, honours=True)
    store.faults["new"] = [(error, None)]
    with pytest.raises(type(error)):
        await sink.put(Upload("new", b"ours"))
    store.objects["new"] = Upload("new", b"ours")
    assert await disposition(sink, "new", b"ours") is Disposition.SKIP


async def test_an_object_of_ours_that_arrived_broken_is_not_passed_off_as_one_that_was_there() -> None:
    store = Store(HONOURS)
    sink = creating(store, honours=True)
    store.faults["new"] = [(PayloadCorrupted("put", "new", "another ETag"), b"OURS")]
    with pytest.raises(PayloadCorrupted):
        await sink.put(Upload("new", b"ours"))
    with pytest.raises(PayloadCorrupted) as caught:
        await sink.put(Upload("new", b"ours"))
    assert caught.value.disposition is Disposition.DEAD_LETTER


async def test_an_object_that_has_gone_again_is_tried_again() -> None:
    store = Store(HONOURS)
    sink = creating(store, honours=True)
    store.faults["new"] = [(LOST, None), (ObjectExists("put", "new", "412"), None)]
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await sink.put(Upload("new", b"ours"))
    assert await disposition(sink, "new", b"ours") is None


@pytest.mark.parametrize(
    ("fails", "resumed", "body", "wanted"),
    [
        (True, True, b"ours", None),
        (True, True, b"else", Disposition.DEAD_LETTER),
        (True, False, b"ours", Disposition.DEAD_LETTER),
        (False, True, b"ours", Disposition.SKIP),
    ],
)
async def test_a_resumed_run_does_not_fail_over_what_the_earlier_one_stored(
    fails: bool, resumed: bool, body: bytes, wanted: Disposition | None
) -> None:
    store = Store(HONOURS, old=body)
    assert await disposition(creating(store, fails=fails, honours=True, resumed=resumed), "old", b"ours") is wanted


async def test_keys_of_unknown_outcome_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "UNKNOWN_KEYS", 3)
    store = Store(HONOURS)
    sink = creating(store, honours=True)
    for number in range(5):
        store.faults[f"new {number}"] = [(LOST, b"ours")]
        with pytest.raises(ConnectionLost):
            await sink.put(Upload(f"new {number}", b"ours"))
    outcomes = [await disposition(sink, f"new {number}", b"ours") for number in range(5)]
    assert outcomes == [Disposition.SKIP] * 2 + [None] * 3


# --- different ----------------------------------------------------------------------------------------------------


async def different(store: Store) -> DifferentSink:
    index = ObjectIndex()
    await index.fill(store.pages(""))
    return DifferentSink(store, store, index)


async def test_only_what_is_missing_or_differs_is_sent() -> None:
    store = Store(HONOURS, same=b"same", size=b"another size", bytes=b"BYTES")
    sink = await different(store)
    rows = {"same": b"same", "size": b"size", "bytes": b"bytes", "missing": b"missing"}
    outcomes = [await disposition(sink, key, body) for key, body in rows.items()]
    assert outcomes == [Disposition.SKIP, None, None, None]
    assert store.puts == ["size", "bytes", "missing"]
    assert store.bodies() == rows
    await sink.close()


async def test_what_was_sent_and_not_acknowledged_is_sent_again_and_not_taken_for_what_was_there() -> None:
    store = Store(HONOURS, new=b"old")
    sink = await different(store)
    store.faults["new"] = [(LOST, b"ours")]
    with pytest.raises(ConnectionLost):
        await sink.put(Upload("new", b"ours"))
    assert await disposition(sink, "new", b"ours") is None
    assert store.puts == ["new", "new"]
    await sink.close()


async def test_what_can_only_be_compared_by_size_is_sent() -> None:
    store = Store(HONOURS, old=b"1234")
    store.weak = True
    sink = await different(store)
    assert await disposition(sink, "old", b"5678") is None
    assert store.bodies() == {"old": b"5678"}
    await sink.close()


async def test_what_has_gone_since_it_was_listed_is_sent() -> None:
    store = Store(HONOURS, old=b"same")
    sink = await different(store)
    del store.objects["old"]
    assert await disposition(sink, "old", b"same") is None
    assert store.bodies() == {"old": b"same"}
    await sink.close()
