"""Objects as files: whole or not at all, below their directory and nowhere else, and what a file system refuses.

What every sink promises is proved in the contract suite; here is what only a file system can do.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncup.errors import AsyncupError, DestinationRefused, Disposition, RowRefused, ServerFault
from asyncup.model import Slices, Streamed, Upload
from asyncup.sinks.directory import DirectorySink

PART = re.compile(r"\.asyncup-[0-9a-f]{32}\.part")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
async def sink(root: Path) -> AsyncIterator[DirectorySink]:
    opened = DirectorySink(root, threads=4)
    await opened.check()
    yield opened
    await opened.close()


def everything(folder: Path) -> set[str]:
    """All that lies below a folder, folders and links included."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


async def refused(sink: DirectorySink, key: str, expected: type[AsyncupError] = RowRefused) -> AsyncupError:
    with pytest.raises(expected) as caught:
        await sink.put(Upload(key, b"body"))
    assert caught.value.subject == key
    return caught.value


# --- whole or not at all --------------------------------------------------------------------------------------


async def test_nobody_ever_sees_a_part_of_a_file_under_its_name(sink: DirectorySink, root: Path) -> None:
    bodies = [bytes([number]) * 3_000_000 for number in range(30)]
    seen: set[bytes] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add((root / "object").read_bytes())

    await sink.put(Upload("object", bodies[0]))
    looking = asyncio.create_task(asyncio.to_thread(look))
    for body in bodies:
        await sink.put(Upload("object", body))
    done.set()
    await looking
    assert len(seen) > 1
    assert seen <= set(bodies)
    assert everything(root) == {"object"}


WRITE_FOREVER = """
import asyncio, pathlib, sys
from asyncup.model import Upload
from asyncup.sinks.directory import DirectorySink

async def write_forever(folder):
    sink = DirectorySink(folder, threads=4)
    await asyncio.gather(*[write(sink, number) for number in range(4)])

async def write(sink, number):
    while True:
        await sink.put(Upload(f"folder/{number}", b"x" * 4_000_000))
        number += 4

asyncio.run(write_forever(pathlib.Path(sys.argv[1])))
"""


def test_a_crash_leaves_whole_files_and_parts_under_names_of_their_own(root: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITE_FOREVER, str(root)])
    try:
        deadline = time.monotonic() + 30
        while True:  # the process is killed while it stands still in the middle of a file
            assert writer.poll() is None
            assert time.monotonic() < deadline, "it was never caught in the middle"
            if (root / "folder" / "3").exists() and any(root.rglob("*.part")):
                writer.send_signal(signal.SIGSTOP)
                os.waitpid(writer.pid, os.WUNTRACED)
                if any(root.rglob("*.part")):
                    break
                writer.send_signal(signal.SIGCONT)
            time.sleep(0.001)
    finally:
        writer.kill()
        writer.wait()
    files = {path.name: path.stat().st_size for path in (root / "folder").iterdir()}
    parts = {name for name in files if PART.fullmatch(name)}
    assert parts
    assert {files[name] for name in files.keys() - parts} == {4_000_000}


async def test_streams_of_one_object_key_do_not_meet_in_one_file(root: Path) -> None:
    sink, all_begun = DirectorySink(root, threads=1), asyncio.Barrier(3)

    @asynccontextmanager
    async def opened(piece: bytes) -> AsyncIterator[Slices]:
        async def slices() -> AsyncIterator[bytes]:
            yield piece
            await all_begun.wait()
            yield piece

        yield Slices(2 * len(piece), slices())

    try:
        bodies = [Streamed(6, 6, functools.partial(opened, letter * 3)) for letter in (b"a", b"b", b"c")]
        await asyncio.gather(*(sink.put(Upload("object", body)) for body in bodies))
    finally:
        await sink.close()
    assert (root / "object").read_bytes() in (b"aaaaaa", b"bbbbbb", b"cccccc")
    assert everything(root) == {"object"}


