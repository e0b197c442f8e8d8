"""The promises of a checkpoint store and its lock, on every place of state: a folder, S3, Postgres.

What was saved last is what is read; one run at a time has a job; a run that lost it changes nothing any more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import multiprocessing
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.checkpoints.deadletters import DeadLetterFile
from asyncup.checkpoints.file import FileCheckpoints
from asyncup.checkpoints.files import StateFolder
from asyncup.checkpoints.lease import Tenure
from asyncup.checkpoints.letters import LetterFile
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.places import Entry
from asyncup.checkpoints.postgres import PostgresCheckpoints, StateTable
from asyncup.checkpoints.postgresletters import PostgresDeadLetters
from asyncup.checkpoints.s3 import S3Checkpoints, entries
from asyncup.checkpoints.s3letters import S3DeadLetters, folder
from asyncup.errors import StateLost, StateRefused
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier, RetryPolicy
from asyncup.model import Checkpoint, Counts, DeadLetter
from asyncup.sinks.s3 import S3Settings
from asyncup.sinks.s3.documents import S3Documents
from asyncup.sources.connection.statesession import StateSession
from asyncup.state import Access, read_letters
from tests.conftest import Database
from tests.moto_server import MotoBucket

_numbers = itertools.count(1)
JOB = "public.docs"
CHECKPOINT = Checkpoint(
    JOB,
    {"table": "public.docs", "where": "näme > '鍵'", "metadata": {"a": "{b}"}},
    ("1", None, "ü"),
    Counts(5, 1, 2, 77),
    finished=False,
    started="2026-01-01T00:00:00.000Z",
    saved="2026-01-01T00:00:01.000Z",
    options={"table": "docs", "metadata": ["a={b}"]},
)


def quick() -> Retrier:
    async def sleep(_: float) -> bool:
        return True

    return Retrier(RetryPolicy(max_attempts=3, base=0.0), sleep, lambda *_: None)


@dataclass
class Place:
    """A place of state. `hold(name, seconds, owner)` takes a job for a lease of so many seconds."""

    hold: Callable[..., Awaitable[Any]]
    entries: Callable[[], Awaitable[list[Entry]]]
    letters: Callable[[Any, int], Awaitable[Any]]
    access: Access
    spoil: Callable[[bytes], Awaitable[None]]


class FolderHold(FileCheckpoints):
    """A job in a folder, held."""

    def __init__(self, folder: StateFolder, name: str) -> None:
        super().__init__(folder.file(name, ".json"))
        self.folder, self.name = folder, name

    async def take(self) -> None:
        self._lock = await asyncio.to_thread(self.folder.lock, self.name)

    async def release(self) -> None:
        await asyncio.to_thread(self.folder.unlock, self.name, self._lock)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def local(tmp_path: Path) -> Place:
    state = StateFolder(tmp_path / "state")
    await asyncio.to_thread(state.prepare)

    async def hold(name: str = JOB, **_: Any) -> FolderHold:
        held = FolderHold(state, name)
        await held.take()
        return held

    async def letters(held: FolderHold, keep: int) -> DeadLetterFile:
        file = DeadLetterFile(state.file(held.name, ".dead-letters.jsonl"), described(held.name))
        await asyncio.to_thread(file.open, keep=keep)
        return file

    async def listed() -> list[Entry]:
        return await asyncio.to_thread(state.entries)

    async def spoil(content: bytes) -> None:
        await asyncio.to_thread(state.file(JOB, ".json").write_bytes, content)

    return Place(hold, listed, letters, Access(), spoil)


async def s3_place(bucket: str, stack: AsyncExitStack) -> Place:
    """State in a bucket of the server that the environment leads to."""
    documents = await S3Documents.open(S3Settings(bucket), "state")
    stack.push_async_callback(documents.close)
    place = f"s3://{bucket}"

    async def hold(name: str = JOB, seconds: float = 60.0, owner: Owner | None = None, **given: Any) -> S3Checkpoints:
        owner = owner or await asyncio.to_thread(Owner.here)
        tenure = Tenure(Interrupt(), 30.0, seconds=seconds, **given)
        held = S3Checkpoints(documents, place, "state/", name, owner, tenure)
        await held.take(quick())
        assert held.is_guarded
        return held

    async def letters(held: S3Checkpoints, keep: int) -> S3DeadLetters:
        name = held._name
        found = S3DeadLetters(documents, place, folder("state/", name), described(name), held)
        await found.open(quick(), keep=keep)
        return found

    async def spoil(content: bytes) -> None:
        await documents.put(f"state/{JOB}.json", content)

    return Place(hold, lambda: entries(documents, place, "state/", quick()), letters, Access(), spoil)


@pytest.fixture
async def moto_state(moto_bucket: MotoBucket, monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack) -> Place:
    for name, value in moto_bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    return await s3_place(moto_bucket.name, stack)


@pytest.fixture(scope="module")
def keeping() -> Iterator[RunningSimulator]:
    """An S3 in a process of its own that holds to conditions and misbehaves on order."""
    with simulator("--keep", "all") as server:
        yield server


@pytest.fixture
async def simulated_state(
    keeping: RunningSimulator, monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack
) -> AsyncIterator[Place]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", keeping.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the simulator takes every one")
    yield await s3_place(f"bucket-{next(_numbers)}", stack)
    await asyncio.to_thread(keeping.set_faults)


@pytest.fixture
async def table(database: Database, stack: AsyncExitStack) -> Place:
    await asyncio.to_thread(database.sql, 'CREATE SCHEMA "op s"')

    def connected() -> StateTable:
        session = StateSession(database.dsn, quick(), "op s", "State")
        stack.push_async_callback(session.close)
        return StateTable(session, "op s", "State")

    state = connected()
    await state.prepare(quick())

    async def hold(name: str = JOB, seconds: float = 60.0, owner: Owner | None = None, **given: Any) -> Any:
        owner = owner or await asyncio.to_thread(Owner.here)
        held = PostgresCheckpoints(connected(), name, owner, Tenure(Interrupt(), 30.0, seconds=seconds, **given))
        await held.take(quick())
        return held

    async def letters(held: PostgresCheckpoints, keep: int) -> PostgresDeadLetters:
        found = PostgresDeadLetters(state, held._name, described(held._name), held._owner, held._tenure)
        await found.open(quick(), keep=keep)
        return found

    async def spoil(content: bytes) -> None:
        sql = f"""INSERT INTO "op s"."State" VALUES ('{JOB}', '{content.decode()}', NULL, NULL, NULL, 0)"""
        await asyncio.to_thread(database.sql, sql)

    return Place(hold, lambda: state.entries(quick()), letters, Access(dsn=database.dsn), spoil)


@pytest.fixture(params=["local", "moto_state", "simulated_state", "table"])
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture(params=["moto_state", "simulated_state", "table"])
def leased(request: pytest.FixtureRequest) -> Place:
    """The places whose locks are leases."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


