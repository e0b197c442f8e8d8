"""What a person sees: the live view on a real (pseudo) terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.conftest import Bucket, Database, Program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no pty")

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def docs(database: Database) -> Database:
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, b text); INSERT INTO docs SELECT n, n FROM generate_series(1, 2000) n;"
        "ANALYZE docs"
    )
    return database


def on_terminal(program: Program, *arguments: str, columns: int, interrupt: bool = False, **environment: str) -> str:
    """Run on a terminal of that width; returns all that was written to it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "asyncup"), *arguments],
        cwd=program.folder,
        env={**os.environ, **program.environment, "TERM": "xterm-256color", **environment},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = ""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part.decode(errors="replace")
        if interrupt and " put " in seen:
            process.send_signal(signal.SIGINT)
            interrupt = False
    os.close(ours)
    assert process.wait(30) in (0, 130)
    return seen


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("columns", [40, 120])
def test_the_live_view_shows_where_the_run_stands_and_gives_the_terminal_back(
    connected: Program, docs: Database, bucket: Bucket, columns: int
) -> None:
    seen = on_terminal(connected, "sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", columns=columns)
    assert HIDE in seen
    assert seen.rindex(SHOW) > seen.rindex(HIDE)
    text = plain(seen)
    for words in ("objects/s", "put", "%"):
        assert words in text
    if columns == 120:
        assert " in flight (finding the level)" in text
        assert "of 2,000 rows by the planner's estimate" in text
    assert "Complete: 2,000 rows" in "".join(text.splitlines()[-5:-3])  # the event loop may have been late
    for line in text.splitlines():
        if "objects/s   " in line or " put   " in line:
            assert len(line.strip()) <= columns, "a line that is redrawn must not wrap"


def test_ctrl_c_leaves_the_terminal_usable(connected: Program, docs: Database, bucket: Bucket) -> None:
    seen = on_terminal(
        connected, "sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", columns=100, interrupt=True
    )
    assert seen.rindex(SHOW) > seen.rindex(HIDE)
    text = plain(seen)
    assert "SIGINT: reading has stopped" in text
    assert "Interrupted: " in text
    assert "Next: run the same command again; it resumes" in text or "it starts from the beginning" in text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"CI": "true"}])
def test_a_terminal_that_cannot_redraw_gets_plain_lines(
    connected: Program, docs: Database, environment: dict[str, str]
) -> None:
    seen = on_terminal(connected, "sync", "--table=docs", "--to=null:", columns=80, **environment)
    assert "\x1b" not in seen
    assert "public.docs → null:, by id" in seen


def test_no_color_is_honoured(connected: Program, docs: Database, bucket: Bucket) -> None:
    to = f"--to=s3://{bucket.name}/{{id}}"
    seen = on_terminal(connected, "sync", "--table=docs", to, columns=100, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", seen)