async def test_a_file_that_cannot_be_finished_leaves_nothing(sink: DirectorySink, root: Path) -> None:
    await sink.put(Upload("folder/small", b"body"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(RowRefused, match="File too large"):
            await sink.put(Upload("folder/large", bytes(1_000_001)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert everything(root) == {"folder", "folder/small"}


# --- nowhere else ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "../a",
        "a/../../b",
        "a/..",
        "..",
        "new/../../new/a",
        "./a",
        "a/./b",
        ".",
        "/a",
        "//a",
        "a//b",
        "a/",
        "/",
        "",
        "a\0b",
    ],
)
async def test_a_key_that_would_be_the_name_of_another_file_is_refused(
    sink: DirectorySink, root: Path, tmp_path: Path, key: str
) -> None:
    error = await refused(sink, key)
    assert "another name" in error.message
    assert everything(tmp_path) == {"objects"}


async def test_an_absolute_path_is_refused(sink: DirectorySink, tmp_path: Path) -> None:
    await refused(sink, str(tmp_path / "outside"))
    assert everything(tmp_path) == {"objects"}


@pytest.mark.parametrize("key", ["link/a", "link/new/folder/a", "folder/link/a"])
async def test_a_link_that_leads_out_is_refused_and_nothing_is_made_behind_it(
    sink: DirectorySink, root: Path, tmp_path: Path, key: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "folder").mkdir()
    (root / "link").symlink_to(outside)
    (root / "folder" / "link").symlink_to("../../outside", target_is_directory=True)
    error = await refused(sink, key)
    assert "symbolic link" in error.message
    assert everything(outside) == set()
    await sink.put(Upload("folder/beside", b"body"))


async def test_a_link_to_a_file_outside_is_replaced_and_not_followed(
    sink: DirectorySink, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    (root / "object").symlink_to(outside)
    await sink.put(Upload("object", b"body"))
    assert outside.read_bytes() == b"not ours"
    assert (root / "object").read_bytes() == b"body"
    assert not (root / "object").is_symlink()


async def test_a_link_that_stays_inside_is_followed(sink: DirectorySink, root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    await sink.put(Upload("link/sub/object", b"body"))
    assert (root / "real" / "sub" / "object").read_bytes() == b"body"


async def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    sink = DirectorySink(tmp_path / "link" / "objects", threads=1)
    await sink.check()
    await sink.put(Upload("a/b", b"body"))
    assert (tmp_path / "real" / "objects" / "a" / "b").read_bytes() == b"body"
    await sink.close()


# --- what a file system refuses -------------------------------------------------------------------------------


async def test_a_name_cannot_be_a_file_and_a_folder(sink: DirectorySink, root: Path) -> None:
    await sink.put(Upload("file", b"body"))
    await sink.put(Upload("folder/file", b"body"))
    for key in ("file/below", "file/far/below", "folder"):
        assert (await refused(sink, key)).disposition is Disposition.DEAD_LETTER
    await sink.put(Upload("folder/beside", b"body"))
    assert everything(root) == {"file", "folder", "folder/file", "folder/beside"}


@pytest.mark.parametrize("key", ["n" * 256, "folder/" + "n" * 256, "n" * 256 + "/file", "鍵" * 86])
async def test_a_segment_that_is_too_long_for_a_name_is_the_rows(sink: DirectorySink, root: Path, key: str) -> None:
    error = await refused(sink, key)
    assert "too long" in error.message
    assert [path for path in root.rglob("*") if path.is_file()] == []
    await sink.put(Upload("n" * 255, b"body"))


async def test_links_in_a_circle_are_the_rows(sink: DirectorySink, root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    await refused(sink, "one/object")


async def test_a_folder_that_was_removed_is_made_again_with_the_next_attempt(sink: DirectorySink, root: Path) -> None:
    await sink.put(Upload("a/b/object", b"body"))
    shutil.rmtree(root / "a")
    error = await refused(sink, "a/b/object", ServerFault)
    assert error.disposition is Disposition.RETRY
    await sink.put(Upload("a/b/object", b"again"))
    assert (root / "a" / "b" / "object").read_bytes() == b"again"


async def test_a_missing_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    sink = DirectorySink(tmp_path / "not" / "there", threads=1)
    await sink.check()
    assert (tmp_path / "not" / "there").is_dir()
    await sink.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
async def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for root in (tmp_path, tmp_path / "new"):
        sink = DirectorySink(root, threads=1)
        with pytest.raises(DestinationRefused, match="Permission denied"):
            await sink.check()
        await sink.close()


SHOW_ERRORS = """
import asyncio, pathlib, sys
from asyncup.errors import AsyncupError
from asyncup.model import Upload
from asyncup.sinks.directory import DirectorySink

async def show_errors(folder):
    sink = DirectorySink(folder, threads=1)
    for call in (sink.check(), sink.put(Upload("folder/small", b"body")), sink.put(Upload("folder/large", bytes(500_000)))):
        try:
            await call
            print("done")
        except AsyncupError as error:
            print(error.type, "|", error.message, "|", error.hint)
    await sink.close()
    print(*sorted(path.name for path in folder.rglob("*") if path.is_file()))

asyncio.run(show_errors(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (
            "size=200k",
            ["done", "done", "ServerFault | No space left on device | make room on the disk", "small"],
        ),
        (
            "ro",
            ["DestinationRefused | Permission denied | give a folder that can be written to"] * 3 + [""],
        ),
    ],
    ids=["full", "read-only"],
)
def test_a_full_disk_may_mend_and_a_read_only_one_does_not(tmp_path: Path, options: str, shown: list[str]) -> None:
    """In a file system of the test's own: where users may have name spaces, that needs no privilege and binds root."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no name spaces for users here")
    mount = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    run = subprocess.run(
        [*unshare, "sh", "-c", mount, str(tmp_path), sys.executable, "-c", SHOW_ERRORS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines() == shown, run.stderr
