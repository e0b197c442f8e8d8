"""README.md and docs/ are true: every command in them is run and ends with 0, every file in them is read, and what they show is said.

Each page is played from its top, in a folder, a database and buckets of its own: exports, files and commands as they stand there, in
this process, since one of their own would prove no more. What cannot be run is named here with the reason; a name that no page needs
any more is an error. Blocks of `text` are what the block above them says.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import inspect
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import asyncup as library
import asyncup.sinks.s3  # now: imported by a command, it would hold the loop
from asyncup.cli import commands, main
from asyncup.cli.commands import COMMANDS
from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.embedded.s3 import EmbeddedS3
from tests.conftest import Bucket, Database, _buckets, _numbers
from tests.pages import (
    PLAYED,
    REDIRECTIONS,
    ROOT,
    Block,
    blocks,
    build,
    commands_of,
    means,
    parse,
    parse_script,
    split,
    without_comment,
    words_of,
)

#: Programs that are not run, and why.
FOREIGN = {
    "pip": "installs from the network",
    "~/asyncup-venv/bin/pip": "the same",
    "python3": "makes a virtual environment",
    ".": "enters a virtual environment",
    "kubectl": "there is no cluster here",
    "docker": "there are no containers here",
    "curl": "asks a run that is under way; the tests of metrics ask one",
    "kill": "signals a run that is under way; the tests of signals do",
    "py-spy": "no part of this project",
}
#: Pages that speak of jobs which another page has written: they get its file.
JOBS = {"docs/operations.md": "docs/jobs.md", "docs/report.md": "docs/jobs.md"}
#: Commands of asyncup that are parsed and not run, and why; of those with an … how they begin.
PARSED = {
    "asyncup demo --rows 300 --keep /tmp/asyncup-demo": "starts servers; test_program runs it",
    "asyncup init": "asks on a terminal; test_terminal answers",
    "asyncup bench …": "measures for half a minute; its own tests run it",
}
#: SQL that is not run, by its first line, and why.
SQL_NOT_RUN = {
    "-- duckdb": "another database's",
    "GRANT CONNECT ON DATABASE db TO asyncup_reader;": "roles are the whole server's; test_privileges has them",
}
LANGUAGES = {"sh", "python", "toml", "yaml", "json", "sql", "text", ""}
SCHEMA = """
CREATE TABLE documents (
    id bigint PRIMARY KEY, title text, author text, mime text, created timestamptz NOT NULL DEFAULT now(), content bytea
);
INSERT INTO documents SELECT n, 'Title ' || n, 'Ann', 'application/pdf', '2026-01-01'::timestamptz + n * interval '1 day',
    convert_to(repeat('document ' || n, 260), 'UTF8') FROM generate_series(1, 120) n;