async def test_what_was_saved_last_is_what_the_next_run_loads(place: Place) -> None:
    first = await place.hold()
    assert await first.load() is None
    await first.save(CHECKPOINT)
    await first.save(dataclasses.replace(CHECKPOINT, watermark=("2", None, ""), finished=True))
    await first.release()
    second = await place.hold()
    assert await second.load() == dataclasses.replace(CHECKPOINT, watermark=("2", None, ""), finished=True)
    assert second.location == first.location
    await second.release()


async def test_who_only_looks_at_who_has_a_job_does_not_keep_it_from_a_run(
    local: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    lock = tmp_path / "state" / f"{JOB}.lock"
    await asyncio.to_thread(lock.touch)
    looking = os.open(lock, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)

    class Met(FileLock):
        def acquire(self, **given: Any) -> Any:  # type: ignore[override]
            try:
                return super().acquire(**given)
            except Timeout:
                fcntl.flock(looking, fcntl.LOCK_UN)
                raise

    monkeypatch.setattr("asyncup.checkpoints.files.FileLock", Met)
    await (await local.hold()).release()
    os.close(looking)


async def test_what_was_forgotten_stays_forgotten(place: Place) -> None:
    held = await place.hold()
    await held.save(CHECKPOINT)
    await held.forget()
    await held.release()
    again = await place.hold()
    assert await again.load() is None
    await again.release()
    assert await place.entries() == []


async def test_jobs_do_not_know_each_other_whatever_their_names_are(place: Place) -> None:
    names = ["a", "A b/c", "../up", ".hidden", "ä" * 100, 'quo"ted', "a.dead-letters", "x" * 300]
    for name in names:
        held = await place.hold(name)
        await held.save(dataclasses.replace(CHECKPOINT, name=name))
        await held.release()
    found = await place.entries()
    assert sorted(entry.name for entry in found) == sorted(names)
    assert len({entry.location for entry in found}) == len({entry.letters for entry in found}) == len(names)
    assert all(entry.checkpoint is not None and entry.checkpoint.name == entry.name for entry in found)
    assert not any(entry.holder or entry.error for entry in found)


async def test_a_second_run_of_a_job_is_refused_and_told_who_has_it(place: Place) -> None:
    first = await place.hold()
    (entry,) = await place.entries()
    assert (entry.name, entry.checkpoint, entry.holder is not None) == (JOB, None, True)  # nothing is saved yet
    await first.save(CHECKPOINT)
    with pytest.raises(StateRefused, match=rf"in progress: process {os.getpid()} on .*, since 20") as caught:
        await place.hold()
    assert (caught.value.op, caught.value.subject) == ("lock job", JOB)
    (entry,) = await place.entries()
    assert entry.holder is not None
    assert entry.holder.owner.pid == os.getpid()
    other = await place.hold("another job")
    await other.release()
    await first.save(CHECKPOINT)
    await first.release()
    await (await place.hold()).release()
    (entry,) = await place.entries()
    assert (entry.holder, entry.checkpoint) == (None, CHECKPOINT)


@pytest.mark.parametrize("content", ['{"version": 99}', "{}", "[]", '"text"', "null", '{"version": 1, "name": "x"}'])
async def test_what_is_no_checkpoint_is_refused_with_the_way_on(place: Place, content: str) -> None:
    await place.spoil(content.encode())
    with pytest.raises(StateRefused, match="not a checkpoint of this version") as caught:
        await (await place.hold()).load()
    assert "--restart" in (caught.value.hint or "")
    (entry,) = await place.entries()
    assert entry.error is not None
    assert entry.name == JOB


async def test_a_lease_that_has_run_out_is_taken_over_and_whoever_had_it_changes_nothing_any_more(
    leased: Place,
) -> None:
    first = await leased.hold(seconds=-2.0)  # it had run out before it began
    letters = await leased.letters(first, 0)
    await first.save(CHECKPOINT)
    second = await leased.hold()
    later = dataclasses.replace(CHECKPOINT, watermark=("9",))
    await second.save(later)
    for _ in range(2):
        with pytest.raises(StateLost, match="another run has taken this job over: process"):
            await first.save(CHECKPOINT)
    with pytest.raises(StateLost):
        await letters.append([letter(1)])
    with pytest.raises(StateLost):
        await first.release()
    await second.save(later)
    await second.release()
    assert (await leased.entries())[0].checkpoint == later


async def test_a_run_that_has_lost_the_job_neither_writes_nor_removes_letters_of_the_one_that_has_it(
    leased: Place,
) -> None:
    """It had run out of its lease, and asks for the first time now: the writes themselves have to find it out."""
    first, other = await leased.hold(seconds=-2.0), await leased.hold("another job", seconds=-2.0)
    late = await leased.letters(first, 0)
    second = await leased.hold()
    letters = await leased.letters(second, 0)
    with pytest.raises(StateLost, match="another run has taken this job over"):
        await late.append([letter(7)])
    await letters.append([letter(1)])
    with pytest.raises(StateLost, match="another run has taken this job over"):
        await leased.letters(first, 0)
    assert await stored(leased, letters.location) == ["1"]
    await (await leased.letters(other, 0)).append([letter(1)])  # nobody has taken this one
    await second.release()


async def test_a_letter_that_was_taken_out_of_the_table_by_hand_costs_no_other_one(
    database: Database, table: Place
) -> None:
    held = await table.hold()
    letters = await table.letters(held, 0)
    await letters.append([letter(number) for number in (1, 2, 3)])
    await asyncio.to_thread(database.sql, 'DELETE FROM "op s"."State_dead_letters" WHERE number = 1')
    again = await table.letters(held, 3)
    await again.append([letter(4)])
    assert await stored(table, again.location) == ["2", "3", "4"]
    await held.release()


async def test_a_lease_is_renewed_when_that_is_due_and_not_before(leased: Place) -> None:
    now = 0.0
    first = await leased.hold(seconds=-2.0, clock=lambda: now)
    now = 14.9
    second = await leased.hold()
    await first.keep()  # not due, so nothing is asked and nothing is learned
    now = 15.0
    with pytest.raises(StateLost):
        await first.keep()
    await second.release()


@pytest.mark.parametrize("fault", ["error", "reset", "reset-after", "truncated", "garbage", "slowdown", "conflict"])
async def test_a_server_that_fails_again_and_again_loses_no_checkpoint_and_no_letter(
    keeping: RunningSimulator, simulated_state: Place, fault: str
) -> None:
    """Writes whose answers are lost are met again as 412: they are our own, and no other run's."""
    held = await simulated_state.hold(dice=lambda: 0.0)
    letters = await simulated_state.letters(held, 0)
    await asyncio.to_thread(keeping.set_faults, {fault: 0.4})
    for number in range(20):
        await letters.append([letter(number)])
        await held.save(dataclasses.replace(CHECKPOINT, watermark=(str(number),)))
    await asyncio.to_thread(keeping.set_faults)
    assert await stored(simulated_state, letters.location) == [str(number) for number in range(20)]
    (entry,) = await simulated_state.entries()
    assert entry.checkpoint is not None
    assert entry.checkpoint.watermark == ("19",)
    await held.release()


async def test_a_lost_connection_to_the_database_loses_neither_checkpoint_nor_lease(
    database: Database, table: Place
) -> None:
    held = await table.hold()
    letters = await table.letters(held, 0)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    for number in range(1, 4):
        await asyncio.to_thread(database.sql, end)
        await letters.append([letter(number)])
        await asyncio.to_thread(database.sql, end)
        await held.save(dataclasses.replace(CHECKPOINT, watermark=(str(number),)))
        with pytest.raises(StateRefused):
            await table.hold()
    await held.release()
    again = await table.hold()
    assert await again.load() == dataclasses.replace(CHECKPOINT, watermark=("3",))
    assert await stored(table, letters.location) == ["1", "2", "3"]
    await again.release()


async def dead_process() -> Owner:
    """The owner that a process would have been that has ended."""
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    await asyncio.to_thread(process.start)
    pid = process.pid
    await asyncio.to_thread(process.join)
    assert pid is not None
    return dataclasses.replace(await asyncio.to_thread(Owner.here), pid=pid)


async def test_the_lease_of_a_process_of_this_machine_that_is_dead_is_not_in_the_way(leased: Place) -> None:
    dead = await dead_process()
    first = await leased.hold(owner=dead)
    await first.save(CHECKPOINT)
    assert [entry.holder for entry in await leased.entries()] == [None]
    second = await leased.hold()
    assert await second.load() == CHECKPOINT
    with pytest.raises(StateLost):
        await first.save(CHECKPOINT)
    await second.release()


@pytest.mark.parametrize(
    "changed",
    [{}, {"boot": "another"}, {"space": "pid:[1]"}, {"boot": "", "space": "", "begun": ""}],
    ids=["a clone of this one", "another boot", "another space", "nothing known"],
)
async def test_a_process_of_another_machine_or_of_an_unknown_one_counts_as_alive(
    leased: Place, changed: dict[str, str]
) -> None:
    elsewhere = dataclasses.replace(await dead_process(), host="elsewhere", **changed)
    await leased.hold(owner=elsewhere)
    with pytest.raises(StateRefused, match=r"on elsewhere, since .*, its lease until 20.*Z unless it is renewed"):
        await leased.hold()


async def test_runs_that_begin_at_once_do_not_both_get_the_job(leased: Place) -> None:
    tries = await asyncio.gather(*(leased.hold() for _ in range(4)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in tries if isinstance(one, Exception)) == ["StateRefused"] * 3
    (held,) = (one for one in tries if not isinstance(one, BaseException))
    await held.save(CHECKPOINT)
    await held.release()


def letter(number: int) -> DeadLetter:
    return DeadLetter((str(number), None), f"o/{number}ü", "RowRefused", "put", "no", 1, "2026-01-01T00:00:00.000Z")


def described(name: str) -> dict[str, Any]:
    """What dead letters say of their job."""
    return {"name": name, "key": ["id", "b"]}


async def stored(place: Place, location: str) -> list[str]:
    if not location.startswith(("s3://", "postgres:")):
        file = await asyncio.to_thread(LetterFile.open, Path(location))
        with closing(file):
            assert file.job == described(JOB)
            return [str(key[0]) for key in await file.take(1000)]
    async with read_letters(location, place.access, quick()) as (job, letters):
        assert job == described(JOB)
        return [one["key"][0] async for one in letters]


@pytest.mark.parametrize("keep", [0, 2, 3, 4, 7])
async def test_a_run_that_resumes_keeps_the_dead_letters_that_its_checkpoint_counts_and_no_others(
    place: Place, keep: int
) -> None:
    held = await place.hold()
    first = await place.letters(held, 0)
    for some in ([1, 2, 3], [4], [5, 6]):
        await first.append([letter(number) for number in some])
    assert first.letters == 6
    assert await stored(place, first.location) == ["1", "2", "3", "4", "5", "6"]
    second = await place.letters(held, keep)
    assert second.letters == min(keep, 6)
    await second.append([letter(8), letter(9)])
    third = await place.letters(held, min(keep, 6) + 2)
    assert third.letters == min(keep, 6) + 2
    assert await stored(place, third.location) == [*"123456"[:keep], "8", "9"]
    await held.release()


async def test_dead_letters_are_read_as_they_were_written_and_only_where_there_are_some(leased: Place) -> None:
    held = await leased.hold()
    letters = await leased.letters(held, 0)
    await letters.append([letter(number) for number in range(2500)])
    async with read_letters(letters.location, leased.access, quick()) as (_, found):
        lines = [line async for line in found]
    assert len(lines) == 2500
    assert json.loads(json.dumps(lines[7])) == {
        "key": ["7", None],
        "object_key": "o/7ü",
        "error": "RowRefused",
        "op": "put",
        "message": "no",
        "attempts": 1,
        "time": "2026-01-01T00:00:00.000Z",
    }
    nowhere = letters.location.replace("docs", "nothing")
    with pytest.raises(StateRefused) as caught:
        async with read_letters(nowhere, leased.access, quick()):
            pass
    assert caught.value.subject == nowhere
    await held.release()
