"""Leases when servers and clocks misbehave: a bucket in memory whose answers get lost, and whose clock is the test's."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from asyncup.app import Job
from asyncup.checkpoints.lease import Tenure
from asyncup.checkpoints.letters import LetterFile
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.s3 import S3Checkpoints, entries
from asyncup.checkpoints.s3letters import S3DeadLetters, read
from asyncup.compare.index import ObjectIndex
from asyncup.config import Config
from asyncup.destinations import parse_destination
from asyncup.errors import AsyncupError, ConnectionLost, ServerFault, StateLost, StateRefused, Unreachable
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Interrupted, Retrier, RetryPolicy
from asyncup.model import Checkpoint, Counts, DeadLetter, Document, Listed
from asyncup.state import keeping
from asyncup.testing import GatedSink, MemorySource
from tests.unit.runs import FakeRun, Watcher, bodies, until

GONE = Unreachable("write state", "job", "gone")
LETTER = DeadLetter(("1",), "o/1", "RowRefused", "put", "no", 1, "2026-01-01T00:00:00.000Z")
CHECKPOINT = Checkpoint("job", {}, ("1",), Counts(1), finished=False, started="", saved="")
LOST = ConnectionLost("write state", "job", "the answer was lost")


class Bucket:
    """Documents in memory. `faults` are asked before and after each write; `ignores` are conditions it does not know."""

    def __init__(self) -> None:
        self.found: dict[str, Document] = {}
        self.now: float | None = 1000.0
        self.ignores: set[str] = set()
        self.before: list[AsyncupError | None] = []
        self.after: list[AsyncupError | None] = []
        self.reads = 0
        self.writes = 0
        self.hangs = False

    async def get(self, key: str) -> Document | None:
        await asyncio.sleep(0)
        found = self.found.get(key)
        self.reads += 1
        return None if found is None else found._replace(now=self.now)

    async def put(self, key: str, content: bytes, *, etag: str | None = None, new: bool = False) -> str | None:
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        _fail(self.before)
        there = self.found.get(key)
        if new and there is not None and "new" not in self.ignores:
            return None
        if etag is not None and (there is None or there.etag != etag) and "etag" not in self.ignores:
            return None
        self.writes += 1
        self.found[key] = Document(content, f'"{self.writes}"', self.now)
        _fail(self.after)
        return f'"{self.writes}"'

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        await asyncio.sleep(0)
        if etag in (None, self.found[key].etag):
            del self.found[key]

    async def keys(self, prefix: str) -> AsyncGenerator[str, None]:
        for key in list(self.found):
            yield key


def _fail(faults: list[AsyncupError | None]) -> None:
    if faults and (error := faults.pop(0)) is not None:
        raise error


def quick() -> Retrier:
    async def sleep(_: float) -> bool:
        await asyncio.sleep(0)
        return True

    return Retrier(RetryPolicy(max_attempts=5, base=0.0), sleep, lambda *_: None)


class Clock:
    """A clock that waits for nobody, until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Down(list[AsyncupError | None]):
    """Faults of a server that is gone for good, or until a time: each attempt takes seven seconds."""

    def __init__(self, error: AsyncupError, clock: Clock, until: float = 1e9) -> None:
        super().__init__([None])
        self.error, self.clock, self.until = error, clock, until
        self.asked = 0

    def pop(self, _: Any = 0) -> AsyncupError | None:
        if self.clock.now >= self.until:
            return None
        self.asked += 1
        self.clock.now += 7.0
        return type(self.error)(self.error.op, self.error.subject, self.error.message)


def run(
    bucket: Bucket, number: int, *, interrupt: Interrupt | None = None, drain: float = 30.0, **given: Any
) -> S3Checkpoints:
    """The store of one of several runs of a job, each on a machine of its own."""
    owner = Owner(f"run-{number}", f"host-{number}", number, "", "", "", "2026-01-01T00:00:00.000Z")
    tenure = Tenure(interrupt or Interrupt(), drain, dice=lambda: 0.0, **given)
    return S3Checkpoints(bucket, "s3://bucket", "", "job", owner, tenure)


async def taken(bucket: Bucket, number: int, **given: Any) -> S3Checkpoints:
    store = run(bucket, number, **given)
    await store.take(quick())
    return store


async def test_the_age_of_a_lease_is_what_the_servers_clock_says_whatever_ours_does() -> None:
    bucket = Bucket()
    await taken(bucket, 1)
    for bucket.now in (1000.0, 1059.0, 1060.9):
        with pytest.raises(StateRefused, match=r"process 1 on host-1, .* its lease until 1970-01-01T00:17:40Z"):
            await run(bucket, 2).take(quick())
    bucket.now = 1061.0
    assert (await entries(bucket, "", "", quick())) == [], "nobody has it, and nothing was saved"
    await taken(bucket, 2)


