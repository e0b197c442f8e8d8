"""What the terminal behind a stream can do, how large it is, and what a person has said about colours."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from asyncup.console.text import wrapped

if sys.platform == "win32":
    import ctypes
    import msvcrt

#: Where nobody knows how large the terminal is.
_SIZE = (80, 24)
#: How lines of ours begin that say how bad it is, or what is to be done; that beginning gets a colour (SGR, ECMA-48 8.3.117).
_TINTS = {
    "error:": "1;31",
    "warning:": "33",
    "  where:": "2",
    "  hint:": "36",
    "Next:": "1;36",
    "Complete:": "1;32",
    "Same:": "1;32",
    "Ready;": "1;32",
    "Complete, but": "1;33",
    "Interrupted": "1;33",
    "Different:": "1;33",
    "Aborted": "1;31",
    "Refused": "1;31",
}


def can_redraw(stream: TextIO) -> bool:
    """Whether there is a terminal behind a stream that takes escape sequences."""
    try:
        return stream.isatty() and _takes_sequences(stream)
    except ValueError:  # it is closed
        return False


if sys.platform == "win32":

    def _takes_sequences(stream: TextIO) -> bool:
        """Whether a Windows console takes escape sequences; it is told to.

        https://learn.microsoft.com/windows/console/setconsolemode: 4 is ENABLE_VIRTUAL_TERMINAL_PROCESSING, which consoles
        before Windows 10 refuse.
        """
        kernel, mode = ctypes.windll.kernel32, ctypes.c_uint32()
        handle = msvcrt.get_osfhandle(stream.fileno())
        if not kernel.GetConsoleMode(handle, ctypes.byref(mode)):
            return False
        return bool(mode.value & 4 or kernel.SetConsoleMode(handle, mode.value | 4))

else:

    def _takes_sequences(_stream: TextIO) -> bool:
        """Whether the terminal takes escape sequences."""
        return os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def has_colours(stream: TextIO) -> bool:
    """Whether colours are wanted there: else than by the environment, on a terminal that takes them, not in CI.

    NO_COLOR (https://no-color.org) goes over FORCE_COLOR (https://force-color.org) and CLICOLOR_FORCE, those over CLICOLOR=0
    (https://bixense.com/clicolors).
    """
    environment = os.environ
    if environment.get("NO_COLOR"):
        return False
    if any(environment.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    if "0" in (environment.get("CLICOLOR"), environment.get("FORCE_COLOR")) or environment.get("CI"):
        return False
    return can_redraw(stream)


def terminal_size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal behind a stream, as they are now."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return _SIZE
    return size.columns or _SIZE[0], size.lines or _SIZE[1]


def columns_of(stream: TextIO) -> int | None:
    """The columns of the terminal behind a stream; None where there is none, and a line may be as long as it is."""
    try:
        return terminal_size(stream)[0] if stream.isatty() else None
    except ValueError:
        return None


def tinted(line: str, stream: TextIO) -> str:
    """A line of ours, with a colour where its beginning says how it is meant, if colours are wanted there."""
    for beginning, code in _TINTS.items():
        if line.startswith(beginning):
            return f"\x1b[{code}m{beginning}\x1b[0m{line[len(beginning) :]}" if has_colours(stream) else line
    return line


def write_line(stream: TextIO, line: str) -> None:
    """Write a line to a stream that people watch; where it takes no more, nothing does from now on.

    A run does not end because whoever watched it has gone: a pipe that is closed, a terminal that hung up, a disk that is full.
    """
    try:
        print(line, file=stream, flush=True)
    except OSError:
        let_go(stream)


def let_go(stream: TextIO) -> None:
    """Lead what is written to a stream from now on nowhere."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def say(line: str) -> None:
    """Print a line of the result, for people.

    Raises:
        OSError: stdout takes no more.
    """
    for part in wrapped(line, columns_of(sys.stdout)):
        print(tinted(part, sys.stdout), flush=True)


def complain(line: str) -> None:
    """Print a line on stderr, if there is still somebody there."""
    for part in wrapped(line, columns_of(sys.stderr)):
        write_line(sys.stderr, tinted(part, sys.stderr))
