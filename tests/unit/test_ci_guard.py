"""Nothing that rows, servers and users' functions say is a command to the pipeline that reads it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.console.ci.guard import Guarded, guarded, harmless, unguarded
from asyncup.console.summary import as_line


def commands(log: str) -> list[str]:
    """The lines that GitHub's runner takes for commands, whatever their names, as ActionCommand.cs finds them."""
    found = []
    for line in re.split(r"\r\n|\r|\n", log):
        begin = line.lstrip()
        is_new = begin.startswith("::") and "::" in begin[2:]
        is_old = "##[" in line and "]" in line[line.index("##[") :]
        found += [line] if is_new or is_old else []
    return found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::set-output name=x::y", ": :set-output name=x::y"),
        ("  ::error::y\n\t::x::\n", "  : :error::y\n\t: :x::\n"),
        (":::error::y", ": ::error::y"),
        ("row (##[add-mask]y) failed", "row (# #[add-mask]y) failed"),
        ("###[group]y", "## #[group]y"),
        ("##vso[task.setvariable variable=x]y", "# #vso[task.setvariable variable=x]y"),
        ("##teamcity[message]", "# #teamcity[message]"),
        ("a\r::error::b", "a\\r::error::b"),
        ("\x1b[0Ksection_start:1:x\r\x1b[0Khidden", "section_start:1:x\\rhidden"),
        ("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "red link"),
        (":\x1b[0m:error::x", ": :error::x"),
        ("a\u2028::error::b\x07\x9b", "a\\u2028::error::b\\x07\\x9b"),
        ("an S3 key a::b, é and 日本, 50 % ## of", "an S3 key a::b, é and 日本, 50 % ## of"),
    ],
)
def test_what_would_be_a_command_is_text_and_text_stays_as_it_is(text: str, shown: str) -> None:
    assert harmless(text) == shown
    assert not commands(shown)


PIECES = st.lists(
    st.text(alphabet=st.sampled_from(":#[]e \t\n\r\x1bm\u00a0x"), max_size=8) | st.just("::error::"), max_size=12
)


@given(PIECES, st.sets(st.integers(0, 11)))
def test_however_it_is_written_piece_by_piece_and_flushed(pieces: list[str], flushed: set[int]) -> None:
    out = io.StringIO()
    stream = Guarded(out)
    for number, piece in enumerate(pieces):
        stream.write(piece)
        if number in flushed:
            stream.flush()
    stream.flush()
    assert commands(out.getvalue()) == []
    assert not set(out.getvalue()) & {"\r", "\x1b"}


def test_a_prompt_is_there_before_its_line_ends_and_a_long_line_is_not_held_for_ever() -> None:
    out = io.StringIO()
    stream = Guarded(out)
    stream.write("Name: ")
    assert out.getvalue() == ""
    stream.flush()
    assert out.getvalue() == "Name: "
    stream.write("x" * 100_000)
    assert len(out.getvalue()) > 100_000
    assert not stream.isatty()


def test_stdout_and_stderr_are_guarded_and_given_back_and_what_is_meant_goes_by() -> None:
    out, err = io.StringIO(), io.StringIO()
    before = sys.stdout, sys.stderr
    with guarded(out, err):
        print("::error::said")
        print("no end", end="")
        print("begun", end="", file=sys.stderr, flush=True)
        print("::notice::meant", file=unguarded(sys.stderr))
    assert (sys.stdout, sys.stderr) == before
    assert (out.getvalue(), err.getvalue()) == (": :error::said\nno end", "begun\n::notice::meant\n")
    assert unguarded(err) is err
    with contextlib.redirect_stderr(io.StringIO()) as kept, guarded(out, None):
        print("\x1b[1mlive\x1b[0m", file=sys.stderr)
    assert kept.getvalue() == "\x1b[1mlive\x1b[0m\n"


@given(st.text(alphabet="#[]v:x\n\\", max_size=30))
def test_json_says_the_same_without_a_command_in_it(text: str) -> None:
    line = as_line({"key": text, text: [text]})
    assert json.loads(line) == {"key": text, text: [text]}
    assert commands(line) == []
    assert harmless(line) == line
