"""The plan: whether a run continues another one, and what keeps it from doing so."""

from __future__ import annotations

from typing import Any

import pytest

from asyncup.plan import Plan, fingerprint_difference


@pytest.mark.parametrize(("after", "resumed"), [(None, False), (("7",), True), ((None, "7"), True)])
def test_a_run_resumes_when_there_is_a_watermark_to_continue_from(
    after: tuple[str | None, ...] | None, resumed: bool
) -> None:
    assert Plan("job", "t", ("id",), "null:", 10, after, 0, {}, None).resumed is resumed


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ({}, {}, []),
        ({"to": "s3://a/{id}", "key": ["id"]}, {"key": ["id"], "to": "s3://a/{id}"}, []),
        ({"where": None}, {"where": "live"}, ["where: was None, is 'live'"]),
        ({"key": ["a", "b"]}, {"key": ["b", "a"]}, ["key: was ['a', 'b'], is ['b', 'a']"]),
        ({"table": "t"}, {"query": "q"}, ["query: was None, is 'q'", "table: was 't', is None"]),
        # a field that an older version did not know changes nothing while it is not used
        ({}, {"transform": None}, []),
        ({"body": ""}, {"body": None}, ["body: was '', is None"]),
    ],
)
def test_every_field_that_differs_is_named_with_both_values(
    old: dict[str, Any], new: dict[str, Any], lines: list[str]
) -> None:
    assert fingerprint_difference(old, new) == lines
