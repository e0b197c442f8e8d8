"""Numbers, durations, errors and rows' own texts as people read them, on one line each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.console.plain import EventFilter, event_line
from asyncup.console.text import count, duration, error_lines, plural, shown, size
from asyncup.errors import AsyncupError, UsageError
from asyncup.events import Notice, RowFailed, Waiting
from asyncup.model import DeadLetter


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (1_500_000, "1.5 MB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (5 * 10**9, "5.0 GB"),
        (1234 * 10**12, "1234.0 TB"),
    ],
)
def test_sizes_are_decimal_and_never_a_thousand_of_a_unit(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.44, "0.4s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (3599.7, "1h00m"),
        (7620, "2h07m"),
        (360_000, "100h00m"),
    ],
)
def test_durations_have_two_units_at_most_and_none_overflows(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_are_grouped_and_nouns_agree() -> None:
    assert count(1234567) == "1,234,567"
    assert [plural(number, "row") for number in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]


@given(st.text())
def test_what_is_shown_is_printable_and_on_one_line(text: str) -> None:
    assert shown(text).isprintable()
    assert not text.isprintable() or shown(text) == text


def test_control_characters_are_shown_as_escapes() -> None:
    assert shown("a\nb\x1b[2J\u202e\udcff é") == "a\\nb\\x1b[2J\\u202e\\udcff é"


def test_an_error_says_what_was_wrong_where_and_what_to_do() -> None:
    error = UsageError("read flags", "--limit", "'x' is not a whole number", "such as --limit 10")
    assert error_lines(error) == [
        "error: 'x' is not a whole number",
        "  where: read flags --limit",
        "  hint:  such as --limit 10",
    ]
    assert error_lines(AsyncupError("connect", "", "no")) == ["error: no", "  where: connect"]


def test_an_error_s_own_line_ends_are_kept_and_cannot_look_like_lines_of_ours() -> None:
    error = AsyncupError("read", "t", "syntax error\nDETAIL: here\x1b[31m\n  hint:  rm -rf", None)
    lines = "\n".join(error_lines(error)).split("\n")
    assert lines[0] == "error: syntax error"
    assert lines[1].strip() == "DETAIL: here\\x1b[31m"
    assert sum(line.startswith("  hint:") for line in lines) == 0


def letter(key: tuple[str | None, ...]) -> RowFailed:
    return RowFailed(DeadLetter(key, None, "RowRefused", "render", "the object key is empty", 1, "now"))


def test_what_a_row_or_a_server_says_stays_within_its_line() -> None:
    lines = EventFilter()
    assert lines.line(letter(("1", None))) == "row (1, NULL) failed: the object key is empty"
    assert lines.line(letter(("a\nerror: forged\x1b[2J",))) == (
        "row (a\\nerror: forged\\x1b[2J) failed: the object key is empty"
    )
    assert lines.line(Notice("stale\ncollation")) == "warning: stale\\ncollation"
    assert lines.line(Notice("as it\nshould be", is_routine=True)) == "as it\\nshould be"
    waiting = lines.line(Waiting("put o: <html>\r\nbusy", 2.0, 9))
    assert waiting is not None
    assert waiting.isprintable()


def test_a_message_that_ends_like_a_sentence_goes_on_as_one() -> None:
    assert str(event_line(Waiting("connect t: not now.", 2.0, 3))).startswith("connect t: not now; trying again")


def test_a_transforms_line_is_named_and_its_first_traceback_shown_where_it_is_asked_for() -> None:
    text = (
        'Traceback (most recent call last):\n  File "/app/pages.py", line 12, in page\n    1 / 0\nZeroDivisionError: x'
    )
    letter = DeadLetter(("7",), "k", "TransformFailed", "transform", "ZeroDivisionError: x", 1, "", text)
    line = "row (7) failed: ZeroDivisionError: x (pages.py:12)"
    assert event_line(RowFailed(letter)) == line
    told = EventFilter(traces=True)
    first = told.line(RowFailed(letter))
    assert first is not None
    assert first.split("\n")[:2] == [line, "  Traceback (most recent call last):"]
    assert told.line(RowFailed(letter)) == line