CREATE TABLE pages (
    slug text PRIMARY KEY, title text NOT NULL, payload jsonb NOT NULL, live bool NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO pages SELECT 'page-' || n, 'Page ' || n, jsonb_build_object('n', n), n > 5 FROM generate_series(1, 120) n;
CREATE INDEX ON pages (updated_at, slug);
CREATE TABLE events (id bigint PRIMARY KEY, day date NOT NULL, region text NOT NULL, payload jsonb);
INSERT INTO events SELECT n, '2026-01-01'::date + (n / 20)::int, 'eu', '{}' FROM generate_series(1, 60) n;
CREATE INDEX ON events (day, id);
CREATE TABLE files (id bigint PRIMARY KEY, path text NOT NULL, mime text NOT NULL, content bytea NOT NULL);
INSERT INTO files SELECT n, 'lib/' || n || '.py', 'text/x-python', '#' FROM generate_series(1, 20) n;
CREATE SCHEMA sales;
CREATE TABLE sales.pages (id bigint PRIMARY KEY, title text);
ANALYZE;
"""


@contextlib.contextmanager
def as_a_process(argv: list[str], folder: Path) -> Iterator[None]:
    """Leave nothing of what a command does to its process; modules that lie in `folder` are its own."""
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    before, thresholds, paths, modules = sys.argv, gc.get_threshold(), list(sys.path), set(sys.modules)
    sys.argv = argv
    try:
        yield
    finally:
        sys.argv, sys.path[:] = before, paths
        gc.set_threshold(*thresholds)
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


@dataclass
class Play:
    """One page, played: what it exports and what its commands said."""

    page: str
    folder: Path
    database: Database
    s3: EmbeddedS3
    environment: dict[str, str]
    buckets: dict[str, str] = field(default_factory=dict)
    said: str = ""
    unheard: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        """A text with this machine's servers in place of those of the page."""

        def bucket(found: re.Match[str]) -> str:
            name = found[2]
            if name not in self.buckets:
                self.buckets[name] = Bucket(self.s3, f"bucket-{next(_buckets)}").name
            return found[1] + self.buckets[name]

        text = re.sub(r"(s3://)([a-z0-9][a-z0-9-]+|b(?=/))(?![\w.])", bucket, text)
        text = re.sub(r'(")(bucket)(?=")', bucket, text)
        text = re.sub(r"postgresql://[^\s\"'$]*(\$\{DB_PASSWORD\}[^\s\"']*)?", self.database.dsn, text)
        text = text.replace("http://127.0.0.1:9000", self.s3.endpoint_url)
        text = text.replace("file:///srv/", f"file://{self.folder}/")
        return re.sub(r"(--metrics[ =]):9464", r"\g<1>127.0.0.1:0", text)

    def there(self, text: str) -> str:
        """What was said, in the names of the page."""
        for name, bucket in self.buckets.items():
            text = re.sub(rf"\b{bucket}\b", name, text)
        return text

    def block(self, block: Block) -> None:
        if (play := getattr(self, block.language, None)) is not None:
            play(block)

    def sh(self, block: Block) -> None:
        self.said = ""
        for line in commands_of(block.text):
            self.line(line)

    def sql(self, block: Block) -> None:
        if block.text.splitlines()[0] not in SQL_NOT_RUN:
            for statement in filter(None, map(str.strip, block.text.split(";"))):  # VACUUM has to be alone
                self.database.sql(statement)

    def json(self, block: Block) -> None:
        json.loads(block.text)

    def yaml(self, block: Block) -> None:
        for document in yaml.safe_load_all(block.text):
            self.manifest(document)

    def line(self, line: str) -> None:
        for command in split(words_of(self.here(line), self.environment), "&&"):
            said = ""
            for words in split(command, "|"):
                said = self.command(words, said, line)
            self.said += said

    def command(self, words: list[str], stdin: str, line: str) -> str:
        """Run one command; returns what it says on stdout, and on stderr where that is sent there."""
        redirected: dict[str, tuple[str, str]] = {}
        while len(words) > 2 and words[-2] in REDIRECTIONS:
            *words, how, where = words
            stream = words.pop() if words[-1] in ("1", "2") and words[-2] not in REDIRECTIONS else "1"
            redirected[stream] = (how, where)
        stdout, stderr = self.run(words[0], words[1:], stdin, line)
        for stream, (how, where) in redirected.items():
            if how == ">&":
                stdout += stderr
                continue
            with (self.folder / where).open("a" if how == ">>" else "w") as file:
                file.write(stdout if stream == "1" else stderr)
            stdout = "" if stream == "1" else stdout
        return stdout

    def run(self, name: str, arguments: list[str], stdin: str, line: str) -> tuple[str, str]:
        if name == "asyncup":
            return self.asyncup(arguments, line)
        if name == "jq":
            return self.jq(arguments, stdin), ""
        if name == "export":
            for variable, value in (word.split("=", 1) for word in arguments):
                if variable != "DATABASE_URL" and not variable.startswith("AWS_"):
                    self.environment[variable] = os.environ[variable] = value
        elif name == "mkdir":
            (self.folder / arguments[0]).mkdir()
        elif name == "cd":
            self.folder /= arguments[0]
            os.chdir(self.folder)
        elif name.startswith("scripts/"):
            assert os.access(ROOT / name, os.X_OK), line
        else:
            assert name in FOREIGN, f"{self.page}: {line}: how is {name} run?"
            inner = arguments[arguments.index("asyncup") + 1 :] if "asyncup" in arguments else []
            if inner and inner[0] in COMMANDS:  # of an image
                parse(inner)
        return "", ""

    def asyncup(self, arguments: list[str], line: str) -> tuple[str, str]:
        bare = without_comment(line)
        if any(means(command, bare) for command in PARSED):
            parse(arguments)
            return "", ""
        stdout, stderr = io.StringIO(), io.StringIO()
        with (
            as_a_process(["asyncup", *arguments], self.folder),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            code = main.run(arguments)
        assert code == 0, f"{self.page}: {line}\n{stdout.getvalue()}\n{stderr.getvalue()}"
        return stdout.getvalue(), stderr.getvalue()

    def jq(self, arguments: list[str], stdin: str) -> str:
        if shutil.which("jq") is None:
            self.unheard.append(shlex.join(["jq", *arguments]))
            return ""
        done = subprocess.run(
            ["jq", *arguments], input=stdin, capture_output=True, text=True, cwd=self.folder, check=False
        )
        assert done.returncode == 0, f"{self.page}: jq {arguments}: {done.stderr}"
        return done.stdout

    def text(self, block: Block) -> None:
        """See that the block before said these lines; `…` stands for what is different each time."""
        said = self.there(self.said).splitlines()
        for line in block.text.splitlines():
            pattern = ".*".join(map(re.escape, line.split("…")))
            assert any(re.fullmatch(pattern, other.rstrip()) for other in said), f"{self.page}: {line}\n{self.said}"

    def toml(self, block: Block) -> None:
        found = tomllib.loads(block.text)
        if not found.keys() & {"defaults", "jobs"}:
            return
        path = self.folder / "asyncup.toml"
        if self.page == "docs/quickstart.md":  # it shows what init wrote
            assert tomllib.loads(path.read_text()) == tomllib.loads(self.here(block.text))
        path.write_text(self.here(block.text))

    def python(self, block: Block) -> None:
        """Keep a module where the text says so; run what awaits; see that all else is Python."""
        code = compile(self.here(block.text), self.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.here(block.text))
        elif code.co_flags & inspect.CO_COROUTINE and self.page != "docs/library.md":  # test_library_docs runs that
            names = {"asyncup": library, "upload": lambda item: item, "rows": range(3)}
            asyncio.run(eval(code, names))

    def manifest(self, value: Any) -> None:
        """Run what containers run, and parse every other command of asyncup in a manifest or a pipeline."""
        if isinstance(value, dict):
            if "asyncup.toml" in value:
                (self.folder / "mounted.toml").write_text(self.here(value["asyncup.toml"]))
            if "asyncup" in str(value.get("image", "")) and "args" in value:
                line = self.here(shlex.join(map(str, value["args"])))
                line = line.replace("$(JOB_COMPLETION_INDEX)", "0").replace("/etc/asyncup/asyncup.toml", "mounted.toml")
                self.asyncup(shlex.split(line), line)
            for inner in value.values():
                self.manifest(inner)
        elif isinstance(value, list):
            for inner in value:
                self.manifest(inner)
        elif isinstance(value, str):
            parse_script(value)


@pytest.fixture(scope="module")
def template(postgres: EmbeddedPostgres) -> str:
    """A database with the tables that the pages speak of."""
    name = f"documentation_{next(_numbers)}"
    postgres.psql(f"CREATE DATABASE {name}")
    postgres.psql(SCHEMA, "-d", name)
    return name


@pytest.fixture
def play(
    request: pytest.FixtureRequest,
    template: str,
    postgres: EmbeddedPostgres,
    s3: EmbeddedS3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Play]:
    name = f"test_{next(_numbers)}"
    postgres.psql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    database = Database(postgres, name)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(commands, "build", build)
    environment = {"DATABASE_URL": database.dsn, **s3.environment, "PWD": str(folder)}
    before = dict(os.environ)
    os.environ.update(environment)
    yield Play(request.param, folder, database, s3, environment)
    os.environ.clear()
    os.environ.update(before)
    postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("play", PLAYED, indirect=True)
def test_a_page_does_what_it_says(play: Play) -> None:
    if (other := JOBS.get(play.page)) is not None:
        play.toml(next(block for block in blocks(other) if block.language == "toml"))
    for block in blocks(play.page):
        assert block.language in LANGUAGES, f"{play.page}:{block.line}: {block.language}"
        play.block(block)
    if play.unheard:
        pytest.skip(f"jq is not installed: {', '.join(play.unheard)}")


def test_exceptions_are_needed() -> None:
    scripts = [
        line for page in PLAYED for block in blocks(page) if block.language == "sh" for line in commands_of(block.text)
    ]
    lines = {without_comment(line) for line in scripts}
    assert set(FOREIGN) <= {line.split()[0] for line in lines}
    assert set(JOBS) <= set(PLAYED)
    assert [command for command in PARSED if not any(means(command, line) for line in lines)] == []
    firsts = {block.text.splitlines()[0] for page in PLAYED for block in blocks(page) if block.language == "sql"}
    assert set(SQL_NOT_RUN) <= firsts
