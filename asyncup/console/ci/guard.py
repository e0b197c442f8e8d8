"""Streams on which nothing can steer the pipeline that reads them, whatever rows, servers and functions of users say.

GitHub takes a line of stdout or stderr for a command where it begins with `::name` behind blanks, and where it has `##[name]`
anywhere (ActionCommand.TryParseV2 and TryParse of https://github.com/actions/runner). Azure Pipelines looks for `##vso[`,
TeamCity for `##teamcity[`, GitLab for markers of sections that end in a carriage return. So colours are left out, other
control characters are written as Python writes them, and one blank makes a text of a command.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, TextIO, cast

_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_BEGIN = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
#: How commands begin that may stand anywhere in a line.
WITHIN = re.compile(r"##(?=\w*\[)")
#: So much of a line without an end is held.
_HELD = 1 << 16


def harmless(text: str) -> str:
    """A text, from the begin of a line, that is none to a terminal or a pipeline but text."""
    text = _CONTROL.sub(lambda found: repr(found[0])[1:-1], _ESCAPE.sub("", text))
    return WITHIN.sub("# #", _BEGIN.sub(r"\1: ", text))


class Guarded:
    """Writes what is harmless to a stream, line by line; of a line that has no end yet, what is flushed."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.encoding, self.errors = stream.encoding, stream.errors
        self._held = ""
        self._written = ""  # of the line that has been begun

    def write(self, text: str) -> int:
        *lines, self._held = (self._held + text.replace("\r\n", "\n")).split("\n")
        for line in lines:
            self.stream.write(self._rest(line) + "\n")
            self._written = ""
        if len(self._held) > _HELD:
            self.flush()
        return len(text)

    def flush(self) -> None:
        if self._held:
            self.stream.write(self._rest(self._held))
            self._written = (self._written + self._held)[:_HELD]
            self._held = ""
        self.stream.flush()

    def end_line(self) -> None:
        """End what was begun and has no end yet."""
        if self._written or self._held:
            self.write("\n")

    def isatty(self) -> bool:
        """A step has no terminal, even where its stderr is one."""
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()

    def _rest(self, text: str) -> str:
        """What is to be written of the end of a line whose begin was written."""
        begun, whole = harmless(self._written), harmless(self._written + text)
        return whole.removeprefix(begun) if whole.startswith(begun) else f" {harmless(text)}"


class Meant:
    """Writes to a guarded stream what is meant to be a command, each on a line of its own."""

    def __init__(self, guard: Guarded) -> None:
        self._guard = guard
        self.encoding, self.errors = guard.encoding, guard.errors

    def write(self, text: str) -> int:
        self._guard.end_line()
        return self._guard.stream.write(text)

    def flush(self) -> None:
        self._guard.stream.flush()

    def fileno(self) -> int:
        return self._guard.fileno()


def unguarded(stream: TextIO) -> TextIO:
    """Where commands go that are meant."""
    found: Any = stream
    return cast("TextIO", Meant(found)) if isinstance(found, Guarded) else stream


@contextlib.contextmanager
def guarded(stdout: TextIO, stderr: TextIO | None) -> Iterator[None]:
    """Nothing but text is written to stdout, nor to stderr, where it is given, as long as this is open."""
    out, err = Guarded(stdout), None if stderr is None else Guarded(stderr)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(cast("TextIO", out)))
        if err is not None:
            stack.enter_context(contextlib.redirect_stderr(cast("TextIO", err)))
        try:
            yield
        finally:
            if err is not None:
                with contextlib.suppress(OSError):  # whoever watched has gone
                    err.flush()
            out.flush()
