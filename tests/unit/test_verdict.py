"""A verdict's exit code, and what a person reads of it."""

from __future__ import annotations

import pytest

from asyncup.compare.index import ObjectIndex
from asyncup.compare.verifying import Differences
from asyncup.console.verdict import SHOWN, verdict_lines
from asyncup.errors import DestinationRefused, Unreachable
from asyncup.model import DeadLetter
from asyncup.report import Difference, Verdict

REFUSED = DestinationRefused("list", "s3://bucket", "no")
AWAY = Unreachable("list", "s3://bucket", "nobody answers")


@pytest.mark.parametrize(
    ("verdict", "code", "status"),
    [
        (Verdict(complete=True), 0, "same"),
        (Verdict(complete=True, missing=1), 4, "different"),
        (Verdict(complete=True, different=1), 4, "different"),
        (Verdict(complete=True, extra=1), 4, "different"),
        (Verdict(missing=1), 1, "aborted"),
        (Verdict(error=REFUSED), 2, "aborted"),
        (Verdict(error=AWAY, missing=1), 1, "aborted"),
        (Verdict(error=AWAY, signal=2), 1, "aborted"),
        (Verdict(signal=2), 130, "aborted"),
        (Verdict(signal=15, missing=1), 143, "aborted"),
        (Verdict(complete=True, signal=2), 0, "same"),  # the signal came when all was compared
    ],
)
def test_the_exit_code_says_what_came_of_it(verdict: Verdict, code: int, status: str) -> None:
    assert (verdict.exit_code, verdict.status, verdict.to_json()["status"]) == (code, status, status)


def test_what_could_only_be_compared_by_size_is_said() -> None:
    (opening, by_size) = verdict_lines(Verdict(complete=True, rows=3, objects=3, by_size=2, seconds=1.0))
    assert opening == "Same: 3 rows and 3 objects in 1.0s: 0 missing, 0 different, 0 extra"
    assert by_size.startswith("  2 objects compared by size alone")
    assert "--deep" in by_size


def test_the_first_differences_are_shown_and_the_others_counted() -> None:
    differences = (
        Difference("different", ("1", None), "a\x1b[31m", "it has 1 byte\nand more"),
        *[Difference("missing", (str(number),), f"key {number}", "") for number in range(SHOWN)],
    )
    lines = verdict_lines(
        Verdict(complete=True, rows=30, missing=24, different=1, extra=5, differences=differences, seconds=1.0)
    )
    assert lines[1] == "  different a\\x1b[31m (row 1, NULL): it has 1 byte\\nand more"
    assert lines[2] == "  missing   key 0 (row 0)"
    assert lines[SHOWN + 1] == f"  and {30 - SHOWN} more; --output json has the first 1,000"
    assert len(lines) == SHOWN + 3


async def test_the_rows_of_a_pack_are_one_difference() -> None:
    found = Differences(ObjectIndex(), packed=True)
    letters = [
        DeadLetter((str(row),), f"{row // 2}.ndjson", "ObjectDiffers", "verify", "other bytes", 1, "")
        for row in range(3)
    ]
    await found.append(letters)
    assert (found.different, [one.rows for one in found.first]) == (3, [2, 1])
    assert found.first[0].to_json()["last_key"] == ["1"]
    said = verdict_lines(
        Verdict(complete=True, rows=9, skipped=1, skips=("a", "b"), different=3, differences=tuple(found.first))
    )
    assert said[1:] == [
        "  1 row skipped (a or b), of which no object is expected",
        "  different 0.ndjson (rows 0 to 1: 2 rows): other bytes",
        "  different 1.ndjson (row 2): other bytes",
    ]


def test_nothing_is_said_beside_the_error_when_nothing_was_read() -> None:
    assert verdict_lines(Verdict(error=AWAY)) == []
    assert verdict_lines(Verdict(signal=2)) == ["Interrupted before anything was compared."]
