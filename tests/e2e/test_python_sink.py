"""`--to python:module:factory`: a user's own blocking sink from the command line."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

import asyncup as library
from asyncup.errors import AsyncupError
from tests import boto_sink
from tests.conftest import Bucket, Database, Program

ROWS = 40
#: A sink that a user keeps in the folder where asyncup is started.
SINK = '''
import concurrent.futures, os, pathlib, time

ROOT = pathlib.Path("objects")

def files():
    ROOT.mkdir(exist_ok=True)
    (ROOT / "made").touch(exist_ok=False)
    def put(upload):
        if upload.key.endswith(os.environ.get("FAILS", "never")):
            raise ValueError(f"no {upload.key} today")
        path = ROOT / upload.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(upload.body)
    return put

def hanging():
    """Every second call hangs, in a thread of a pool: Python waits for those at its end."""
    pool = concurrent.futures.ThreadPoolExecutor(8)
    def put(upload):
        if int(upload.key) % 2 == 0:
            pool.submit(pathlib.Path("hanging").touch).result()
            pool.submit(time.sleep, 600).result()
    return put

def broken():
    raise RuntimeError("no such account")

async def later():
    return print

def direct(upload):
    """No factory, but what one gives."""

class Unready:
    put = print
    def check(self):
        raise PermissionError(13, "Permission denied")

nothing = type(None)
'''


@pytest.fixture
def program(connected: Program, database: Database) -> Program:
    (connected.folder / "mysink.py").write_text(SINK)
    database.sql(
        "CREATE TABLE t (tenant text, id int, b text, PRIMARY KEY (tenant, id));"
        f"INSERT INTO t SELECT 'acme', n, 'body ' || n FROM generate_series(1, {ROWS}) n"
    )
    return connected


def made(program: Program) -> dict[str, bytes]:
    root = program.folder / "objects"
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    files.pop("made")
    return files


def test_rows_go_through_boto3_under_their_keys(program: Program, bucket: Bucket, database: Database) -> None:
    """A row that is too large to be held among them."""
    shutil.copy(boto_sink.__file__, program.folder)
    database.sql("INSERT INTO t VALUES ('large', 0, repeat('0123456789abcdef', 1100000))")
    job = ("--table=t", "--body=b", "--to=python:boto_sink:factory", "--output=json")
    planned = program("plan", *job[:-1], BUCKET=bucket.name)
    assert planned.code == 0, planned.stderr
    assert "boto_sink:factory, in threads of its own" in planned.stdout
    assert "unique by tenant, id" in planned.stdout
    assert bucket.objects() == {}

    run = program("sync", *job, BUCKET=bucket.name)
    assert run.code == 0, run.stderr
    assert (run.summary["put"], run.summary["concurrency"]["limit"]) == (ROWS + 1, 32)
    expected = {f"acme/{n}": b"body %d" % n for n in range(1, ROWS + 1)}
    assert bucket.objects() == {**expected, "large/0": b"0123456789abcdef" * 1_100_000}


def test_rows_that_it_refuses_are_sent_again_by_retry(program: Program) -> None:
    job = ("--table=t", "--body=b", "--to=python:mysink:files/{tenant}-{id}", "--concurrency=3", "--output=json")
    run = program("sync", *job, FAILS="7")
    assert run.code == 3, run.stderr
    counts = [run.summary[name] for name in ("rows", "put", "failed", "attempts")]
    assert counts == [ROWS, ROWS - 4, 4, ROWS]
    assert run.summary["concurrency"]["peak"] <= 3
    letters = Path(program.folder, run.summary["dead_letters"])
    assert "ValueError: no acme-7 today" in letters.read_text()
    status = program("status")
    assert "python:mysink:files/{tenant}-{id}" in status.stdout

    (program.folder / "objects" / "made").unlink()
    again = program("retry", str(letters), "--output=json")
    assert again.code == 0, again.stderr
    assert again.summary["put"] == 4
    assert made(program) == {f"acme-{n}": b"body %d" % n for n in range(1, ROWS + 1)}


def test_a_second_signal_ends_the_process_though_threads_hang(program: Program) -> None:
    process = program.start(
        "sync", "--table=t", "--to=python:mysink:hanging/{id}", "--allow-collisions", "--output=json"
    )
    program.interrupt(process, when=(program.folder / "hanging").exists)
    time.sleep(0.3)
    assert process.poll() is None, "it waits for what is in flight"
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    run = program.finish(process)
    assert time.monotonic() - begun < 2.5
    assert run.code == 130, run.stderr
    assert run.summary["status"] == "interrupted"
    assert run.summary["failed"] == 0
    assert "Traceback" not in run.stderr


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("python:mysink", {}, "names no function"),
    ("python:mysink:files/", {}, "has no template"),
    ("python:mysnk:files/{id}", {}, "did you mean mysink?"),
    ("python:nowhere.at_all:files/{id}", {}, "PYTHONPATH"),
    ("python:mysink:filse/{id}", {}, "did you mean files?"),
    ("python:mysink:direct/{id}", {}, "cannot be called without arguments"),
    ("python:mysink:broken/{id}", {}, "RuntimeError: no such account"),
    ("python:mysink:later/{id}", {}, "the factory is async"),
    ("python:mysink:nothing/{id}", {}, "a NoneType is no target"),
    ("python:mysink:Unready/{id}", {}, "Permission denied"),
    ("python:mysink:files/{id}", {"acl": "private"}, "does this itself"),
    ("python:mysink:files/{id}", {"if_exists": "skip"}, "nobody knows which objects"),
    ("python:mysink:files/{tenant}", {}, "two rows could get the same object key"),
]


def test_it_cannot_be_verified(program: Program) -> None:
    run = program("verify", "--table=t", "--to=python:mysink:files")
    assert run.code == 2
    assert "nobody knows which objects" in run.stderr


@pytest.fixture
def here(program: Program, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program's folder, for the library."""
    monkeypatch.chdir(program.folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mysink", raising=False)
    return program.folder


async def test_what_cannot_be_is_refused_before_anything_is_put(here: Path, database: Database) -> None:
    """Through the library, which says the same in less time."""
    for to, options, words in REFUSED:
        with pytest.raises(AsyncupError) as caught:
            await library.sync(
                table="t", to=to, dsn=database.dsn, allow_collisions=not to.endswith("{tenant}"), **options
            )
        error = caught.value
        assert words in f"{error.message} {error.hint}", to
        assert error.needs_configuration, to
    plan = await library.plan(table="t", to="python:mysink:broken", dsn=database.dsn)
    assert [reason.message for reason in plan.reasons] == ["RuntimeError: no such account"]
    assert not (here / "objects").exists()
