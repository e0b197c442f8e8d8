"""The program itself: version, help, commands, the demo, and the same thing as a library."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import asyncup as library
from asyncup.cli.commands import COMMANDS
from asyncup.errors import SourceRefused
from tests.conftest import Bucket, Database, Program


def test_the_version_is_printed(asyncup: Program) -> None:
    run = asyncup("--version")
    assert (run.code, run.stdout) == (0, f"asyncup {library.__version__}\n")


def test_it_runs_as_a_module_too(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "asyncup", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("asyncup ")


def test_help_names_every_flag_with_its_default(asyncup: Program) -> None:
    run = asyncup("sync", "--help", COLUMNS="200")
    assert run.code == 0
    for words in ("--table", "--concurrency", "Default: auto", "Default: 256MiB", "Default: skip", "Exit codes"):
        assert words in run.stdout


def test_an_unknown_command_names_the_nearest(asyncup: Program) -> None:
    run = asyncup("snyc")
    assert run.code == 2
    assert "sync" in run.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["status", "--output=json"], ["status"], ["--version"], ["sync", "--help"]])
def test_a_stdout_that_cannot_be_written_is_one_line_and_exit_code_1(
    asyncup: Program, command: list[str], unbuffered: str
) -> None:
    program = str(Path(sys.executable).parent / "asyncup")
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [program, *command],
            check=False,
            cwd=asyncup.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    assert done.returncode == 1
    assert done.stderr == "error: stdout cannot be written: No space left on device\n"


def test_closed_streams_give_no_connection_their_numbers(connected: Program, fifty: Database, bucket: Bucket) -> None:
    program = Path(sys.executable).parent / "asyncup"
    for closed in (">&-", "<&- >&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"exec {program} sync --table t --to 's3://{bucket.name}/{{id}}' --body b {closed}"],
            check=False,
            cwd=connected.folder,
            env={**os.environ, **connected.environment},
        )
        assert done.returncode == 0
    assert len(bucket.objects()) == 50


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_status_that_is_interrupted_has_the_json_of_a_status(asyncup: Program, signum: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        dsn = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d"
        process = asyncup.start("status", "--state=postgres:public.s", f"--dsn={dsn}", "--output=json")
        connection, _ = silent.accept()
        process.send_signal(signum)
        run = asyncup.finish(process)
        connection.close()
    assert run.code == 128 + signum, run.stderr
    assert run.summary == {
        "version": 1,
        "status": "interrupted",
        "state": "postgres:public.s",
        "checkpoints": [],
        "error": None,
    }


def test_a_status_with_a_wrong_flag_has_the_json_of_a_status(asyncup: Program) -> None:
    run = asyncup("status", "--state=here", "--no-such-flag", "--output=json")
    assert run.code == 2
    assert list(run.summary) == ["version", "status", "state", "checkpoints", "error"]
    assert (run.summary["status"], run.summary["state"]) == ("aborted", "here")


def test_a_certificate_that_cannot_be_read_is_not_a_database_that_is_away(asyncup: Program) -> None:
    run = asyncup(
        *("sync", "--table=t", "--to=null:", "--dsn=postgresql://u@127.0.0.1:1/d", "--output=json"),
        PGSSLCERT="/no/such/file",
    )
    assert run.code == 2, run.stderr
    assert "PGSSLCERT" in run.summary["error"]["hint"]


LIBRARIES = {"asyncpg", "botocore", "aiohttp", "uvloop", "filelock"}


@pytest.mark.parametrize(
    ("arguments", "printed", "unneeded"),
    [
        (["--version"], "asyncup ", {"typer", "rich", "asyncio", "asyncup.config"}),
        (["--help"], "Copy the rows of", {"asyncup.config", *(f"asyncup.cli.{name}" for name in COMMANDS)}),
        (["demo", "--help"], "--keep", {"asyncup.config", "asyncup.cli.sync"}),
        (["verify", "--help"], "--deep", {"asyncup.cli.plan", "asyncup.cli.status", *LIBRARIES}),
    ],
)
def test_a_command_does_not_import_what_it_does_not_need(
    arguments: list[str], printed: str, unneeded: set[str]
) -> None:
    code = "import sys; from asyncup.cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert printed in done.stdout
    assert not unneeded & set(done.stderr.split())


@pytest.fixture
def fifty(database: Database) -> Database:
    database.sql("CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t SELECT n, n FROM generate_series(1, 50) n")
    return database


async def test_the_library_does_what_the_command_does(
    fifty: Database, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    report = await library.sync(
        table="t", to=f"s3://{bucket.name}/{{id}}", body="b", dsn=fifty.dsn, state=str(tmp_path / "state")
    )
    assert report.status == "complete"
    assert bucket.objects() == {str(n): str(n).encode() for n in range(1, 51)}
    with pytest.raises(SourceRefused, match="there is no table tt"):
        await library.sync(table="tt", to="null:", dsn=fifty.dsn, state=str(tmp_path / "state"))


def servers_of(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder or were started with one."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()):
            found.append(process)
    return found


def test_the_demo_copies_real_files_and_compares_every_byte(asyncup: Program, room: Path) -> None:
    foreign = {"DATABASE_URL": "postgresql://127.0.0.1:1/real", "ASYNCUP_LIMIT": "1", "AWS_PROFILE": "real"}
    run = asyncup("demo", "--rows=300", TMPDIR=str(room), **foreign)
    assert run.code == 0, run.stderr
    assert (
        "asyncup sync --table files --to 's3://asyncup-demo/{path}' --body content --content-type '{mime}'"
        in run.stdout
    )
    assert "Complete: 300 rows" in run.stdout
    assert "All objects are as their rows are: 300 identical" in run.stdout
    assert list(room.iterdir()) == []
    assert servers_of(room) == []


def test_the_demo_keeps_nothing_where_no_folder_can_be(asyncup: Program, room: Path) -> None:
    (room / "file").touch()
    run = asyncup("demo", f"--keep={room / 'file'}")
    assert run.code == 2
    assert run.stderr.startswith("error: it cannot be a folder: File exists")
    assert run.stdout == ""


def test_the_demo_leaves_what_it_is_told_to_keep(asyncup: Program, room: Path) -> None:
    run = asyncup("demo", "--rows=20", f"--keep={room / 'kept'}")
    assert run.code == 0, run.stderr
    assert len([path for path in (room / "kept" / "s3" / "asyncup-demo").rglob("*") if path.is_file()]) == 20
    assert "export PGHOST=127.0.0.1" in run.stdout
    assert servers_of(room) == []
    again = asyncup("demo", "--rows=20", f"--keep={room / 'kept'}")
    assert again.code == 0, again.stderr


@pytest.mark.parametrize("phase", ["Loading", "Now the job"])
def test_ctrl_c_in_the_demo_cleans_up(asyncup: Program, room: Path, phase: str) -> None:
    process = asyncup.start("demo", "--rows=4000", TMPDIR=str(room))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(phase):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    run = asyncup.finish(process)
    assert run.code == 130, run.stderr
    assert "Traceback" not in run.stderr
    assert list(room.iterdir()) == []
    assert servers_of(room) == []


def test_a_killed_demo_leaves_no_server_behind(asyncup: Program, room: Path) -> None:
    process = asyncup.start("demo", "--rows=4000", TMPDIR=str(room))
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("Loading"))
    process.kill()
    asyncup.finish(process)
    deadline = time.monotonic() + 20
    while servers_of(room) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert servers_of(room) == []