async def test_a_renewed_lease_does_not_run_out() -> None:
    bucket, clock = Bucket(), Clock()
    first = await taken(bucket, 1, clock=clock)
    for _ in range(10):
        clock.now += 15
        bucket.now = 1000.0 + clock.now
        await first.keep()
        with pytest.raises(StateRefused):
            await run(bucket, 2).take(quick())


async def test_without_a_clock_of_the_server_a_lease_has_run_out_when_it_is_not_renewed_while_we_watch() -> None:
    bucket = Bucket()
    bucket.now = None
    await taken(bucket, 1, seconds=0.01)
    second = await taken(bucket, 2, seconds=0.2)
    asked = bucket.reads
    third = asyncio.create_task(run(bucket, 3).take(quick()))
    await until(lambda: bucket.reads > asked)
    await second.save(CHECKPOINT)
    with pytest.raises(StateRefused, match="process 2"):
        await third


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_write_whose_answer_was_lost_is_known_as_our_own(lost: int) -> None:
    bucket = Bucket()
    bucket.after = [LOST] * lost
    store = await taken(bucket, 1)
    assert store.is_guarded
    bucket.after = [LOST]
    await store.save(CHECKPOINT)
    writes = bucket.writes
    await store.save(dataclasses.replace(CHECKPOINT, finished=True))
    assert bucket.writes == writes + 1
    await store.release()
    again = await taken(bucket, 2)
    assert (await again.load()) == dataclasses.replace(CHECKPOINT, finished=True)


async def test_a_write_that_was_given_up_and_came_late_is_written_over_by_the_next() -> None:
    bucket = Bucket()
    store = await taken(bucket, 1)
    etag = bucket.found["job.json"].etag
    late = store._next(store._owner)
    assert await bucket.put("job.json", late, etag=etag)
    await store.save(CHECKPOINT)
    await store.release()
    assert await (await taken(bucket, 2)).load() == CHECKPOINT


@pytest.mark.parametrize("ignores", [{"new"}, {"etag"}, {"new", "etag"}])
async def test_a_server_that_ignores_conditions_is_found_out_and_looked_at_before_each_write(ignores: set[str]) -> None:
    bucket = Bucket()
    bucket.ignores = ignores
    first = await taken(bucket, 1)
    assert not first.is_guarded
    await first.save(CHECKPOINT)
    with pytest.raises(StateRefused):
        await run(bucket, 2).take(quick())
    bucket.now = 2000.0
    second = await taken(bucket, 2)
    with pytest.raises(StateLost, match="taken this job over: process 2"):
        await first.save(CHECKPOINT)
    assert await second.load() == CHECKPOINT
    await second.release()
    assert await (await taken(bucket, 3)).load() == CHECKPOINT


async def test_the_probe_changes_nothing_on_a_server_that_holds_to_conditions() -> None:
    bucket = Bucket()
    assert (await taken(bucket, 1)).is_guarded
    assert bucket.writes == 1


async def test_the_object_removed_or_replaced_by_hand_ends_the_run() -> None:
    for content, reason in ((None, "removed"), (b"{}", "another program"), (b"\xff", "another program")):
        bucket = Bucket()
        store = await taken(bucket, 1)
        if content is None:
            bucket.found.clear()
        else:
            bucket.found["job.json"] = Document(content, '"x"', 1000.0)
        with pytest.raises(StateLost, match=reason):
            await store.save(CHECKPOINT)


@pytest.mark.parametrize("error", [ServerFault("write state", "job", "no"), Unreachable("write state", "job", "gone")])
async def test_a_server_that_fails_is_asked_again_for_minutes_and_then_the_run_ends(error: AsyncupError) -> None:
    bucket, clock = Bucket(), Clock()
    store = await taken(bucket, 1, clock=clock)
    down = bucket.before = Down(error, clock)
    clock.now = 20.0
    with pytest.raises(StateLost, match=f"cannot be written: {error.message}"):
        await store.keep()
    assert 25 <= down.asked <= 28, "180 seconds"
    bucket.before = []
    with pytest.raises(StateLost):
        await store.save(CHECKPOINT)  # what is lost stays lost, though the server is back


