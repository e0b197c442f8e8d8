"""What a person sees: the live view on a real (pseudo) terminal, plain lines elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
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


#: A shell that controls jobs: it comes back when its job is stopped, and then lets it go on.
SHELL = ["bash", "-c", 'exec <>"$(tty)"; set -m; "$@"; echo "stopped: $?"; fg', "shell"]


def on_terminal(
    program: Program,
    *arguments: str,
    columns: int,
    signum: int | None = None,
    keys: bytes = b"",
    codes: tuple[int, ...] = (0, 130),
    **environment: str,
) -> str:
    """Run on a terminal of that width; returns all that was written to it. As soon as rows are put, `signum` is sent or `keys` typed.

    With keys there is a shell between the terminal and the program.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        [*(SHELL if keys else []), str(Path(sys.executable).parent / "asyncup"), *arguments],
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
        if " put " in seen:
            if signum is not None:
                process.send_signal(signum)
            elif keys:
                os.write(ours, keys)
            signum, keys = None, b""
    os.close(ours)
    assert process.wait(30) in codes
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
    assert "of about 2,000" in text
    if columns == 120:
        assert re.search(r"in flight +\d+ of \d+, finding the level", text)
    last = text.splitlines()
    assert any(line.startswith("Complete: 2,000 rows") for line in last)
    assert last[-1] == f"  asyncup verify --table docs --to 's3://{bucket.name}/{{id}}'"
    frames, said = text[: text.index("Complete: ")].splitlines(), text[text.index("Complete: ") :].splitlines()
    assert all(len(line.strip("\r")) <= columns for line in (*frames, *said[:-1])), "nothing wraps but a command"


def test_ctrl_c_leaves_the_terminal_usable(connected: Program, docs: Database, bucket: Bucket) -> None:
    seen = on_terminal(
        connected, "sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", columns=100, signum=signal.SIGINT
    )
    assert seen.rindex(SHOW) > seen.rindex(HIDE)
    text = plain(seen)
    assert "SIGINT: reading has stopped" in text
    assert "Interrupted: " in text
    command = text.splitlines()[-1]
    assert command == f"  asyncup sync --table docs --to 's3://{bucket.name}/{{id}}'"
    assert connected(*shlex.split(command)[1:]).code == 0
    assert len(bucket.objects()) == 2000


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_it_at_once_leaves_a_cursor(
    connected: Program, docs: Database, bucket: Bucket, signum: int
) -> None:
    to = f"--to=s3://{bucket.name}/{{id}}"
    seen = on_terminal(connected, "sync", "--table=docs", to, columns=80, signum=signum, codes=(-signum,))
    assert seen.endswith(f"\r\x1b[J\x1b[?7h{SHOW}")


def test_while_it_is_stopped_the_terminal_is_the_shells_and_then_it_is_drawn_anew(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    to = f"--to=s3://{bucket.name}/{{id}}"
    seen = on_terminal(connected, "sync", "--table=docs", to, "--max-rate=500", columns=80, keys=b"\x1a")
    before, _, after = seen.partition("stopped: ")
    assert before.rindex(SHOW) > before.rindex(HIDE)
    assert HIDE in after
    assert after.rindex(SHOW) > after.rindex(HIDE)
    assert "Complete: 2,000 rows" in plain(after)


def test_a_run_goes_on_when_whoever_watched_it_has_gone(connected: Program, docs: Database) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    program = str(Path(sys.executable).parent / "asyncup")
    done = subprocess.run(
        [program, "sync", "--table=docs", "--to=null:"],
        check=False,
        cwd=connected.folder,
        env={**os.environ, **connected.environment},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    assert (done.returncode, done.stdout.splitlines()[0][:20]) == (0, "Complete: 2,000 rows")


def test_what_an_encoding_has_not_is_written_in_letters_that_it_has(connected: Program, docs: Database) -> None:
    for command, stream, said in (
        ("sync", "stderr", "public.docs -> null:, by id"),
        ("plan", "stdout", """  asyncup sync --table docs --where 'b <> '"'"'\\xe9->'"'"'' --to null:"""),
    ):
        run = connected(command, "--table=docs", "--to=null:", "--where=b <> 'é→'", PYTHONIOENCODING="ascii")
        assert run.code == 0, run.stderr
        assert getattr(run, stream).splitlines()[-1] == said


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": ""}, {"CI": "true"}])
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
