"""Fixtures: real servers, started once for a run; a database and a bucket of its own for every test."""

from __future__ import annotations

import asyncio.constants
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx

from asyncup.embedded.postgres import EmbeddedPostgres, embedded_postgres
from asyncup.embedded.s3 import EmbeddedS3, embedded_s3

if TYPE_CHECKING:
    from tests.moto_server import MotoBucket, MotoServer

# Of whoever makes a callback asyncio's debug mode keeps ten frames, of whoever makes a future or a task all of them: that
# takes up to half of the time of busy tests. One frame tells as much.
_extract = traceback.StackSummary.extract
traceback.StackSummary.extract = lambda frames, limit=None, **given: _extract(frames, limit=limit or 1, **given)
asyncio.constants.DEBUG_STACK_DEPTH = 1

_numbers = itertools.count(1)
#: Folders of the S3 server that are there before it starts are its buckets; more than the tests of one process use.
_BUCKETS = 500
_buckets = iter(range(_BUCKETS))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long forms of the tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        for item in items:
            if "soak" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="long; only with --soak"))


def pytest_collection_finish() -> None:
    """What is imported by now stays: without it a collection, which many tests ask for, takes a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_foreign_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests see nothing of this machine's databases, clouds and proxies."""
    for name in list(os.environ):
        if name.startswith(("PG", "AWS_", "ASYNCUP_", "GITHUB_", "GITLAB_")) or name.lower() in (
            "database_url",
            "ci",
            "http_proxy",
            "https_proxy",
            "columns",
            "lines",
        ):
            monkeypatch.delenv(name)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # a program that is started finds itself compiled
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call on the event loop, made by asyncup, fails the test."""
    if "blocking" in request.keywords:
        yield
        return
    with blockbuster_ctx("asyncup") as guard:
        for function in guard.functions.values():
            # where TLS is only preferred, asyncpg looks for a certificate of ours itself, once for each connection
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_arguments")
            # the loop of a thread that is made for blocking
            function.can_block_in("asyncup/sinks/s3/finding.py", "_look")
        yield


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder for the servers that any user can reach: as root, PostgreSQL runs as nobody."""
    with tempfile.TemporaryDirectory(prefix="asyncup-tests-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    with embedded_postgres(servers_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def s3(servers_folder: Path) -> Iterator[EmbeddedS3]:
    for number in range(_BUCKETS):
        (servers_folder / "s3" / f"bucket-{number}").mkdir(parents=True)
    with embedded_s3(servers_folder / "s3") as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    """The behaviour of S3 without its signatures. Importing it takes a second, so only those who need it do."""
    from tests.moto_server import moto_server

    with moto_server() as server:
        yield server


@pytest.fixture
def moto_bucket(moto: MotoServer) -> Iterator[MotoBucket]:
    with moto.bucket() as bucket:
        yield bucket


@dataclass(frozen=True)
class Database:
    """A database of a test's own."""

    server: EmbeddedPostgres
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn.rpartition("/")[0] + "/" + self.name

    def sql(self, text: str) -> str:
        """Run SQL through psql; columns separated by |, rows by newlines."""
        return self.server.psql(text, "-d", self.name)


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    postgres.psql(f"CREATE DATABASE {name} STRATEGY file_copy")  # half the work of logging every block
    yield Database(postgres, name)
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass(frozen=True)
class Bucket:
    """A bucket of a test's own; its objects are read as files, past every S3 client."""

    server: EmbeddedS3
    name: str

    @property
    def folder(self) -> Path:
        return self.server.folder / self.name

    def objects(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def bucket(s3: EmbeddedS3) -> Bucket:
    return Bucket(s3, f"bucket-{next(_buckets)}")


@dataclass
class Run:
    """A finished process of the installed program."""

    code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        (line,) = self.stdout.splitlines()
        value: dict[str, Any] = json.loads(line)
        return value


@dataclass
class Program:
    """The installed `asyncup`, run as a process in a folder of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "asyncup"), *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment, **environment, "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], timeout: float = 60) -> Run:
        stdout, stderr = process.communicate(timeout=timeout)
        return Run(process.returncode, stdout, stderr)

    def __call__(self, *arguments: str, **environment: str) -> Run:
        return self.finish(self.start(*arguments, **environment))

    def interrupt(self, process: subprocess.Popen[str], *, when: Any, signum: int = signal.SIGINT) -> None:
        """Send a signal as soon as `when()` is true."""
        deadline = time.monotonic() + 30
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the moment for the signal never came"
            time.sleep(0.01)
        process.send_signal(signum)


@pytest.fixture
def asyncup(tmp_path: Path) -> Iterator[Program]:
    """The program, without any connection."""
    folder = tmp_path / "work"
    folder.mkdir()
    program = Program(folder)
    yield program
    for process in program.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder for the demo that any user can reach."""
    with tempfile.TemporaryDirectory(prefix="asyncup-tests-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def connected(asyncup: Program, database: Database, bucket: Bucket) -> Program:
    """The program with a database and a bucket in its environment."""
    asyncup.environment = {
        **database.server.environment,
        "PGDATABASE": database.name,
        **bucket.server.environment,
    }
    return asyncup