async def test_a_server_that_is_gone_for_longer_than_the_lease_ends_no_run_when_nobody_took_the_job() -> None:
    bucket, clock = Bucket(), Clock()
    told: list[str] = []

    def tell(error: AsyncupError, *_: Any) -> None:
        told.append(error.message)
        bucket.now = 1000.0 + clock.now

    store = await taken(bucket, 1, clock=clock, on_retry=tell)
    letters = S3DeadLetters(bucket, "s3://bucket", "job.dead-letters/", {"name": "job"}, store)
    for number, write in enumerate((lambda: letters.append([LETTER]), lambda: store.save(CHECKPOINT)), 1):
        begun = clock.now
        bucket.before = Down(GONE, clock, until=begun + 100.0)
        await write()
        assert clock.now - begun >= 100.0
        with pytest.raises(StateRefused, match="process 1"):
            await run(bucket, 2).take(quick())
        assert len(told) == number * 15
    assert set(told) == {"gone"}, "the user is told of each wait"
    await store.release()
    assert await (await taken(bucket, 2)).load() == CHECKPOINT


async def test_a_run_that_lost_the_job_while_the_server_was_gone_leaves_all_that_its_successor_has() -> None:
    bucket, clock = Bucket(), Clock()
    first = await taken(bucket, 1, clock=clock)
    late = S3DeadLetters(bucket, "s3://bucket", "job.dead-letters/", {"name": "job"}, first)
    clock.now = 100.0
    bucket.now = 1100.0
    second = await taken(bucket, 2)
    await second.save(CHECKPOINT)
    found = dict(bucket.found)
    with pytest.raises(StateLost, match="taken this job over: process 2"):
        await late.append([LETTER])
    with pytest.raises(StateLost, match="taken this job over: process 2"):
        await late.open(quick(), keep=0)
    with pytest.raises(StateLost):
        await first.save(CHECKPOINT)
    assert bucket.found == found


async def test_letters_that_take_long_to_be_removed_keep_the_lease() -> None:
    bucket, clock = Bucket(), Clock()
    store = await taken(bucket, 1, clock=clock)
    letters = S3DeadLetters(bucket, "s3://bucket", "job.dead-letters/", {"name": "job"}, store)
    for _ in range(10):
        await letters.append([LETTER])
    removed = bucket.delete

    async def slowly(key: str, *, etag: str | None = None) -> None:
        await removed(key, etag=etag)
        clock.now += 15.0
        bucket.now = 1000.0 + clock.now
        with pytest.raises(StateRefused, match="process 1"):
            await run(bucket, 2).take(quick())

    bucket.delete = slowly  # type: ignore[method-assign]
    await letters.open(quick(), keep=0)
    assert set(bucket.found) == {"job.json"}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ('{"kind": "asyncup dead letters", "version": 2, "job": {"name": "job", "key": ["id"]}}', "a newer version"),
        ('{"kind": "asyncup dead letters", "version": 1, "job": {"name": "job"}}', "does not hold a job"),
        ("id,name", "not a dead-letter file"),
    ],
)
async def test_letters_in_a_bucket_are_refused_for_the_same_reasons_as_those_in_a_file(
    tmp_path: Path, header: str, reason: str
) -> None:
    bucket, file = Bucket(), tmp_path / "file"
    await bucket.put("letters/000001.jsonl", header.encode() + b"\n")
    await asyncio.to_thread(file.write_text, header + "\n")
    with pytest.raises(StateRefused, match=reason) as there:
        await read(bucket, "letters/", "letters", quick())
    with pytest.raises(StateRefused) as here:
        await asyncio.to_thread(LetterFile.open, file)
    assert (there.value.message, there.value.hint) == (here.value.message, here.value.hint)


async def test_a_server_that_cannot_refuse_is_given_no_longer_than_the_lease_lasts() -> None:
    bucket, clock = Bucket(), Clock()
    bucket.ignores = {"new", "etag"}
    store = await taken(bucket, 1, clock=clock)
    down = bucket.before = Down(GONE, clock)
    clock.now = 20.0
    with pytest.raises(StateLost, match="cannot be written: gone"):
        await store.keep()
    assert 5 <= down.asked <= 8, "40 seconds were left"


async def test_a_request_without_an_answer_is_given_up_and_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.checkpoints.lease._ATTEMPT_SECONDS", 0.01)
    bucket = Bucket()

    def answers(error: AsyncupError, *_: Any) -> None:
        assert "no answer within" in error.message
        bucket.hangs = False

    store = await taken(bucket, 1, on_retry=answers)
    bucket.hangs = True
    await store.save(CHECKPOINT)
    assert not bucket.hangs


async def test_a_lease_that_has_run_out_is_not_removed_where_a_delete_knows_no_condition() -> None:
    bucket, clock = Bucket(), Clock()
    first = await taken(bucket, 1, clock=clock)
    removed = bucket.delete
    bucket.delete = lambda key, **_: removed(key)  # type: ignore[method-assign]
    clock.now = 61.0
    bucket.now = 1061.0
    second = await taken(bucket, 2)
    await first.release()
    await second.save(CHECKPOINT)


