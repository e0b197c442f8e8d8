"""The lines that are redrawn: in their place whatever becomes of the terminal, and given back whatever becomes of the run."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.console.opening import Opening
from asyncup.console.screen import HIDE, SHOW, Screen
from asyncup.console.terminal import can_redraw, columns_of, has_colours, tinted, write_line

_SEQUENCE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")


class Terminal(io.StringIO):
    """A terminal that wraps what it shows anew when it is resized, and keeps the cursor at its character, as most do.

    Lines are (text, whether the line goes on in the next). What has scrolled off is kept.
    """

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self.width, self.height = width, height
        self.lines: list[tuple[str, bool]] = [("", False)]
        self.row = self.column = 0
        self.wraps = self.is_shown = True

    def write(self, text: str) -> int:
        position = 0
        while position < len(text):
            found = _SEQUENCE.match(text, position)
            if found is not None:
                self._control(found[1], found[2])
                position = found.end()
            else:
                self._put(text[position])
                position += 1
        return len(text)

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":  # as with ONLCR
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.lines):
                self.lines.append(("", False))
        else:
            if self.column == self.width and self.wraps:
                self.lines[self.row] = (self.lines[self.row][0], True)
                self._put("\n")
            self.column = min(self.column, self.width - 1)
            line, goes_on = self.lines[self.row]
            line = line.ljust(self.column)
            self.lines[self.row] = (line[: self.column] + char + line[self.column + 1 :], goes_on)
            self.column += 1

    def _control(self, number: str, letter: str) -> None:
        if letter in "KJ":
            self.lines[self.row] = (self.lines[self.row][0][: self.column], False)
            if letter == "J":
                del self.lines[self.row + 1 :]
        elif letter == "A":
            self.row = max(self.row - int(number), 0, len(self.lines) - self.height)
        elif (number, letter) in (("?7", "l"), ("?7", "h")):
            self.wraps = letter == "h"
        elif (number, letter) in (("?25", "l"), ("?25", "h")):
            self.is_shown = letter == "h"
        elif letter != "m":
            raise AssertionError(f"{number}{letter}")

    def resize(self, width: int, height: int) -> None:
        whole, at, open_ = [], (0, 0), False
        for number, (line, goes_on) in enumerate(self.lines):
            if not open_:
                whole.append("")
            if number == self.row:
                at = (len(whole) - 1, len(whole[-1]) + self.column)
            whole[-1] += line
            open_ = goes_on
        self.width, self.height, self.lines = width, height, []
        for number, line in enumerate(whole):
            parts = [line[start : start + width] for start in range(0, max(1, len(line)), width)]
            if number == at[0]:
                self.row, self.column = len(self.lines) + min(at[1] // width, len(parts) - 1), at[1] % width
            self.lines += [(part, index < len(parts) - 1) for index, part in enumerate(parts)]

    @property
    def text(self) -> list[str]:
        """What is shown, as it was before it was wrapped."""
        whole, open_ = [""], True
        for line, goes_on in self.lines:
            whole[-1 if open_ else len(whole) :] = [(whole[-1] if open_ else "") + line]
            open_ = goes_on
        return whole


sizes = st.tuples(st.integers(8, 120), st.integers(12, 40))
actions = st.one_of(
    st.tuples(st.just("resize"), sizes),
    st.tuples(st.just("draw"), st.integers(1, 6)),
    st.tuples(st.just("say"), st.text("abc", min_size=1, max_size=200)),
)


@given(sizes, st.lists(actions, max_size=30))
def test_whatever_the_terminal_becomes_nothing_is_left_of_what_was_drawn_before(
    size: tuple[int, int], actions_: list[tuple[str, object]]
) -> None:
    terminal = Terminal(*size)
    screen = Screen(terminal, lambda: (terminal.width, terminal.height))
    screen.open()
    said: list[str] = []
    for number, (what, value) in enumerate(actions_):
        if what == "resize":
            terminal.resize(*value)  # type: ignore[misc]
        elif what == "say":
            screen.say(str(value))
            said.append(str(value))
        else:
            lines = [
                f"{number} {line} figures figures figures figures"[: screen.width] for line in range(int(str(value)))
            ]
            screen.draw(lines)
            if terminal.text == [*said, ""]:  # it was resized since
                screen.draw(lines)
            assert terminal.text == [*said, "", *lines]
            assert not terminal.is_shown
    screen.close()
    assert terminal.text == [*said, ""]
    assert terminal.is_shown
    assert terminal.wraps


def test_while_the_terminal_is_being_resized_nothing_is_shown_that_could_be_wrapped() -> None:
    terminal = Terminal(80, 24)
    screen = Screen(terminal, lambda: (terminal.width, terminal.height))
    screen.open()
    screen.draw(["wide " * 15])
    for width in (60, 50, 40):
        terminal.resize(width, 24)
        screen.draw(["wide " * 7])
        assert terminal.text == [""]
        assert not terminal.is_shown
    screen.say("said meanwhile")
    screen.draw(["wide " * 7])
    assert terminal.text == ["said meanwhile", "", "wide " * 7]
    screen.close()


@pytest.fixture
def screen() -> Iterator[tuple[Screen, io.StringIO]]:
    stream = io.StringIO()
    screen = Screen(stream, lambda: (40, 24))
    screen.open()
    yield screen, stream
    screen.close()


def test_nothing_is_written_where_nothing_has_changed(screen: tuple[Screen, io.StringIO]) -> None:
    screen[0].draw(["same"])
    before = screen[1].getvalue()
    screen[0].draw(["same"])
    assert screen[1].getvalue() == before
    screen[0].draw(["other"])
    assert "\x1b[2J" not in screen[1].getvalue()
    assert screen[1].getvalue().index("other") < screen[1].getvalue().rindex("\x1b[J"), (
        "written over, then the rest erased"
    )


def test_no_more_is_drawn_than_there_are_lines() -> None:
    for height, most in ((24, 22), (10, 8), (9, 8), (5, 4), (2, 1), (1, 1)):
        terminal = Terminal(40, height)
        screen = Screen(terminal, lambda height=height: (40, height))  # type: ignore[misc]
        screen.open()
        screen.draw([f"line {number}" for number in range(50)])
        shown = [line for line in terminal.text if line]
        screen.close()
        assert len(shown) == most


def test_what_others_write_to_stderr_is_said_above_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(80, 24)
    monkeypatch.setattr(sys, "stderr", terminal)
    log = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(log)
    screen = Screen(terminal, lambda: (80, 24))
    screen.open()
    screen.draw(["frame"])
    print("half a ", end="", file=sys.stderr)
    print("line", file=sys.stderr)
    logging.getLogger("test").warning("logged")
    print("no end", end="", file=sys.stderr)
    assert terminal.text == ["half a line", "logged", "", "frame"]
    screen.close()
    logging.getLogger().removeHandler(log)
    assert sys.stderr is terminal
    assert log.stream is terminal
    assert terminal.text == ["half a line", "logged", "no end", ""]


def test_before_a_run_begins_something_is_shown_and_then_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.console.opening.QUIET_SECONDS", 0.0)
    said: list[str] = []
    opening = Opening(said.append)
    while not said:
        opening.tell("listing")
    opening.end()
    opening.end()
    assert said[0] in ("connecting …", "listing …")
    assert said[-1] == ""
    assert said.count("") == 1


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colours", "redraws"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1", "FORCE_COLOR": "1"}, False, True),
        ({"TERM": "xterm", "CLICOLOR": "0"}, False, True),
        ({"TERM": "xterm", "FORCE_COLOR": "0"}, False, True),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, False),
        ({"TERM": "dumb", "CLICOLOR_FORCE": "1"}, True, False),
        ({"TERM": "xterm", "CI": "true"}, False, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": ""}, False, False),
        ({}, False, False),
    ],
)
def test_colours_are_as_the_environment_wants_them(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colours: bool, redraws: bool
) -> None:
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_colours(Tty()) == colours
    assert can_redraw(Tty()) == redraws
    assert not can_redraw(io.StringIO())
    assert ("\x1b[" in tinted("error: no", Tty())) == colours
    assert tinted("an error: no", Tty()) == "an error: no"


def test_a_pipe_has_no_columns_and_a_terminal_of_unknown_size_has_eighty() -> None:
    assert columns_of(io.StringIO()) is None
    assert columns_of(Tty()) == 80


def test_where_nobody_listens_any_more_nothing_goes_wrong() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as stream:
        write_line(stream, "nobody hears that")
        write_line(stream, "nor this")
        lost = Screen(stream, lambda: (40, 24))
        lost.open()
        lost.draw(["nor sees this"])
        lost.close()


def test_the_cursor_is_hidden_only_while_something_is_drawn(screen: tuple[Screen, io.StringIO]) -> None:
    screen[0].say("said")
    assert screen[1].getvalue() == "said\n"
    screen[0].draw(["frame"])
    screen[0].draw([])
    assert screen[1].getvalue().rindex(SHOW) > screen[1].getvalue().rindex(HIDE)
    screen[0].close()
    assert screen[1].getvalue().count(SHOW) == 1
