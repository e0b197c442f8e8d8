"""A user's function makes the objects: as people write one, through the installed program, in each executor."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import Bucket, Database, Program

FUNCTIONS = """
import asyncio, os, time

def page(row):
    return f"<h1>{row['title']}</h1>"

async def fetched(row):
    await asyncio.sleep(0.001)
    return f"<h1>{row['title']}</h1>"

def several(row):
    from asyncup import Upload
    if row["id"] % 10 == 0:
        return None
    if row["id"] % 11 == 0:
        raise ValueError(f"eleven in {row['id']}")
    yield Upload(f"a/{row['id']}", row["title"], {"Content-Type": "text/x-a"})
    yield Upload(f"b/{row['id']}", b"b", {"x-amz-meta-of": row["title"]})

def dying(row):
    if row["id"] == 7:
        os.kill(os.getpid(), 9)
    return page(row)

def slow(row):
    time.sleep(0.05)
    print("to stdout")
    return page(row)
"""


@pytest.fixture
def pages(connected: Program, database: Database) -> Program:
    """A table of 60 rows, and a module of functions in the folder that the program runs in."""
    database.sql(
        "CREATE TABLE pages (id int PRIMARY KEY, title text);"
        "INSERT INTO pages SELECT n, 'title ' || n FROM generate_series(1, 60) n"
    )
    (connected.folder / "functions.py").write_text(FUNCTIONS)
    return connected


def sync(pages: Program, bucket: Bucket, function: str, *more: str) -> subprocess.Popen[str]:
    return pages.start(
        "sync",
        "--table=pages",
        f"--to=s3://{bucket.name}/{{id}}.html",
        f"--transform=functions:{function}",
        "--output=json",
        *more,
    )


@pytest.mark.parametrize(
    ("function", "executor"),
    [("page", "auto"), ("page", "loop"), ("page", "thread"), ("page", "process"), ("fetched", "auto")],
)
def test_an_object_is_what_the_function_makes_of_its_row(
    pages: Program, bucket: Bucket, function: str, executor: str
) -> None:
    run = pages.finish(sync(pages, bucket, function, f"--executor={executor}"))
    assert run.code == 0, run.stderr
    assert bucket.objects() == {f"{n}.html": b"<h1>title %d</h1>" % n for n in range(1, 61)}
    assert "transform functions:" in run.stderr
    assert (run.summary["put"], run.summary["attempts"] - run.summary["retries"]) == (60, 60)


def test_a_function_may_give_several_objects_none_or_an_error(pages: Program, bucket: Bucket) -> None:
    run = pages.finish(sync(pages, bucket, "several", "--executor=process"))
    assert run.code == 3, run.stderr
    print(run.stderr)
    put = [n for n in range(1, 61) if n % 10 and n % 11]
    assert set(bucket.objects()) == {f"{kind}/{n}" for n in put for kind in "ab"}
    summary = run.summary
    assert (summary["put"], summary["skipped"], summary["failed"]) == (len(put), 6, 5)
    letters = [json.loads(line) for line in Path(pages.folder, summary["dead_letters"]).read_text().splitlines()[1:]]
    assert sorted(int(letter["key"][0]) for letter in letters) == [11, 22, 33, 44, 55]
    (letter,) = (one for one in letters if one["key"] == ["22"])
    assert letter["message"] == "ValueError: eleven in 22"
    assert "raise ValueError(f\"eleven in {row['id']}\")" in letter["traceback"]
    (pages.folder / "functions.py").write_text(FUNCTIONS.replace("% 11 == 0", "% 11 == 12"))
    again = pages("retry", summary["dead_letters"], "--output=json")
    assert (again.code, again.summary["put"]) == (0, 5), again.stderr


def test_a_row_that_kills_its_worker_fails_alone(pages: Program, bucket: Bucket) -> None:
    run = pages.finish(sync(pages, bucket, "dying", "--executor=process"))
    assert run.code == 3, run.stderr
    assert set(bucket.objects()) == {f"{n}.html" for n in range(1, 61) if n != 7}
    assert (run.summary["put"], run.summary["failed"]) == (59, 1)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_ctrl_c_ends_the_run_and_all_who_work_for_it(pages: Program, bucket: Bucket, executor: str) -> None:
    """A terminal sends it to the whole group of processes at once."""
    arguments = [
        "sync",
        "--table=pages",
        f"--to=s3://{bucket.name}/{{id}}.html",
        "--transform=functions:slow",
        f"--executor={executor}",
        "--executor-workers=2",
        "--output=json",
    ]
    program = pages.start(*arguments)
    parent = psutil.Process(program.pid)
    deadline = time.monotonic() + 30
    while len(bucket.objects()) < 5:
        assert time.monotonic() < deadline
        assert program.poll() is None, program.communicate()
        time.sleep(0.01)
    children = parent.children(recursive=True)
    assert bool(children) == (executor == "process")
    for process in (parent, *children):
        process.send_signal(signal.SIGINT)
    run = pages.finish(program)
    assert run.code == 130, run.stderr
    assert "Traceback" not in run.stderr
    assert run.summary["status"] == "interrupted"
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    again = pages(*arguments)
    assert again.code == 0, again.stderr
    assert len(bucket.objects()) == 60


@pytest.mark.parametrize("where", ["import", "setup"])
def test_ctrl_c_ends_a_run_whose_module_never_comes_back(pages: Program, where: str) -> None:
    began = pages.folder / "began"
    stuck = f"import pathlib, time; pathlib.Path({str(began)!r}).touch(); time.sleep(600)"
    body = stuck if where == "import" else f"def setup(): {stuck}"
    (pages.folder / "stuck.py").write_text(f"{body}\ndef f(row): return b''\n")
    program = pages.start("sync", "--table=pages", "--to=null:", "--transform=stuck:f", "--executor=thread")
    pages.interrupt(program, when=began.exists, signum=signal.SIGINT)
    assert pages.finish(program).code == 130


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("functions:pgae", "page"),
        ("funtcions:page", "functions"),
        ("functions", "module:function"),
        ("functions:os", "not a function"),
    ],
)
def test_a_function_that_is_not_there_is_refused_with_what_is_meant(
    pages: Program, bucket: Bucket, spec: str, said: str
) -> None:
    run = pages("sync", "--table=pages", f"--to=s3://{bucket.name}/{{id}}", f"--transform={spec}", "--output=json")
    assert run.code == 2
    error = run.summary["error"]
    assert said in f"{error['message']} {error['hint']}"


def test_a_third_ctrl_c_ends_a_run_whose_event_loop_a_function_holds(pages: Program, bucket: Bucket) -> None:
    (pages.folder / "holding.py").write_text(
        "import pathlib, time\ndef hang(row):\n    pathlib.Path('held').touch()\n    time.sleep(1000)\n"
    )
    program = pages.start(
        "sync", "--table=pages", f"--to=s3://{bucket.name}/{{id}}", "--transform=holding:hang", "--executor=loop"
    )
    pages.interrupt(program, when=(pages.folder / "held").exists)
    deadline = time.monotonic() + 20
    while program.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        program.send_signal(signal.SIGINT)
    run = pages.finish(program)
    assert run.code == 130
    assert "holds the event loop" in run.stderr
