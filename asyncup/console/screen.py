"""The last lines of a terminal, which are redrawn in place; what is said scrolls by above them.

Between two drawings the cursor stands, hidden, at the beginning of the first of these lines. A terminal that becomes narrower
wraps what it shows, each in its own way, but every one keeps the cursor at the character where it was: so whatever became of
the lines is behind it, and the next drawing replaces just that. Lines are written with wrapping switched off (DECAWM,
https://vt100.net/docs/vt510-rm/DECAWM.html): one that is too long for the width of this very moment is cut, and the way back up
stays right. Nothing is erased before it is written over, and all of a drawing is one write: so nothing flickers.

The cursor is given back at the end, when the program is stopped (Ctrl-Z) or killed by what it does not take care of, and the lines are
drawn anew when it goes on. In the background nothing is drawn: the terminal is somebody else's then.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TextIO

from asyncup.console.terminal import let_go, terminal_size

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
_WRAP, _NO_WRAP = "\x1b[?7h", "\x1b[?7l"
_REST_OF_LINE, _REST_OF_SCREEN = "\x1b[K", "\x1b[J"
#: A terminal with fewer lines has none to leave empty.
_ROOMY = 10
#: What a program is stopped and ended by; the names that Windows does not have are left out.
_STOPS, _GOES_ON, _ENDS = "SIGTSTP", "SIGCONT", ("SIGHUP", "SIGQUIT")


class Screen:
    """A terminal that can redraw, behind `stream`. `size` gives its columns and lines.

    From `open` to `close` what is written to `sys.stderr`, by whichever thread, is said above the lines.
    """

    def __init__(self, stream: TextIO, size: Callable[[], tuple[int, int]] | None = None) -> None:
        self._stream = stream
        self._size = size or (lambda: terminal_size(stream))
        self._lock = threading.RLock()
        self._lines: tuple[str, ...] = ()
        self._drawn: tuple[tuple[str, ...], tuple[int, int]] | None = None
        self._is_open = False
        self._began_in = self._foreground()
        self._handlers: dict[int, Any] = {}
        self._above = _Above(self)
        self._logs: list[logging.StreamHandler[Any]] = []

    @property
    def width(self) -> int:
        """Columns that a line may have: the last one stays free, since some terminals wrap at it."""
        return max(1, self._size()[0] - 1)

    @property
    def height(self) -> int:
        """Lines that may be drawn: one is left for what was said, one empty between them, where there is room."""
        lines = self._size()[1]
        return max(1, lines - 2 if lines >= _ROOMY else lines - 1)

    def open(self) -> None:
        """Take the terminal over, and the signals for which it has to be given back."""
        self._is_open = True
        if sys.stderr is self._stream:
            sys.stderr = self._above
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(self._above)
                self._logs.append(handler)
        if threading.current_thread() is not threading.main_thread():
            return
        for name, answer in ((_STOPS, self._stop), (_GOES_ON, self._go_on), *((name, self._end) for name in _ENDS)):
            signum = getattr(signal, name, None)
            if signum is not None and signal.getsignal(signum) is signal.SIG_DFL:
                self._handlers[signum] = signal.signal(signum, answer)

    def close(self) -> None:
        """Give the terminal back: the lines are gone, the cursor is shown."""
        if not self._is_open:
            return
        self._above.finish()
        with self._lock:
            self._is_open = False
            if self._drawn is not None:
                self._write(f"\r{_REST_OF_SCREEN}{_WRAP}{SHOW}")
            self._lines, self._drawn = (), None
        for signum, before in self._handlers.items():
            signal.signal(signum, before)
        self._handlers.clear()
        for handler in self._logs:
            handler.setStream(self._stream)
        if sys.stderr is self._above:
            sys.stderr = self._stream

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, each of at most `width` columns, in place of those that were shown; none gives the terminal back."""
        with self._lock:
            self._lines = tuple(lines[: self.height])
            if not lines and self._drawn is not None:
                self._write(f"\r{_REST_OF_SCREEN}{SHOW}")
                self._drawn = None
            self._redraw()

    def say(self, text: str) -> None:
        """Let a text scroll by above the lines."""
        with self._lock:
            if self._drawn is None or not self._is_ours():
                self._write(f"{text}\n")
                return
            self._write(f"\r{_REST_OF_SCREEN}{_ended(text)}{self._frame() if self._drawn[0] else ''}")

    def _redraw(self) -> None:
        if not self._is_open or not self._is_ours():
            return
        size = self._size()
        if self._drawn is not None and size != self._drawn[1]:
            # it may go on becoming narrower, and each time what is shown is wrapped: until it has settled nothing is shown
            self._write(f"\r{_REST_OF_SCREEN}")
            self._drawn = ((), size)
        elif self._lines and (self._lines, size) != self._drawn:
            self._drawn = (self._lines, size)  # first, since a signal may come as soon as it is written
            self._write(self._frame())

    def _frame(self) -> str:
        """What draws the lines from where the cursor is, and leaves it there."""
        lines = ("", *self._lines) if self._size()[1] >= _ROOMY else self._lines
        text = f"{_REST_OF_LINE}\r\n".join(lines)
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        return f"{HIDE}{_NO_WRAP}\r{text}{_REST_OF_SCREEN}{up}\r{_WRAP}"

    def _is_ours(self) -> bool:
        """Whether the terminal is this program's, or that of the one which runs it and waits, and not a shell's."""
        group = self._foreground()
        if group is None or group == os.getpgrp():
            return True
        return group == self._began_in and group != os.getsid(0)

    def _foreground(self) -> int | None:
        """Which group of processes has the terminal; None where nobody knows, or it is not the one that controls us."""
        try:
            return os.tcgetpgrp(self._stream.fileno())
        except (OSError, ValueError, AttributeError):
            return None

    def _write(self, text: str) -> None:
        """Write, unless the terminal has gone: a run does not end for want of somebody who watches."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            let_go(self._stream)

    # --- signals, which come between any two lines of this ---------------------------------------------------------

    def release(self) -> None:
        """Give the terminal back at once, from wherever; the next drawing takes it over again."""
        if self._is_open and self._drawn is not None and self._is_ours():
            with contextlib.suppress(OSError, ValueError):
                os.write(self._stream.fileno(), f"\r{_REST_OF_SCREEN}{_WRAP}{SHOW}".encode())
        self._drawn = None

    def _stop(self, signum: int, _frame: FrameType | None) -> None:
        self.release()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)  # here it stands still, until it is told to go on
        signal.signal(signum, self._stop)
        self._go_on(signum, None)

    def _go_on(self, _signum: int, _frame: FrameType | None) -> None:
        self._drawn = None
        self._redraw()

    def _end(self, signum: int, _frame: FrameType | None) -> None:
        self.release()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _ended(text: str) -> str:
    return text.replace("\n", "\r\n") + "\r\n"


class _Above(io.TextIOBase):
    """Stands in for stderr: says whole lines above those that are drawn."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._screen._stream.encoding  # noqa: SLF001 - it stands in for it

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._screen._stream.errors  # noqa: SLF001 - the same

    def __getattr__(self, name: str) -> Any:
        return getattr(self._screen._stream, name)  # noqa: SLF001 - the same: `buffer`, for one

    def fileno(self) -> int:
        return self._screen._stream.fileno()  # noqa: SLF001 - the same

    def isatty(self) -> bool:
        return self._screen._stream.isatty()  # noqa: SLF001 - the same

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._screen._lock:  # noqa: SLF001 - two threads' lines are not to be mixed
            whole, newline, self._begun = (self._begun + text).rpartition("\n")
            if newline:
                self._screen.say(whole)
        return len(text)

    def finish(self) -> None:
        """Say what has no line end yet."""
        if self._begun:
            self.write("\n")
