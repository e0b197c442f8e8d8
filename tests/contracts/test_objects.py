"""The promises of the protocol `Objects`, on every destination: what a sink has put is listed, found and compared."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from asyncup.compare.existing import CONDITION, CreatingSink
from asyncup.errors import ObjectExists, ObjectMissing, RowRefused
from asyncup.flow.retry import Retrier, RetryPolicy
from asyncup.model import Likeness, Listed, Receipt, Upload
from asyncup.protocols import Objects, Sink
from asyncup.sinks.directory import DirectorySink
from asyncup.sinks.s3 import S3Settings, S3Sink
from asyncup.sinks.walk import DirectoryObjects
from tests.conftest import Bucket
from tests.contracts.test_sink import FREE_KEYS, KEYS, PART, streamed
from tests.moto_server import MotoServer

BODY = bytes(range(256)) * 4


@dataclass(frozen=True)
class Place:
    """A destination that is open: what writes to it, and what reads. `honours`: whether it refuses a replacement."""

    sink: Sink
    objects: Objects
    honours: bool


def retrier() -> Retrier:
    async def sleep(_: float) -> bool:
        return False

    return Retrier(RetryPolicy(max_attempts=1), sleep, lambda *_: None)


async def of_s3(settings: S3Settings, *, honours: bool) -> Place:
    sink = await S3Sink.open(settings)
    return Place(sink, sink.objects(retrier()), honours)


@pytest.fixture
def directory(tmp_path: Path) -> Callable[[], Awaitable[Place]]:
    async def opened() -> Place:
        root = tmp_path / "objects"
        sink = DirectorySink(root, threads=8)
        await sink.check()
        return Place(sink, DirectoryObjects(root), honours=True)

    return opened


@pytest.fixture
def rclone(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[Place]]:
    for name, value in bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    return lambda: of_s3(S3Settings(bucket.name, part_bytes=PART), honours=False)


@pytest.fixture
def aws(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Awaitable[Place]]]:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    with moto.bucket() as bucket:
        yield lambda: of_s3(S3Settings(bucket.name, part_bytes=PART), honours=True)


@pytest.fixture
def opening(request: pytest.FixtureRequest) -> Callable[[], Awaitable[Place]]:
    found: Callable[[], Awaitable[Place]] = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def place(opening: Callable[[], Awaitable[Place]]) -> AsyncIterator[Place]:
    opened = await opening()
    yield opened
    await opened.sink.close()


def on(*places: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("opening", places, indirect=True)


everywhere = on("directory", "rclone", "aws")


async def put(place: Place, *keys: str, body: bytes = BODY) -> None:
    await asyncio.gather(*[place.sink.put(Upload(key, body)) for key in keys])


async def listed(place: Place, prefix: str = "") -> dict[str, int]:
    found = [one async for page in place.objects.pages(prefix) for one in page]
    assert len({one.key for one in found}) == len(found)
    return {one.key: one.size for one in found}


@everywhere
async def test_every_object_is_listed_under_the_key_that_it_was_put_under(place: Place) -> None:
    await put(place, *KEYS)
    assert await listed(place) == dict.fromkeys(KEYS, len(BODY))


@on("aws")
async def test_keys_that_no_file_system_has_are_listed_as_they_are(place: Place) -> None:
    await put(place, *FREE_KEYS)
    assert await listed(place) == dict.fromkeys(FREE_KEYS, len(BODY))


@everywhere
async def test_only_what_begins_with_the_prefix_is_listed(place: Place) -> None:
    keys = ["docs/a", "docs/ab/c", "docs/a b+c%/1", "docs2/a", "doc", "other/docs/a"]
    await put(place, *keys)
    for prefix in ("docs/a", "docs/", "docs", "docs/a b+c%/", "nothing", "d"):
        assert set(await listed(place, prefix)) == {key for key in keys if key.startswith(prefix)}


@everywhere
async def test_a_listing_of_nothing_is_empty(place: Place) -> None:
    assert await listed(place) == {}


@on("directory", "rclone")
async def test_more_objects_than_a_page_has_are_listed_page_by_page(place: Place) -> None:
    keys = [f"{number:04d}" for number in range(1003)]
    await put(place, *keys, body=b"x")
    found = [page async for page in place.objects.pages("")]
    assert len(found) == 2
    assert sorted(one.key for page in found for one in page) == keys
    tasks = asyncio.all_tasks()
    pages = place.objects.pages("")
    await anext(pages)
    await pages.aclose()  # in the middle
    assert asyncio.all_tasks() == tasks


@everywhere
async def test_one_object_is_found_and_one_that_is_not_there_is_not(place: Place) -> None:
    await put(place, "x/y", *KEYS[:3])
    for key in ("x/y", *KEYS[:3]):
        found = await place.objects.look(key)
        assert found is not None
        assert (found.key, found.size) == (key, len(BODY))
    assert [await place.objects.look(key) for key in ("missing", "x", "x/z", "x/y/z")] == [None] * 4


@everywhere
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("size", [0, 1024, 300_000, PART + 1])
async def test_the_same_bytes_agree_and_others_of_the_same_size_do_not(place: Place, size: int, deep: bool) -> None:
    body = random.Random(size).randbytes(size)
    await put(place, "key", body=body)
    (one,) = [one async for page in place.objects.pages("") for one in page]
    assert await place.objects.compare(Upload("key", body), one, deep=deep) is Likeness.BYTES
    longer = await place.objects.compare(Upload("key", body + b"x"), one, deep=deep)
    assert isinstance(longer, str)
    assert f"{size:,}" in longer
    if size:
        other = body[:-1] + bytes([body[-1] ^ 1])
        assert isinstance(await place.objects.compare(Upload("key", other), one, deep=deep), str)


@everywhere
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("was_streamed", [False, True])
async def test_a_streamed_body_is_compared_as_any_other(place: Place, was_streamed: bool, deep: bool) -> None:
    body = random.Random(3).randbytes(7_000_000)
    await place.sink.put(Upload("key", streamed(body) if was_streamed else body))
    (one,) = [one async for page in place.objects.pages("") for one in page]
    other = body[:-1] + bytes([body[-1] ^ 1])
    assert await place.objects.compare(Upload("key", body), one, deep=deep) is Likeness.BYTES
    assert await place.objects.compare(Upload("key", streamed(body)), one, deep=deep) is Likeness.BYTES
    assert isinstance(await place.objects.compare(Upload("key", streamed(other)), one, deep=deep), str)
    for size in (len(body) - 1, len(body) + 1):
        found = await place.objects.compare(Upload("key", streamed((body + b"x")[:size])), one, deep=deep)
        assert f"{size:,}" in str(found)


@everywhere
async def test_to_compare_with_what_has_gone_says_so(place: Place) -> None:
    with pytest.raises(ObjectMissing):
        await place.objects.compare(Upload("gone", BODY), Listed("gone", len(BODY), "0" * 32), deep=True)


@everywhere
async def test_an_object_that_is_to_be_created_replaces_none(place: Place) -> None:
    await put(place, "old", "folder/old", body=b"theirs")
    sink = CreatingSink(place.sink, place.objects, fails=True, honours=None)
    assert (await sink.put(Upload("new", b"ours"))).size == 4
    for key in ("old", "folder/old", "new"):
        with pytest.raises(ObjectExists):
            await sink.put(Upload(key, b"ours"))
    assert await listed(place) == {"old": 6, "folder/old": 6, "new": 4}


@on("directory", "aws")
async def test_of_many_who_create_one_object_at_once_one_does(place: Place) -> None:
    uploads = [Upload("one", b"x" * size, (CONDITION,)) for size in range(1, 17)]
    await place.sink.put(Upload("another", b""))
    outcomes = await asyncio.gather(*[place.sink.put(upload) for upload in uploads], return_exceptions=True)
    (receipt,) = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    assert sum(isinstance(outcome, ObjectExists) for outcome in outcomes) == len(uploads) - 1
    assert await listed(place) == {"one": receipt.size, "another": 0}


async def test_files_that_a_run_has_not_finished_and_links_to_folders_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"x")
    (tmp_path / f".asyncup-{'0' * 32}.part").write_bytes(b"half")
    (tmp_path / f"sub/.asyncup-{'0' * 32}.part.123").write_bytes(b"half")
    (tmp_path / ".asyncup-notes.part").write_bytes(b"somebody's")
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "sub" / "file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    found = [one.key async for page in DirectoryObjects(tmp_path).pages("") for one in page]
    assert sorted(found) == [".asyncup-notes.part", "link", "nowhere", "sub/file"]


async def test_a_folder_is_not_taken_for_the_object_of_its_name(tmp_path: Path) -> None:
    sink = DirectorySink(tmp_path, threads=1)
    await sink.put(Upload("a/b", b"x"))
    with pytest.raises(RowRefused, match="directory"):
        await sink.put(Upload("a", b"x", (CONDITION,)))
    await sink.close()


async def test_what_a_run_that_was_killed_while_it_created_a_file_left_beside_it_goes(tmp_path: Path) -> None:
    sink = DirectorySink(tmp_path, threads=1)
    await sink.put(Upload("key", b"theirs", (CONDITION,)))
    part = f".asyncup-{hashlib.sha256(b'key').hexdigest()[:32]}.part"
    (tmp_path / part).hardlink_to(tmp_path / "key")
    with pytest.raises(ObjectExists):
        await sink.put(Upload("key", b"ours", (CONDITION,)))
    await sink.close()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("key", b"theirs")]
