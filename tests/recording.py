"""Runs the demo's scenarios, the first and the last on a terminal of its own, and writes what was to be seen to docs/scenarios.md."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import fcntl
import os
import platform
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte

PAGE = Path(__file__).parents[1] / "docs" / "scenarios.md"
COLUMNS, LINES, KEPT = 110, 50, 2_000
_FOLDER = re.compile(r"/tmp/asyncup-demo-\w+")
_SHARE = re.compile(r"(\d+)%")

INTRODUCTION = """\
# Three scenarios, recorded

asyncup on a terminal, as a step of a pipeline, and as a benchmark before a big run. Each is a run of the demo on this date, by
`scripts/record`: a PostgreSQL 18 with every file of Python's standard library in a table, an S3 server that checks signatures,
and nothing left out but the name of the temporary folder. Run one yourself with `scripts/demo --scenario NAME`.

Recorded on {date}, with Python {python}, on {cores} cores of {machine}.
"""
TEXTS = {
    "terminal": (
        "On a terminal",
        "The live view is at the bottom of the screen while it runs, here with about a third of the rows settled:",
        "And at the end:",
    ),
    "ci": (
        "As a step of a pipeline",
        """\
With `GITHUB_ACTIONS=true`, as on GitHub; `--ci` does the same elsewhere, without what only GitHub reads. One row has a path that
no object key may have, so the exit code is 3. Lines that begin with `::` are annotations; the step's outputs and its summary follow:""",
        "",
    ),
    "benchmark": (
        "As a benchmark",
        "`asyncup bench` before the run, against a simulator that answers after 30 ms and takes 3,500 requests a second:",
        "",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/record", description=__doc__)
    parser.add_argument("--rows", help="of the demo; all of them without it")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    more = ["--rows", options.rows] if options.rows else []
    sections = []
    for name, (title, before, behind) in TEXTS.items():
        command = [str(Path(sys.executable).parent / "asyncup"), "demo", "--scenario", name, *more]
        if name == "ci":
            sections.append([f"## {title}", before, _block(_piped(command))])
        else:
            middle, end = _on_a_terminal(command)
            shown = [_block(middle), behind] if behind else []
            sections.append([f"## {title}", before, *shown, _block(end)])
        print(f"{name}: recorded", flush=True)
    introduction = INTRODUCTION.format(
        date=dt.datetime.now(dt.UTC).date(),
        python=platform.python_version(),
        cores=os.cpu_count(),
        machine=_processor(),
    )
    options.page.write_text(
        "\n\n".join([introduction.rstrip(), *("\n\n".join(section) for section in sections)]) + "\n"
    )


def _block(text: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}\n{_FOLDER.sub('/tmp/asyncup-demo', text).rstrip()}\n{fence}"


def _piped(command: list[str]) -> str:
    run = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    _check(run.returncode, run.stdout)
    return run.stdout


def _on_a_terminal(command: list[str]) -> tuple[str, str]:
    """The screen when about a third was done, and all that was to be seen at the end."""
    screen = pyte.HistoryScreen(COLUMNS, LINES, history=KEPT, ratio=1.0)
    stream = pyte.ByteStream(screen)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS", "NO_COLOR")
    }
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    os.close(slave)
    middle = ""
    with contextlib.suppress(OSError):  # the other end is closed
        while data := os.read(master, 65536):
            stream.feed(data)
            seen = "\n".join(line.rstrip() for line in screen.display).strip()
            share = _SHARE.search(seen)
            if not middle and share is not None and 30 <= int(share[1]) < 100 and "in flight" in seen:
                middle = seen
    os.close(master)
    code = process.wait(300)
    above = ["".join(line[column].data for column in range(COLUMNS)).rstrip() for line in screen.history.top]
    end = "\n".join([*above, *(line.rstrip() for line in screen.display)])
    _check(code, end)
    return middle, end


def _check(code: int, text: str) -> None:
    if code:
        raise SystemExit(f"the demo ended with exit code {code}:\n{text}")


def _processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found is not None:
            return found[1]
    return platform.machine()


if __name__ == "__main__":
    main()