async def test_a_server_that_fails_while_a_lease_is_watched_is_asked_again() -> None:
    bucket = Bucket()
    bucket.now = None
    await taken(bucket, 1, seconds=0.01)
    found, reads = bucket.get, 0

    async def failing(key: str) -> Document | None:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise ConnectionLost("read state", "job", "the answer was lost")
        return await found(key)

    bucket.get = failing  # type: ignore[method-assign]
    await taken(bucket, 2)
    assert reads > 2


async def test_after_the_machine_slept_a_lease_that_nobody_took_goes_on() -> None:
    bucket, clock = Bucket(), Clock()
    store = await taken(bucket, 1, clock=clock)
    clock.now = 100_000.0
    bucket.now = 101_000.0
    await store.keep()
    with pytest.raises(StateRefused):
        await run(bucket, 2).take(quick())


@pytest.mark.parametrize(("signals", "drain", "most"), [(2, 30.0, 2.0), (1, -4.8, 1.0)])
async def test_a_server_that_hangs_does_not_hold_up_an_interrupted_run(signals: int, drain: float, most: float) -> None:
    bucket, interrupt = Bucket(), Interrupt()
    store = run(bucket, 1, interrupt=interrupt, drain=drain)
    await store.take(quick())
    bucket.hangs = True
    loop = asyncio.get_running_loop()
    begun = loop.time()
    saving = asyncio.create_task(store.save(CHECKPOINT))
    await asyncio.sleep(0)
    for _ in range(signals):
        interrupt.request(2)
    with pytest.raises(StateLost, match="no answer in time"):
        await saving
    with pytest.raises(StateLost):
        await store.release()
    assert loop.time() - begun < most


def test_a_process_is_told_from_another_one_with_its_number() -> None:
    here = Owner.here()
    assert not here.is_dead()
    if here.begun:
        assert dataclasses.replace(here, begun="1").is_dead(), "a process of that number began at another time"
        assert dataclasses.replace(here, pid=2**22 + 1).is_dead()
    assert Owner.of(here.to_json()) == here


@pytest.mark.parametrize("change", [lambda value: value.pop("pid"), lambda value: value.update(pid="1"), dict.clear])
def test_what_is_no_owner_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    value = Owner.here().to_json()
    change(value)
    with pytest.raises((ValueError, KeyError)):
        Owner.of(value)


class Failing:
    """A lease that is lost when it is kept for the third time."""

    kept = 0

    async def keep(self) -> None:
        self.kept += 1
        if self.kept == 3:
            raise StateLost("renew lease", "job", "another run has taken this job over")


async def test_a_run_that_settles_nothing_keeps_its_lease_all_the_same_and_ends_when_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asyncup.pipeline.PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr("asyncup.pipeline.SAVE_SECONDS", 0.0)
    sink, lease = GatedSink(), Failing()
    run = FakeRun(MemorySource(bodies(10)), sink)
    run.pipeline._parts = dataclasses.replace(run.pipeline._parts, lease=lease)
    with pytest.raises(StateLost, match="taken this job over"):
        await run.run()
    assert (lease.kept, sink.objects, run.checkpoints.saved) == (3, {}, [])


class Hanging:
    """A destination whose listing has no end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = False

    async def pages(self, _: str) -> AsyncGenerator[list[Listed], None]:
        try:
            self.begun.set()
            yield []
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def test_a_listing_that_takes_long_keeps_the_lease_and_ends_when_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asyncup.state._KEEP_SECONDS", 0.0)
    watched, config = Watcher(), Config.of(table="docs", to="null:", if_exists="different")
    job, hanging = Job(config, watched, Interrupt()), Hanging()

    class Lost(Failing):
        async def keep(self) -> None:
            await hanging.begun.wait()
            await super().keep()

    lease = Lost()
    index = job._index = ObjectIndex()
    job._objects, job._lease = hanging, lease  # type: ignore[assignment]
    async with asyncio.timeout(20):
        with pytest.raises(StateLost, match="taken this job over"):
            await job._list(parse_destination("null:"))
    assert (lease.kept, hanging.ended) == (3, True)
    await index.close()


@pytest.mark.parametrize("error", [Unreachable("list", "bucket", "gone"), Interrupted()])
async def test_what_ends_the_work_is_what_is_told_when_a_lease_is_kept_meanwhile(error: Exception) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await keeping(Failing(), work())
    assert caught.value is error
    assert await keeping(Failing(), asyncio.sleep(0, "done")) == "done"
